package fakeredis

import (
	"bufio"
	"fmt"
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

// TestSay has a connection that listens, and one that comes when there are other replies.
func TestSay(t *testing.T) {
	s := Start(t)
	s.Reply("+OK\r\n")
	dial := func() (nc net.Conn, line func() string) {
		nc, err := net.Dial("tcp", s.Address)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(nc)
		return nc, func() string {
			line, err := r.ReadString('\n')
			return fmt.Sprint(line, err)
		}
	}
	first, heard := dial()
	io.WriteString(first, "*1\r\n$1\r\na\r\n")
	if got, want := heard(), "+OK\r\n<nil>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Say("+hello\r\n")
	if got, want := heard(), "+hello\r\n<nil>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Forget()
	s.Reply("+NEW\r\n")
	second, answered := dial()
	io.WriteString(second, "*1\r\n$1\r\nb\r\n")
	if got, want := answered(), "+NEW\r\n<nil>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !s.Until(func(commands []string, open int) bool { return len(commands) == 2 && open == 2 }) {
		t.Errorf("got %q", s.Commands())
	}
	first.Close()
	second.Close()
	if !s.Until(func(_ []string, open int) bool { return open == 0 }) {
		t.Error("a connection that is closed counts as open")
	}
}
