package calls

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"reverb/internal/client"
	"reverb/internal/commands"
	"reverb/internal/config"
	"reverb/internal/lib/handshake"
	"reverb/internal/operator"
)

// app is an app in the environment.
func app() []string {
	return []string{"REVERB_ENV_FILE=/dev/null", "REVERB_APP_ID=1", "REVERB_APP_KEY=k",
		"REVERB_APP_SECRET=s"}
}

// script is a client's end of a WebSocket: messages, and then the end. Before the end of the last
// it calls done.
type script struct {
	come []string
	done func()
}

func (s *script) ReadMessage() ([]byte, error) {
	if len(s.come) == 0 {
		s.done()
		return nil, io.EOF
	}
	m := s.come[0]
	s.come = s.come[1:]
	return []byte(m), nil
}

func (s *script) WriteMessage([]byte) error { return nil }

// server is what the commands call.
type server struct {
	*httptest.Server
	asked  string // the last request, and its body
	status int
}

func newServer(t *testing.T) *server {
	s := &server{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // an error shows as another body
		s.asked = r.Method + " " + r.URL.Path + " " + string(body)
		if r.Header.Get("Upgrade") != "" {
			nc, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			nc.Write(handshake.Append(nil, r.Header.Get("Sec-WebSocket-Key"), "", ""))
			io.Copy(io.Discard, nc) // until the client ends
			return
		}
		w.WriteHeader(s.status)
		io.WriteString(w, "fine\x1b")
	}))
	t.Cleanup(s.Close)
	return s
}

// env is an app on s.
func (s *server) env() []string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return append(app(), "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT="+port)
}

// run runs a command line, and returns its code and what it printed.
func run(t *testing.T, edit func(c *Caller), env []string, args ...string) (code int, out,
	errs string) {
	t.Helper()
	line, err := commands.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var o, e strings.Builder
	c := &Caller{Config: config.Load(env, line.Flags, config.Files{}), Line: &line,
		In: strings.NewReader(`{"n":1}`), Out: &o, Err: &e,
		CacheDir: func() (string, error) { return "", errors.New("there is no cache") }}
	if edit != nil {
		edit(c)
	}
	code = c.Run(t.Context())
	return code, o.String(), e.String()
}

func TestCommandsAreInTheTable(t *testing.T) {
	known := map[string]bool{}
	for _, c := range commands.Table() {
		known[c.Name] = true
	}
	for _, name := range Commands() {
		if !known[name] {
			t.Errorf("%s is no command", name)
		}
	}
}

func TestHealth(t *testing.T) {
	s := newServer(t)
	code, out, errs := run(t, nil, s.env(), "health")
	if code != exitOK || !strings.HasPrefix(out, "fine") || strings.Contains(out, "\x1b") ||
		s.asked != "GET /up " {
		t.Errorf("got %d, %q, %q; asked %s", code, out, errs, s.asked)
	}
	s.status = http.StatusServiceUnavailable
	code, _, errs = run(t, nil, s.env(), "health")
	if code != exitFail || !strings.Contains(errs, "reverb: not well: ") ||
		strings.Contains(errs, "\x1b") {
		t.Errorf("got %d, %q", code, errs)
	}
	s.Close()
	code, _, errs = run(t, nil, s.env(), "health")
	if code != exitFail || !strings.Contains(errs, "is the server running") {
		t.Errorf("got %d, %q", code, errs)
	}
}

func TestTrigger(t *testing.T) {
	s := newServer(t)
	code, out, errs := run(t, nil, s.env(), "trigger", "news", "e", "-", "--channel", "more",
		"--except", "1.2")
	want := `POST /apps/1/events {"name":"e","data":"{\"n\":1}","channels":["news","more"],` +
		`"socket_id":"1.2"}`
	if code != exitOK || out != "sent e to news, more\n" || s.asked != want {
		t.Errorf("got %d, %q, %q; asked %s", code, out, errs, s.asked)
	}
	s.status = http.StatusForbidden
	if code, _, errs = run(t, nil, s.env(), "trigger", "news", "e", "1"); code != exitFail {
		t.Errorf("got %d, %q", code, errs)
	}
	if code, _, _ = run(t, nil, s.env(), "trigger", "news", "e", "{"); code != exitUsage {
		t.Errorf("no JSON: got %d", code)
	}
	for _, args := range [][]string{{"trigger", "news", "e", "1"}, {"listen", "news"}} {
		code, _, errs = run(t, nil, []string{"REVERB_ENV_FILE=/dev/null"}, args...)
		if code != exitUsage || !strings.Contains(errs, "there is no app; set REVERB_APP_ID") {
			t.Errorf("%s without an app: got %d, %q", args[0], code, errs)
		}
	}
}

