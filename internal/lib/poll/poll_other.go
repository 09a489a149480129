//go:build !linux

package poll

import (
	"net"
	"time"
)

// Quiet returns c. Only on Linux does it save work.
func Quiet(c net.Conn) net.Conn { return c }

// kernel does not exist here: New returns a poller that has only streams.
type kernel struct{}

const hasKernel = false

func newKernel() (*kernel, error) { return nil, nil }

func (*kernel) add(net.Conn, uint64) (int, bool,
	error) {
	panic("internal error: no kernel poller")
}
func (*kernel) wait([]Event, time.Duration) (int,
	error) {
	panic("internal error: no kernel poller")
}
func (*kernel) wake()                              { panic("internal error: no kernel poller") }
func (*kernel) close() error                       { panic("internal error: no kernel poller") }
func (*kernel) read(int, []byte) (int, error)      { panic("internal error: no kernel poller") }
func (*kernel) write(int, []byte) (int, error)     { panic("internal error: no kernel poller") }
func (*kernel) writeEach([]int32, []byte, []int32) { panic("internal error: no kernel poller") }
func (*kernel) modify(fd int, token uint64, out bool) error {
	panic("internal error: no kernel poller")
}
func (*kernel) watch(int, uint64, bool, Interest) error {
	panic("internal error: no kernel poller")
}
func (*kernel) closeWrite(fd int) error      { panic("internal error: no kernel poller") }
func (*kernel) closeSocket(fd int) error     { panic("internal error: no kernel poller") }
func (*kernel) remoteAddr(fd int) string     { panic("internal error: no kernel poller") }
func (*kernel) bytes(fd int) (in, out int64) { panic("internal error: no kernel poller") }
