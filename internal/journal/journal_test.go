package journal

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// open is a Journal at a level, and what it writes.
func open(level slog.Level) (*Journal, *strings.Builder) {
	b := new(strings.Builder)
	plain := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: level, ReplaceAttr: plain}))
	j := New(log, true)
	return &j, b
}

func TestLines(t *testing.T) {
	j, b := open(slog.LevelDebug)
	all := About{
		App:     "1",
		Socket:  "1.2",
		Remote:  "192.0.2.1:3",
		Channel: "private-a",
		Origin:  "https://a.example",
		Code:    4009,
	}
	r := httptest.NewRequest("POST", "/apps/1/events?auth_signature=secret", nil)
	for want, write := range map[string]func(){
		"level=INFO msg=\"refused: word\" app=1 socket=1.2 remote=192.0.2.1:3 channel=private-a " +
			"origin=https://a.example code=4009 why=because\n": func() {
			j.Refused("word", all, "because")
		},
		"level=INFO msg=\"refused: word\" why=a?b\n": func() {
			j.Refused("word", About{}, "a\x1bb")
		},
		"level=INFO msg=\"refused: word\" origin=a\\u001bb why=\"\"\n": func() {
			j.Refused("word", About{Origin: "a\x1bb"}, "")
		},
		"level=DEBUG msg=connected app=1 library=\"js 8.4.0\"\n": func() {
			j.Connected(About{App: "1"}, "js 8.4.0")
		},
		"level=DEBUG msg=connected app=1\n": func() {
			j.Connected(About{App: "1"}, "")
		},
		"level=DEBUG msg=disconnected app=1 code=4201 reason=no_pong age=1s in=7 out=8\n": func() {
			j.Disconnected(About{App: "1", Code: 4201}, "no_pong", time.Second, 7, 8)
		},
		"level=DEBUG msg=disconnected reason=peer_gone age=0s\n": func() {
			j.Disconnected(About{}, "peer_gone", 0, -1, -1)
		},
		"level=DEBUG msg=published channel=a event=e bytes=9\n": func() {
			j.Published(About{Channel: "a"}, []byte("e"), 9)
		},
		"level=INFO msg=request method=POST path=/apps/1/events app=1 remote=x code=200 bytes=2 " +
			"took=3ms\n": func() {
			j.Request(r, About{App: "1", Remote: "x", Code: 200}, 2, 3*time.Millisecond)
		},
	} {
		b.Reset()
		if write(); b.String() != want {
			t.Errorf("got  %swant %s", b.String(), want)
		}
	}
	if !j.Detailed() {
		t.Error("nobody reads the details")
	}
}

func TestSilence(t *testing.T) {
	j, b := open(slog.LevelInfo)
	j.Connected(About{}, "")
	j.Published(About{}, nil, 0)
	j.Disconnected(About{}, "", 0, 0, 0)
	if j.Detailed() || b.Len() > 0 {
		t.Errorf("got %q", b.String())
	}
	var none Journal
	none.Refused("", About{}, "")
	none.Request(httptest.NewRequest("GET", "/", nil), About{}, 0, 0)
	if none.Detailed() || none.Requests() || !j.Requests() {
		t.Error("nobody reads the details of the zero Journal")
	}
}

func TestLibrary(t *testing.T) {
	for query, want := range map[string]string{
		"": "", "protocol=7&client=js&version=8.4.0&flash=false": "js 8.4.0", "version=1": "1",
		"client=%1b":                        "\x1b",
		"client=" + strings.Repeat("x", 99): strings.Repeat("x", maxLibraryBytes),
	} {
		if got := Library(httptest.NewRequest("GET", "/app/key?"+query, nil)); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

func TestTracer(t *testing.T) {
	var b strings.Builder
	trace := Tracer(&b)
	trace("Message Received", "1.2", "a\x1bb")
	trace("Connection Pinged", strings.Repeat("x", 60), "")
	want := "  Message Received " + strings.Repeat(".", 41) + " 1.2\n    a?b\n" +
		"  Connection Pinged ... " + strings.Repeat("x", 60) + "\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
