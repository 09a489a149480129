package fakeredis

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
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

// A scene names its servers, and tells them what to reply.
func TestSet(t *testing.T) {
	s := NewSet(t)
	verbs := s.Verbs()
	play := func(line string) {
		t.Helper()
		verb, rest, _ := strings.Cut(line, " ")
		if got, want := verbs[verb](rest); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
	play("redis a hello 7.0")
	play("redis a at b")
	play("redis a slots 0..9 a|10..16383 b")
	play(`redis a $4\r\na\r\nb`)
	host, portA, _ := net.SplitHostPort(s.Server("a").Address)
	_, portB, _ := net.SplitHostPort(s.Server("b").Address)
	want := "%1\r\n$7\r\nversion\r\n$3\r\n7.0\r\n" + "*2\r\n$9\r\n" + host + "\r\n$5\r\n" + portB + "\r\n" +
		"*2\r\n*3\r\n:0\r\n:9\r\n*2\r\n$0\r\n\r\n:" + portA +
		"\r\n*3\r\n:10\r\n:16383\r\n*2\r\n$0\r\n\r\n:" + portB + "\r\n" + "$4\r\na\r\nb\r\n"
	nc, err := net.Dial("tcp", s.Addressed("@a"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, strings.Repeat("*1\r\n$4\r\nPING\r\n", 4))
	b := make([]byte, len(want))
	if _, err := io.ReadFull(nc, b); string(b) != want {
		t.Errorf("got %q, %v, want %q", b, err, want)
	}
	play("said a PING|PING|PING|PING")
	play("pushes a")
	b = make([]byte, len("*1\r\n$4\r\npush\r\n"))
	if _, err := io.ReadFull(nc, b); string(b) != "*1\r\n$4\r\npush\r\n" {
		t.Errorf("got %q, %v", b, err)
	}
	nc.Close()
	play("quiet a")
	play("redis a forgets")
	if n := len(s.Server("a").replies); n != 0 {
		t.Errorf("%d replies are left", n)
	}
	if got := s.Named(s.Server("a").Address + " " + s.Server("b").Address); got != "@a @b" {
		t.Errorf("got %s", got)
	}
}
