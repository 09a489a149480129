package poll

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quiet is a socket that the Go runtime waits for. Its reads and writes are hidden from the
// scheduler.
type quiet struct {
	net.Conn
	raw syscall.RawConn

	in      []byte // Read's
	got     int
	inErr   error
	receive func(fd uintptr) bool

	out    []byte // Write's, what is left
	outErr error
	send   func(fd uintptr) bool
}

// Quiet returns a connection that behaves like c, with less work for the scheduler (see receive). A
// publish or a reply of Redis that arrives while the program is idle would otherwise wake the
// runtime's monitor, which then looks for work 50 times in 4 ms. Unlike c, only one goroutine at a
// time may read it, and only one may write it. If c is not a socket, Quiet returns c.
func Quiet(c net.Conn) net.Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return c
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return c // c is closed already, and its methods say so
	}
	q := &quiet{Conn: c, raw: raw}
	q.receive, q.send = q.tryRead, q.tryWrite // one allocation, not one for every call
	return q
}

// File is that of a TCPConn and a UnixConn.
func (q *quiet) File() (*os.File, error) {
	return q.Conn.(interface{ File() (*os.File, error) }).File()
}

func (q *quiet) Read(b []byte) (int, error) {
	q.in, q.got, q.inErr = b, 0, nil
	err := q.raw.Read(q.receive)
	if q.in = nil; err == nil {
		err = q.inErr
	}
	return q.got, q.explain(err, "read", "recvfrom")
}

func (q *quiet) tryRead(fd uintptr) bool {
	q.got, q.inErr = receive(int(fd), q.in)
	return q.inErr != ErrAgain
}

func (q *quiet) Write(b []byte) (int, error) {
	q.out, q.outErr = b, nil
	err := q.raw.Write(q.send)
	n := len(b) - len(q.out)
	if q.out = nil; err == nil {
		err = q.outErr
	}
	return n, q.explain(err, "write", "sendto")
}

func (q *quiet) tryWrite(fd uintptr) bool {
	n, err := send(int(fd), q.out)
	q.out, q.outErr = q.out[n:], err
	return err != ErrAgain
}

// explain gives an error the form of the connection's own errors.
func (q *quiet) explain(err error, op, call string) error {
	switch e := err.(type) {
	case syscall.Errno:
		return &net.OpError{Op: op, Net: q.LocalAddr().Network(), Source: q.LocalAddr(),
			Addr: q.RemoteAddr(), Err: os.NewSyscallError(call, e)}
	case *net.OpError:
		// the connection is closed, or a deadline has passed: RawConn has made the error for this
		// call
		e.Op = op
	}
	return err
}

// The two calls below do not block, so they are hidden from the scheduler. The scheduler would take
// the processor away from a goroutine that is in a system call for 20 µs, and would keep a thread
// awake that looks for such calls.

// receive is recv(2). It returns ErrAgain, io.EOF or an errno.
func receive(fd int, b []byte) (int, error) {
	for {
		n, err := transfer(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, ErrAgain
		case err != 0:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// send calls send(2) until all is written, or until ErrAgain or an errno comes.
func send(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := transfer(unix.SYS_SENDTO, fd, b[done:], unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return done, ErrAgain
		case err != 0:
			return done, err
		}
		done += n
	}
	return done, nil
}

// transfer is recvfrom or sendto without an address.
func transfer(call uintptr, fd int, b []byte, flags uintptr) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall6(call, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return int(n), err
}
