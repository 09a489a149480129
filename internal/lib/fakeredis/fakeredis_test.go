package fakeredis

import (
	"io"
	"net"
	"slices"
	"testing"
)

func TestServer(t *testing.T) {
	s := Start(t)
	s.Reply("+OK\r\n")
	s.Reply("$1\r\nx\r\n")
	for range 2 { // connections
		nc, err := net.Dial("tcp", s.Address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nMORE\r\n")
		b, err := io.ReadAll(nc)
		if got := string(b); got != "+OK\r\n$1\r\nx\r\n" {
			t.Errorf("got %q, %v", got, err)
		}
		nc.Close()
	}
	if got := s.Commands(); !slices.Equal(got, []string{"PING", "GET a", "PING", "GET a"}) {
		t.Errorf("got %q", got)
	}
}
