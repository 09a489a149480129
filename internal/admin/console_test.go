package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/protocol"
)

// asJSON are the headers of the page's requests.
var asJSON = []string{"Content-Type", "application/json", "Sec-Fetch-Site", "same-origin"}

// body is a request of the page, with a right secret.
func body(rest string) string { return `{"app":"1","secret":"secret"` + rest + `}` }

// The console wants the secret of the app, and its own page as asker.
func TestConsoleAdmits(t *testing.T) {
	plain := asJSON[:2]
	for _, tt := range []struct {
		body    string
		headers []string
		want    string
	}{
		{body(""), plain, `200 {"channels":[],"total":0}` + "\n"},
		{body(""), asJSON, "200 "},
		{body(""), []string{"Content-Type", "application/json; charset=utf-8"}, "200 "},
		{`{"app":"1","secret":""}`, plain, `401 {"error":"this is not the secret of that app"}` +
			"\n"},
		{`{"app":"1","secret":"secre"}`, plain, "401 "},
		{`{"app":"1","secret":"secret "}`, plain, "401 "},
		{`{"app":"2","secret":"secret"}`, plain, "401 "},
		{`{"secret":"secret"}`, plain, "401 "},
		{`[]`, plain, `400 {"error":"the request is not the JSON that is expected"}` + "\n"},
		{`{`, plain, "400 "},
		{body(`,"data":"` + strings.Repeat("x", 1<<20) + `"`), plain, "400 "},
		{body(`,"data":"` + strings.Repeat("x", 1<<19) + `"`), plain, "200 "},
		{body(""), []string{"Content-Type", "text/plain"}, `403 {"error":"only the status page ` +
			`itself may ask this, in JSON"}` + "\n"},
		{body(""), append(plain[:2:2], "Sec-Fetch-Site", "cross-site"), "403 "},
		{body(""), append(plain[:2:2], "Sec-Fetch-Site", "same-site"), "403 "},
	} {
		for _, target := range []string{"/channels.json", "/publish", "/watch"} {
			s := &source{}
			w := ask(t, open(s, nil), "POST", target, tt.body, tt.headers...)
			admitted := strings.HasPrefix(tt.want, "200 ")
			if target == "/channels.json" && !strings.HasPrefix(got(w), tt.want) ||
				!admitted && w.Code != int(tt.want[0]-'0')*100+int(tt.want[2]-'0') {
				t.Errorf("%s %.80s %q: got %s, want %s", target, tt.body, tt.headers, got(w),
					tt.want)
			}
			if admitted == (len(s.refused) > 0) && w.Code != 400 && w.Code != 403 {
				t.Errorf("%s %.80s: refused %q", target, tt.body, s.refused)
			}
			if !admitted && len(s.app.sent) > 0 {
				t.Errorf("%s %.80s: the app is asked for %q", target, tt.body, s.app.sent)
			}
		}
	}
	s := &source{}
	ask(t, open(s, nil), "POST", "/publish", `{"app":"\u001b","secret":"x"}`, asJSON...)
	if want := `unauthorized: status page: wrong secret for app \u001b`; len(s.refused) != 1 ||
		s.refused[0] != want {
		t.Errorf("refused %q, want %s", s.refused, want)
	}
}

// Wrong secrets are looked at only so often. The right one still serves from elsewhere.
func TestGuessingTheSecret(t *testing.T) {
	s, now := &source{remote: "192.0.2.1:1"}, started
	h := open(s, func(o *Options) { o.Now = func() time.Time { return now } })
	try := func(from, secret string) *httptest.ResponseRecorder {
		s.remote = from
		return ask(t, h, "POST", "/channels.json", `{"app":"1","secret":"`+secret+`"}`, asJSON...)
	}
	for i := range 50 {
		w := try("192.0.2.1:"+strconv.Itoa(i), strconv.Itoa(i))
		want, again := `401 {"error":"this is not the secret of that app"}`+"\n", ""
		if i >= 10 {
			want, again = `429 {"error":"there were too many wrong secrets; try again in 6s"}`+"\n",
				"6"
		}
		if got(w) != want || w.Header().Get("Retry-After") != again {
			t.Fatalf("guess %d: got %s, Retry-After %q", i+1, got(w), w.Header().Get("Retry-After"))
		}
	}
	const want = "unauthorized: status page: too many wrong secrets; no more are looked at for now"
	if s.refused[49] != want {
		t.Errorf("refused %q", s.refused[49])
	}
	if w := try("192.0.2.1:1", "secret"); w.Code != 429 {
		t.Errorf("the right secret among the guesses: got %d, want 429 so that the guess tells "+
			"nothing", w.Code)
	}
	for range 20 {
		if w := try("192.0.2.2:1", "secret"); w.Code != 200 {
			t.Fatalf("the right secret from elsewhere: got %d", w.Code)
		}
	}
	now = now.Add(5800 * time.Millisecond)
	if w := try("192.0.2.1:1", "secret"); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("a little too early: got %s, Retry-After %q", got(w),
			w.Header().Get("Retry-After"))
	}
	now = now.Add(200 * time.Millisecond)
	if w := try("192.0.2.1:1", "secret"); w.Code != 200 {
		t.Errorf("the right secret, later: got %d", w.Code)
	}
}

