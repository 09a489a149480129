// Package fakesockets makes, for tests, pairs of sockets of the system, and TLS over them that
// counts what it is given.
package fakesockets

import (
	"cmp"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"reverb/internal/lib/poll"
	"reverb/internal/lib/selfsigned"
)

// patience bounds how long a peer waits. Larger: a test that hangs is told later. Smaller: a busy
// machine fails it.
const patience = 20 * time.Second

// sendBuffer is the buffer of the system for what a socket sends. Without a size it grows.
const sendBuffer = 1 << 16

// Pairs makes n pairs of sockets over TCP. made is called with both ends of each. The peers are
// closed after the test.
func Pairs(t testing.TB, n int, made func(i int, ours, peer net.Conn)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for i := range n {
		peer, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		if err := peer.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		ours, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := ours.(*net.TCPConn).SetWriteBuffer(sendBuffer); err != nil {
			t.Fatal(err)
		}
		made(i, ours, peer)
	}
}

// Layer is TLS that counts what it is given to write.
type Layer struct {
	*tls.Conn
	Writes, Bytes int
}

func (l *Layer) Write(b []byte) (int, error) {
	l.Writes++
	l.Bytes += len(b)
	return l.Conn.Write(b)
}

// based is what a layer stands on.
type based struct{ poll.Base }

func (b *based) PollBase() *poll.Base { return &b.Base }

// TLS shakes hands over a pair of sockets. It returns the layer of ours.
func TLS(t testing.TB, ours, peer net.Conn) *Layer {
	t.Helper()
	now := time.Now()
	made := selfsigned.Make(t, "ws.test", now.Add(-time.Hour), now.Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(made.Cert), []byte(made.Key))
	if err != nil {
		t.Fatal(err)
	}
	server := tls.Server(&based{poll.Base{Conn: ours}},
		&tls.Config{Certificates: []tls.Certificate{pair}})
	client := make(chan error, 1)
	go func() { client <- tls.Client(peer, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	if err := cmp.Or(server.Handshake(), <-client); err != nil {
		t.Fatal(err)
	}
	return &Layer{Conn: server}
}