// A configuration with a problem is told, and nothing is asked.
func TestProblems(t *testing.T) {
	s := newServer(t)
	env := append(s.env(), "REVERB_MAX_REQUEST_SIZE=none")
	for _, args := range [][]string{{"health"}, {"env"}, {"listen", "news"},
		{"trigger", "news", "e", "1"}} {
		code, out, errs := run(t, nil, env, args...)
		if code != exitUsage || out != "" || !strings.Contains(errs, "REVERB_MAX_REQUEST_SIZE") {
			t.Errorf("%s: got %d, %q, %q", args[0], code, out, errs)
		}
	}
	code, _, errs := run(t, nil, app(), "health", "--dev")
	if code != exitUsage || !strings.Contains(errs, "there is no cache") || s.asked != "" {
		t.Errorf("--dev: got %d, %q; asked %q", code, errs, s.asked)
	}
}

func TestEnv(t *testing.T) {
	code, out, errs := run(t, nil, app(), "env")
	if code != exitOK || !strings.Contains(out, "REVERB_APP_SECRET=s\n") || errs != "" {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	code, out, errs = run(t, nil, app(), "env", "--app", "2")
	if code != exitFail || out != "" || errs != "reverb: there is no app \"2\"\n" {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
}

func TestListen(t *testing.T) {
	s := newServer(t)
	const established = `{"event":"pusher:connection_established",` +
		`"data":"{\"socket_id\":\"1.2\",\"activity_timeout\":30}"}`
	said := []string{established, `{"event":"e","data":"{\"n\":1}","channel":"news"}`}
	frames := func(done func()) func(c *Caller) {
		return func(c *Caller) {
			c.Frames = func(net.Conn, *bufio.Reader) client.Conn { return &script{said, done} }
		}
	}
	code, out, errs := run(t, frames(func() {}), s.env(), "listen", "news")
	if code != exitFail || out != "news e {\"n\":1}\n" || !strings.Contains(errs, "EOF") {
		t.Errorf("got %d, %q, %q", code, out, errs)
	}
	code, _, errs = run(t, nil, s.env(), "listen", "news", "--user", "")
	if code != exitUsage || !strings.Contains(errs, "--user is empty") {
		t.Errorf("got %d, %q", code, errs)
	}
	ctx, stop := context.WithCancel(t.Context())
	line, err := commands.Parse([]string{"listen", "news"})
	if err != nil {
		t.Fatal(err)
	}
	c := &Caller{Config: config.Load(s.env(), nil, config.Files{}), Line: &line, Out: io.Discard,
		Err: io.Discard}
	frames(stop)(c)
	if code := c.Run(ctx); code != exitOK {
		t.Errorf("interrupted: got %d", code)
	}
}

// With --resume it says that the server keeps nothing, and that it connects again.
func TestListenResumes(t *testing.T) {
	s := newServer(t)
	ctx, stop := context.WithCancel(t.Context())
	line, err := commands.Parse([]string{"listen", "--resume", "news"})
	if err != nil {
		t.Fatal(err)
	}
	said := []string{
		`{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\"}"}`,
		`{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"news"}`}
	connections := 0
	var out, errs strings.Builder
	c := &Caller{Config: config.Load(s.env(), nil, config.Files{}), Line: &line, Out: &out,
		Err: &errs, Frames: func(net.Conn, *bufio.Reader) client.Conn {
			connections++
			return &script{said, func() {
				if connections == 2 {
					stop()
				}
			}}
		}}
	code := c.Run(ctx)
	want := "reverb: news: the server keeps nothing of this channel for those who come back " +
		"(REVERB_RESUME_SECONDS); a cut loses events\nreverb: EOF; connecting again\n"
	if code != exitOK || errs.String() != want ||
		out.String() != strings.Repeat("listening on news\n", 2) {
		t.Errorf("got %d, %q, %q, want %q", code, out.String(), errs.String(), want)
	}
	code, _, told := run(t, nil, s.env(), "listen", "--resume", "presence-x", "news")
	if code != exitUsage || !strings.Contains(told, "with --join it joins presence-x") {
		t.Errorf("got %d, %q", code, told)
	}
}

// A presence channel is watched over the control socket. If that fails, the text says what to do,
// and the other channels are given up.
func TestListenWithoutJoining(t *testing.T) {
	s := newServer(t)
	code, _, errs := run(t, func(c *Caller) {
		c.Frames = func(nc net.Conn, r *bufio.Reader) client.Conn { return &waiting{nc} }
		c.Tool = &operator.Tool{Err: io.Discard, Dial: func(string, any) (net.Conn, error) {
			return nil, errors.New("nobody there")
		}}
	}, s.env(), "listen", "presence-x", "news")
	want := "reverb: presence-x cannot be watched without joining it: nobody there; " +
		"reverb listen --join joins it, as a member that others see\n"
	if code != exitFail || errs != want {
		t.Errorf("got %d, %q, want %q", code, errs, want)
	}
}

// waiting is a WebSocket on which nothing is said before it is closed.
type waiting struct{ nc net.Conn }

func (w *waiting) ReadMessage() ([]byte, error) {
	_, err := w.nc.Read(make([]byte, 1))
	return nil, err
}

func (w *waiting) WriteMessage([]byte) error { return nil }

func TestCheckPublic(t *testing.T) {
	check := func(env ...string) (found []string) {
		c := config.Load(append(app(), env...), nil, config.Files{})
		CheckPublic(t.Context(), c, nil, false, func(verdict, format string, args ...any) {
			found = append(found, verdict+" "+fmt.Sprintf(format, args...))
		})
		return found
	}
	if got := check(); len(got) != 1 || !strings.HasPrefix(got[0], "note public address: not set") {
		t.Errorf("without an address: %q", got)
	}
	s := newServer(t)
	s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	got := check("REVERB_HOST=127.0.0.1", "REVERB_PORT="+port, "REVERB_SCHEME=http")
	if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), "127.0.0.1") {
		t.Errorf("an address at which nobody is: %q", got)
	}
	c := config.Load(append(app(), "REVERB_HOST=ws.test", "REVERB_SERVER_PATH=/ws"), nil,
		config.Files{})
	p := public(c, nil, true)
	a := p.Server
	if a.Address != "ws.test:443" || !a.TLS || a.Name != "ws.test" || a.Path != "/ws" ||
		p.OwnPort != 8080 || p.OwnTLS || p.Both || !p.Running || a.App.Key != "k" {
		t.Errorf("got %+v", p)
	}
}

