package fakeredis

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// TestNamed has two servers, one of which tells where the other is.
func TestNamed(t *testing.T) {
	n := NewNamed(t)
	verbs := n.Verbs()
	do := func(verb, rest string) {
		t.Helper()
		if got, want := verbs[verb](rest); got != want {
			t.Errorf("%s %s: got %q, want %q", verb, rest, got, want)
		}
	}
	do("redis", `a $1\r\nx`)
	do("redis", "a hello 7.0")
	do("redis", "a at b")
	do("redis", "a slots b")
	do("redis", "a slots 0..9 b|10..16383 b")
	nc, err := net.Dial("tcp", n.Addresses("@a"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, strings.Repeat("*1\r\n$4\r\nPING\r\n", 5))
	do("said", "a PING|PING|PING|PING|PING")
	do("pushes", "a")
	host, port, _ := net.SplitHostPort(n.Addresses("@b"))
	want := strings.Split("$1 x %1 $7 version $3 7.0 *2 $9 "+host+" $5 "+port+
		" *1 *3 :0 :16383 *2 $0  :"+port+
		" *2 *3 :0 :9 *2 $0  :"+port+" *3 :10 :16383 *2 $0  :"+port+" *1 $4 push", " ")
	r := bufio.NewReader(nc)
	for i, want := range want {
		if got, err := r.ReadString('\n'); got != want+"\r\n" || err != nil {
			t.Errorf("line %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	nc.Close()
	do("quiet", "a")
	do("redis", "a forgets")
	if nc, err = net.Dial("tcp", n.Addresses("@a")); err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "*1\r\n$4\r\nPING\r\n")
	if b, err := io.ReadAll(nc); len(b) > 0 || err != nil {
		t.Errorf("got %q, %v, of a server that has forgotten its replies", b, err)
	}
	nc.Close()
	if got := n.Names("x " + n.Addresses("@b") + " y"); got != "x @b y" {
		t.Errorf("got %q", got)
	}
}