func TestConsoleChannels(t *testing.T) {
	s := &source{app: app{channels: map[string]protocol.Stats{"b": {Subscriptions: 2},
		"presence-a": {Subscriptions: 3, Users: 1}}}}
	h := open(s, nil)
	w := ask(t, h, "POST", "/channels.json", body(`,"channel":"p"`), asJSON...)
	if want := `200 {"channels":[{"name":"b","subscriptions":2,"users":0},{"name":"presence-a",` +
		`"subscriptions":3,"users":1}],"total":2}` + "\n"; got(w) != want {
		t.Errorf("got %s, want %s", got(w), want)
	}
	if s.app.sent[0] != "channels p" {
		t.Errorf("asked %q", s.app.sent)
	}
	for i := range 600 {
		s.app.channels[fmt.Sprintf("c%03d", i)] = protocol.Stats{}
	}
	text := ask(t, h, "POST", "/channels.json", body(""), asJSON...).Body.String()
	if n := strings.Count(text, `"name"`); n != 500 || !strings.Contains(text, `"name":"c498"`) ||
		strings.Contains(text, "c499") || !strings.Contains(text, `"total":602}`) {
		t.Errorf("%d rows of 602 channels", n)
	}
}

func TestConsolePublishes(t *testing.T) {
	for _, tt := range []struct{ rest, want, sent string }{
		{`,"channel":"news","event":"e","data":"{\"n\":1}"`, `200 {"subscriptions":3}`,
			`e "{\"n\":1}" news [subscription_count] 1700000090`},
		{`,"channel":"a b","event":"e","data":"x"`, `400 {"error":"\" \" cannot stand in a ` +
			`channel name`, ""},
		{`,"channel":"news","event":"","data":"x"`, `400 {"error":"the event has no name"}`, ""},
		{`,"channel":"news","event":"` + strings.Repeat("e", 201) + `","data":"x"`,
			`400 {"error":"`, ""},
	} {
		s := &source{}
		w := ask(t, open(s, nil), "POST", "/publish", body(tt.rest), asJSON...)
		if sent := strings.Join(s.app.sent, ","); !strings.HasPrefix(got(w), tt.want) ||
			sent != tt.sent {
			t.Errorf("%.60s: got %s and sent %s, want %s", tt.rest, got(w), sent, tt.want)
		}
	}
	s := &source{app: app{bad: &protocol.Problem{Status: 503, Text: "Redis is away."}}}
	w := ask(t, open(s, nil), "POST", "/publish", body(`,"channel":"news","event":"e","data":"x"`),
		asJSON...)
	if want := `503 {"error":"Redis is away."}` + "\n"; got(w) != want {
		t.Errorf("got %s, want %s", got(w), want)
	}
}

// stream is a ResponseWriter whose answer is read line by line while it grows.
type stream struct {
	header  http.Header
	failing atomic.Bool
	written []byte      // since the last Flush
	flushed chan string // what each Flush has sent
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(int)     {}

func (s *stream) Write(b []byte) (int, error) {
	if s.failing.Load() {
		return 0, http.ErrHandlerTimeout
	}
	s.written = append(s.written, b...)
	return len(b), nil
}

func (s *stream) Flush() {
	s.flushed <- string(s.written)
	s.written = nil
}

// sent is the text that was flushed since the last call.
func (s *stream) sent() (all string) {
	for synctest.Wait(); len(s.flushed) > 0; {
		all += <-s.flushed
	}
	return all
}

func TestWatch(t *testing.T) {
	ends := map[string]func(cancel func(), ended chan struct{}, out *stream, watched chan Message){
		"the page goes": func(cancel func(), _ chan struct{}, _ *stream, _ chan Message) {
			cancel()
		},
		"the server stops": func(_ func(), ended chan struct{}, _ *stream, _ chan Message) {
			close(ended)
		},
		"the page is broke": func(_ func(), _ chan struct{}, out *stream, watched chan Message) {
			out.failing.Store(true)
			watched <- Message{}
		},
	}
	for name, end := range ends {
		synctest.Test(t, func(t *testing.T) {
			s, ended := &source{app: app{watched: make(chan Message)}}, make(chan struct{})
			h := open(s, func(o *Options) { o.Now, o.Ended = time.Now, ended })
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, "POST", "/watch",
				strings.NewReader(body(`,"channel":"news"`)))
			r.Header.Set("Content-Type", "application/json")
			out, done := &stream{header: http.Header{}, flushed: make(chan string, 10)},
				make(chan struct{})
			go func() { defer close(done); h.ServeHTTP(out, r) }()
			want := func(line string) {
				t.Helper()
				if sent := out.sent(); sent != line {
					t.Errorf("got %q, want %q", sent, line)
				}
			}
			want(`{"alive":true}` + "\n")
			if kind := out.header.Get("Content-Type"); kind != "application/x-ndjson" {
				t.Errorf("the answer is %s", kind)
			}
			s.app.watched <- Message{[]byte(`{"event":"e","data":"{\"n\":\n1}","channel":"news"}`),
				time.Unix(1, 234_000_000)}
			want(`{"at":"1970-01-01T00:00:01.234Z","event":"e","data":{"n": 1}}` + "\n")
			time.Sleep(15*time.Second - 1)
			want("")
			time.Sleep(time.Nanosecond)
			want(`{"alive":true}` + "\n")
			end(cancel, ended, out, s.app.watched)
			<-done
			if s.app.stopped != 1 {
				t.Errorf("%s: stopped %d times", name, s.app.stopped)
			}
			cancel()
		})
	}
}

