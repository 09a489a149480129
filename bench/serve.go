//go:build linux

package main

// Servers to compare with: `bench serve NAME` listens on a free port of 127.0.0.1, prints the port
// on standard error, and serves until it is killed.

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// rivals are the servers by name.
var rivals = map[string]func(net.Listener) error{
	"floor":     serveFloor,
	"gorilla":   serveGorilla,
	"coder":     serveCoder,
	"gws":       serveGWS,
	"nbio":      serveNBIO,
	"http-bare": serveBare,
}

func runServe(name string) error {
	serve, ok := rivals[name]
	if !ok {
		return fmt.Errorf("serve %s: no such server", name)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	return serve(ln)
}

// floor does only what every server must do: it takes a publish with one read, writes the same
// bytes to each socket with one system call, and answers with one write. No HTTP library, no JSON,
// no epoll, no queue. Its connections are opened one at a time.
type floor struct {
	mu      sync.Mutex
	members []int
	frame   []byte
}

func serveFloor(ln net.Listener) error {
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer file.Close() // also keeps it from being collected
	listener := int(file.Fd())
	if err := unix.SetNonblock(listener, false); err != nil {
		return err
	}
	runtime.LockOSThread()
	f := &floor{}
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		b := make([]byte, 4096)
		n, err := readUntil(fd, b, []byte("\r\n\r\n"))
		switch {
		case err != nil:
			unix.Close(fd)
		case bytes.HasPrefix(b, []byte("POST ")):
			go f.publisher(fd, b, n)
		default:
			if err := f.adopt(fd, b); err != nil {
				unix.Close(fd)
			}
		}
	}
}

// readUntil reads until mark has been read; n is how many bytes.
func readUntil(fd int, b, mark []byte) (n int, err error) {
	for n < len(b) {
		got, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if got == 0 {
			return n, syscall.ECONNRESET
		}
		n += got
		if bytes.Contains(b[:n], mark) {
			return n, nil
		}
	}
	return n, fmt.Errorf("no %q within %d bytes", mark, len(b))
}

// adopt shakes hands and waits for the subscription.
func (f *floor) adopt(fd int, b []byte) error {
	answer := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey("dGhlIHNhbXBsZSBub25jZQ==") + "\r\n\r\n")
	answer = appendFrame(answer, opText, established("1.1"))
	if err := writeAll(fd, answer); err != nil {
		return err
	}
	for n := 0; ; {
		got, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if got == 0 {
			return syscall.ECONNRESET
		}
		n += got
		fr, size, err := parseFrame(b[:n])
		if err != nil {
			return err
		}
		if size > 0 {
			_, after, _ := bytes.Cut(fr.payload, []byte(`"channel":"`))
			channel, _, _ := bytes.Cut(after, []byte(`"`))
			if err := writeAll(fd, appendFrame(nil, opText,
				subscriptionSucceeded(string(channel)))); err != nil {
				return err
			}
			break
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	f.mu.Lock()
	f.members = append(f.members, fd)
	f.mu.Unlock()
	return nil
}

// publisher serves one connection that publishes; n bytes of b have been read.
func (f *floor) publisher(fd int, b []byte, n int) {
	defer unix.Close(fd)
	runtime.LockOSThread()
	for {
		end := bytes.Index(b[:n], []byte("\r\n\r\n"))
		if end >= 0 {
			size := contentLength(b[:end])
			if size >= 0 && n >= end+4+size {
				f.broadcast(b[end+4 : end+4+size])
				if writeAll(fd, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) != nil {
					return
				}
				n = copy(b, b[end+4+size:n])
				continue
			}
		}
		got, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return
		}
		n += got
	}
}

// broadcast sends the message as other servers do: the published body, with the name under "event".
func (f *floor) broadcast(body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, rest, _ := bytes.Cut(body, []byte(`"name"`))
	size := len(`{"event"`) + len(rest)
	f.frame = append(appendHeader(f.frame[:0], opText, 0, size), `{"event"`...)
	f.frame = append(f.frame, rest...)
	for _, fd := range f.members {
		f.write(fd, f.frame)
	}
}

// write is one send(2), and a wait if the socket is full: the floor has no queues.
func (f *floor) write(fd int, b []byte) {
	for len(b) > 0 {
		n, err := send(fd, b)
		switch err {
		case 0:
			b = b[n:]
		case syscall.EAGAIN:
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}},
				1000); err != nil && err != unix.EINTR {
				return
			}
		default:
			return // the peer is gone; the client counts what it misses
		}
	}
}
