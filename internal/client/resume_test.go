package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// listener writes down what it is told.
type listener struct {
	told []string
	fail error // of Heard, for an event named last
}

func (l *listener) Heard(e Event) error {
	if e.Name == "last" {
		return l.fail
	}
	l.told = append(l.told, e.Channel+" "+e.Name)
	return nil
}

func (l *listener) Cut(why error) { l.told = append(l.told, "cut: "+why.Error()) }

func (l *listener) Missed(channel string, kept bool) {
	l.told = append(l.told, fmt.Sprint("missed ", channel, " ", kept))
}

func connected(socket string) string {
	return `{"event":"pusher:connection_established","data":"{\"socket_id\":\"` + socket + `\"}"}`
}

// subscribed is an answer with a value of resume; empty: without it.
func subscribed(channel, resume string) string {
	if resume != "" {
		resume = `,"resume":` + resume
	}
	return `{"event":"` + Subscribed + `","data":"{}","channel":"` + channel + `"` + resume + `}`
}

func sent(channel, name, offset string) string {
	return `{"event":"` + name + `","data":"1","channel":"` + channel + `","offset":"` + offset +
		`"}`
}

// resumed is what Resume does on these connections, one after the other. An empty one cannot be
// made. asked are the values of resume in the subscriptions to a, one for each.
func resumed(t *testing.T, l *listener, user string, connections ...*script) (asked []string,
	err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, func(nc net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(nc, switching)
			io.Copy(io.Discard, r)
		})
		n, dial := 0, s.Dial
		s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if n++; connections[n-1] == nil {
				return nil, io.ErrClosedPipe
			}
			return dial(ctx, network, address)
		}
		s.Frames = func(net.Conn, *bufio.Reader) Conn { return connections[n-1] }
		s.App.User = user
		err = s.Resume(t.Context(), []string{"a", "b"}, l)
		if n != len(connections) {
			t.Errorf("it has connected %d times, want %d", n, len(connections))
		}
	})
	for _, c := range connections {
		if c == nil {
			continue
		}
		for _, m := range c.sent {
			if strings.Contains(m, `"channel":"a"`) {
				_, m, _ = strings.Cut(m, `"resume":`)
				asked = append(asked, strings.TrimSuffix(m, "}}"))
			}
		}
	}
	return asked, err
}

// It asks from behind the last event that was handled, says what it was called, and tells what is
// missing.
func TestResume(t *testing.T) {
	l := &listener{}
	bye := &Closed{4009, "bye"}
	asked, err := resumed(t, l, "",
		&script{end: io.EOF, come: []string{connected("1.1"),
			subscribed("a", `{"epoch":"x","offset":"0","recovered":false}`), subscribed("b", ""),
			sent("a", "e", "1"), `{"event":"e","data":"1","channel":"a"}`}},
		nil,
		&script{end: &Closed{4200, "move"}, come: []string{connected("2.2"),
			subscribed("a", `{"epoch":"x","offset":"7","recovered":true}`), subscribed("b", ""),
			sent("a", "e", "2"), sent("b", "e", "3"), subscribed("a", "")}},
		&script{come: []string{connected("3.3"), sent("a", "early", "9"),
			`{"event":"pusher:error","data":{"code":4100,"message":"full"}}`}},
		&script{end: io.EOF, come: []string{connected("4.4"),
			subscribed("a", `{"epoch":"y","offset":"5","recovered":false}`)}},
		&script{end: io.EOF, come: []string{connected("5.5"), subscribed("a", "")}},
		&script{end: bye, come: []string{connected("6.6")}})
	if !errors.Is(err, bye) {
		t.Errorf("ends with %v", err)
	}
	want := []string{
		"a " + Subscribed, "b " + Subscribed, "missed b false", "a e", "a e", "cut: EOF",
		"a " + Subscribed, "b " + Subscribed, "a e", "b e", "a " + Subscribed,
		"cut: the server closes the connection: 4200 move",
		"a early", "cut: the server answers 4100 full",
		"a " + Subscribed, "missed a true", "cut: EOF",
		"a " + Subscribed, "missed a false", "cut: EOF",
	}
	if !slices.Equal(l.told, want) {
		t.Errorf("got  %q\nwant %q", l.told, want)
	}
	questions := []string{
		`{"sockets":[]}`,
		`{"epoch":"x","offset":"1","sockets":["1.1"]}`,
		`{"epoch":"x","offset":"2","sockets":["1.1","2.2"]}`,
		`{"epoch":"x","offset":"2","sockets":["1.1","2.2","3.3"]}`,
		`{"epoch":"y","offset":"5","sockets":["1.1","2.2","3.3","4.4"]}`,
		`{"sockets":["1.1","2.2","3.3","4.4","5.5"]}`,
	}
	if !slices.Equal(asked, questions) {
		t.Errorf("asked %q\nwant  %q", asked, questions)
	}
}

// The first connection must succeed. What cannot be printed ends it. Nothing is kept for a user.
func TestResumeEnds(t *testing.T) {
	full := errors.New("no space left on device")
	l := &listener{fail: full}
	for _, tt := range []struct {
		c    *script
		want string
	}{
		{nil, "nothing answers: io: read/write on closed pipe"},
		{&script{end: io.EOF}, "EOF"},
		{&script{come: []string{connected("1.1"), sent("a", "last", "1")}}, full.Error()},
		{&script{come: []string{connected("1.1"), `[]`}}, "a message that is none: "},
		{&script{come: []string{connected("1.1"), `{"event":"pusher:error","data":"no"}`}},
			"the server answers no"},
		{&script{end: &Closed{4009, "no"}, come: []string{connected("1.1"),
			`{"event":"pusher:signin_success","data":"{}"}`}},
			"the server closes the connection: 4009 no"},
	} {
		_, err := resumed(t, l, "7", tt.c)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	if want := []string{" " + SignedIn, "missed #server-to-user-7 false"}; !slices.Equal(l.told,
		want) {
		t.Errorf("got %q, want %q", l.told, want)
	}
}

// It says no more socket IDs than the server takes.
func TestResumeSockets(t *testing.T) {
	p := newPositions(nil)
	for i := range 12 {
		p.connected(fmt.Sprintf("%d.1", i))
	}
	want := `,"resume":{"sockets":["3.1","4.1","5.1","6.1","7.1","8.1","9.1","10.1"]}`
	if got := string(p.appendResume(nil, "a")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