// A page that is no longer admitted watches until the next alive line at most.
func TestWatchEndsWithAdmission(t *testing.T) {
	secret := func(*Pass) string { return body(`,"channel":"news"`) }
	session := func(life time.Duration) func(p *Pass) string { // the session ends then
		return func(p *Pass) string {
			s, _ := p.exchange(p.token, time.Now().Add(life-sessionLife))
			return `{"app":"1","channel":"news","session":"` + s + `"}`
		}
	}
	for name, tt := range map[string]struct {
		body   func(p *Pass) string
		change func(s *source)
		lines  int
	}{
		"nothing changes":        {secret, nil, 4},
		"the session goes on":    {session(time.Hour), nil, 4},
		"the session ends":       {session(20 * time.Second), nil, 2},
		"the app goes":           {secret, func(s *source) { s.gone.Store(true) }, 2},
		"the secret changes":     {secret, func(s *source) { s.app.changed.Store(true) }, 2},
		"the session's app goes": {session(time.Hour), func(s *source) { s.gone.Store(true) }, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, ended := &source{app: app{watched: make(chan Message)}}, make(chan struct{})
			pass := newPass("1", time.Now())
			h := open(s, func(o *Options) { o.Now, o.Ended, o.Pass = time.Now, ended, pass })
			r := httptest.NewRequest("POST", "/watch", strings.NewReader(tt.body(pass)))
			r.Header.Set("Content-Type", "application/json")
			out, done := &stream{header: http.Header{}, flushed: make(chan string, 10)},
				make(chan struct{})
			go func() { defer close(done); h.ServeHTTP(out, r) }()
			time.Sleep(16 * time.Second)
			sent := out.sent()
			if tt.change != nil {
				tt.change(s)
			}
			time.Sleep(30 * time.Second)
			if sent += out.sent(); sent != strings.Repeat(`{"alive":true}`+"\n", tt.lines) {
				t.Errorf("%s: got %q, want %d lines", name, sent, tt.lines)
			}
			if want := 2 / tt.lines; s.app.stopped != want {
				t.Errorf("%s: stopped %d times, want %d", name, s.app.stopped, want)
			}
			close(ended)
			<-done
		})
	}
}

func TestWatchRefuses(t *testing.T) {
	h := open(&source{}, nil)
	for channel, want := range map[string]string{"news": `503 {"error":"too many pages are ` +
		`watching"}` + "\n", "a b": `400 {"error":"\" \" cannot stand in a channel name`} {
		if w := ask(t, h, "POST", "/watch", body(`,"channel":"`+channel+`"`),
			asJSON...); !strings.HasPrefix(got(w), want) {
			t.Errorf("%s: got %s, want %s", channel, got(w), want)
		}
	}
}

func TestMessageLine(t *testing.T) {
	for message, want := range map[string]string{
		`{"event":"e","data":"x","channel":"c"}`:               `"event":"e","data":"x"}`,
		`{"event":"e","data":"1","channel":"c"}`:               `"event":"e","data":1}`,
		`{"event":"e","data":"{\"a\":\"\\n\"}","channel":"c"}`: `"event":"e","data":{"a":"\n"}}`,
		`{"event":"e\u2028\"","data":{"a":[]},"channel":"c"}`:  `"data":{"a":[]}}`,
		`{"event":"pusher:x","channel":"c"}`:                   `"event":"pusher:x","data":null}`,
		`no event`:                                             `{"alive":true}`,
	} {
		if line := string(messageLine(Message{Event: []byte(message)})); !strings.HasSuffix(line,
			want+"\n") {
			t.Errorf("%s: got %s, want %s", message, line, want)
		}
	}
}

// FuzzMessageLine: every message is one line of JSON.
func FuzzMessageLine(f *testing.F) {
	for _, message := range []string{`{"event":"e","data":"x"}`, `{"event":"e","data":"[\n1]"}`,
		`{"event":"e\n","data":{"a":"\u000a"}}`, `x`} {
		f.Add([]byte(message))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		line := messageLine(Message{Event: message})
		if bytes.Count(line, []byte("\n")) != 1 || !json.Valid(line) {
			t.Errorf("%q: got %q", message, line)
		}
	})
}

// FuzzConsole: whatever comes, the answer is JSON.
func FuzzConsole(f *testing.F) {
	f.Add(body(`,"channel":"news","event":"e","data":"x"`))
	f.Add(`{"app":1}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, target := range []string{"/channels.json", "/publish"} {
			if w := ask(t, open(&source{}, nil), "POST", target, body,
				asJSON...); !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %q: got %s", target, body, got(w))
			}
		}
	})
}