// findServer finds the server of this machine, whatever it listens on.
func TestFindServer(t *testing.T) {
	for env, want := range map[string]string{
		"REVERB_SERVER_HOST=0.0.0.0 REVERB_SERVER_PORT=9":              "tcp 127.0.0.1:9 false",
		"REVERB_SERVER_HOST=unix:/run/x.sock":                          "unix /run/x.sock false",
		"REVERB_PLAIN_LISTEN=127.0.0.1:7":                              "tcp 127.0.0.1:7 false",
		"REVERB_PROXY_PROTOCOL=true":                                   "tcp 127.0.0.1:8080 true",
		"REVERB_PROXY_PROTOCOL=true REVERB_TRUSTED_PROXIES=10.0.0.0/8": "tcp 127.0.0.1:8080 false",
	} {
		c := &Caller{Config: config.Load(append(app(), strings.Fields(env)...), nil,
			config.Files{}), Err: io.Discard}
		s := c.findServer(true)
		if s == nil {
			t.Fatalf("%s: %q", env, c.Config.Problems)
		}
		if got := fmt.Sprint(s.Network, " ", s.Address, " ", s.Proxied); got != want || s.TLS {
			t.Errorf("%s: got %s, TLS %v; want %s", env, got, s.TLS, want)
		}
	}
}
