package commands

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"reverb/internal/config"
	"reverb/internal/lib/terminal"
)

// greeted is a greeting, and the name of the file stands as .env in it.
func greeted(t *testing.T, look terminal.Look, args, file string, s Serving) string {
	t.Helper()
	l, err := Parse(strings.Fields(args))
	if err != nil {
		t.Fatal(err)
	}
	name := write(t, file)
	l.Flags["env-file"] = name
	c := config.Load(nil, l.Flags, config.Files{Read: os.ReadFile})
	delete(l.Flags, "env-file")
	if c.Dev {
		c.StartDev(func() (string, error) { return t.TempDir(), nil })
	}
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	p := page{look: look, width: look.Width}
	p.greet(&l, c, &s)
	text := strings.ReplaceAll(p.text.String(), name+":", ".env:")
	return regexp.MustCompile(`(?m)^  REVERB_ENV_FILE .*\n`).ReplaceAllString(text, "")
}

const app = "REVERB_APP_ID=123456\nREVERB_APP_KEY=key0\nREVERB_APP_SECRET=s\n"

func TestGreeting(t *testing.T) {
	serving := Serving{Build: "reverb 1.2.3", Main: at("127.0.0.1:8080"), Admin: at("0.0.0.0:9090"),
		Fragment: "#t=X", Limit: 19936}
	got := greeted(t, terminal.Look{Terminal: true, Width: 140}, "start --host 127.0.0.1",
		app+"REVERB_ALLOWED_ORIGINS=example.com\n", serving)
	want := `
reverb 1.2.3

  app        123456
  listening  127.0.0.1:8080 (plain)
  connect    ws://127.0.0.1:8080/app/key0
  publish    http://127.0.0.1:8080/apps/123456/events
  status     http://127.0.0.1:9090/#t=X
  try        reverb listen --host=127.0.0.1 my-channel

  REVERB_SERVER_HOST      127.0.0.1    --host
  REVERB_APP_ID           123456       .env:1
  REVERB_APP_KEY          key0         .env:2
  REVERB_APP_SECRET       ********     .env:3
  REVERB_ALLOWED_ORIGINS  example.com  .env:4

Ready for 19,936 connections. Ctrl+C stops it.

`
	// the name of the test's file has made room
	values := regexp.MustCompile(`(?m) +(--host|\.env:\d)$`)
	if got = values.ReplaceAllString(got, " $1"); got != values.ReplaceAllString(want, " $1") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Where clients connect and servers publish.
func TestGreetingURLs(t *testing.T) {
	for _, tt := range []struct{ args, file, connect, publish, try string }{
		{"start", "", "ws://localhost:7000/app/key0", "http://localhost:7000/apps/123456/events",
			"reverb listen my-channel"},
		{"start --port=7000", "REVERB_SERVER_PATH=/ws\n", "ws://localhost:7000/ws/app/key0",
			"http://localhost:7000/ws/apps/123456/events", "reverb listen --port=7000 my-channel"},
		{"start --host=::1", "", "ws://[::1]:7000/app/key0", "http://[::1]:7000/apps/123456/events",
			"reverb listen --host=::1 my-channel"},
		{"start", "REVERB_HOST=ws.example.com\nREVERB_PORT=443\nREVERB_SCHEME=https\n",
			"wss://ws.example.com/app/key0", "https://ws.example.com/apps/123456/events",
			"reverb listen my-channel"},
		{"start", "REVERB_HOST=ws.example.com\nREVERB_SCHEME=https\n",
			"wss://ws.example.com/app/key0", "https://ws.example.com/apps/123456/events",
			"reverb listen my-channel"},
		{"start", "REVERB_HOST=ws.example.com\nREVERB_PORT=80\nREVERB_SCHEME=http\n",
			"ws://ws.example.com/app/key0", "http://ws.example.com/apps/123456/events",
			"reverb listen my-channel"},
		{"start", "REVERB_TLS_CERT=c.pem\n", "wss://localhost:7000/app/key0",
			"https://localhost:7000/apps/123456/events", "reverb listen my-channel"},
	} {
		got := greeted(t, terminal.Look{Width: 80}, tt.args, app+tt.file,
			Serving{Main: at("127.0.0.1:7000"), Limit: math.MaxInt64})
		for label, want := range map[string]string{"connect": tt.connect, "publish": tt.publish,
			"try": tt.try} {
			if line := fmt.Sprintf("\n  %-9s  %s\n", label, want); !strings.Contains(got, line) {
				t.Errorf("%s with %q lacks %s in\n%s", tt.args, tt.file, line, got)
			}
		}
		if !strings.HasSuffix(got, "\nReady. Ctrl+C stops it.\n\n") ||
			strings.Contains(got, "status") {
			t.Errorf("got\n%s", got)
		}
	}
	socket := greeted(t, terminal.Look{Width: 80}, "start --host unix:/run/r.sock", app,
		Serving{Main: &net.UnixAddr{Name: "/run/r.sock", Net: "unix"}, Admin: &net.UnixAddr{}})
	if strings.Contains(socket, "  connect ") || strings.Contains(socket, "  publish ") ||
		strings.Contains(socket, "  status ") {
		t.Errorf("a URL of a socket:\n%s", socket)
	}
}

// The app of --dev stands in the URLs; what --dev sets is not told again.
func TestGreetingDev(t *testing.T) {
	got := greeted(t, terminal.Look{Width: 80}, "start --dev --port 7000",
		"REVERB_HOST=ws.example.com\n", Serving{Main: at("127.0.0.1:7000")})
	connect := regexp.MustCompile(`\n  connect    ws://127\.0\.0\.1:7000/app/[a-z2-7]{20}\n`)
	if !connect.MatchString(got) ||
		!strings.Contains(got, "\n  try        reverb listen --dev my-channel\n") ||
		strings.Contains(got, "REVERB_APP_ID") {
		t.Errorf("got\n%s", got)
	}
}

// Values give way to a narrow terminal, and colours stand where they are wanted.
func TestGreetingLook(t *testing.T) {
	file := app + "REVERB_ALLOWED_ORIGINS=" + strings.Repeat("example.com,", 9) +
		"example.org\nREVERB_APPS_FILE=\n"
	for _, look := range []terminal.Look{{Width: 80}, {Width: 140, Color: true},
		{Width: 140, Color: true, Palette: true}} {
		got := greeted(t, look, "start", file, Serving{Build: "reverb 1", Main: at("[::]:1"),
			Plain: at("127.0.0.1:2"), TLS: true, Limit: 1000})
		if strings.Contains(got, "\x1b[1mreverb 1\x1b[0m") != look.Color ||
			strings.Contains(got, "\x1b[38;5;30mapp ") != look.Palette {
			t.Errorf("%+v: got\n%q", look, got)
		}
		if !look.Color && strings.Contains(got, "\x1b") {
			t.Errorf("colours that nobody wants in\n%q", got)
		}
		p := page{width: 60}
		p.settings([]config.Setting{
			{Name: "REVERB_ALLOWED_ORIGINS", Value: strings.Repeat("ä", 99), Origin: ".env:1"},
			{Name: "A", Value: "b\x1b[1m", Origin: "x\x1b"}})
		for line := range strings.Lines(p.text.String()) {
			if utf8.RuneCountInString(line) > 60 || strings.Contains(line, "\x1b") {
				t.Errorf("the line %q", line)
			}
		}
	}
}

// What is not a terminal gets the log, as it always was.
func TestAnnounce(t *testing.T) {
	l, _ := Parse([]string{"start"})
	for name, tt := range map[string]struct {
		file string
		s    Serving
		want string
	}{
		"plain": {"REVERB_SERVER_PATH=/ws\n",
			Serving{Main: at("127.0.0.1:8080"), Admin: at("127.0.0.1:9090"), Loops: 2, Limit: 9},
			`level=INFO msg="listening on 127.0.0.1:8080/ws" with=plain apps=1 loops=2 connections=9
level=INFO msg="metrics and status on 127.0.0.1:9090"
`},
		"all of it": {"", Serving{Main: at("[::]:8080"), Plain: at("127.0.0.1:8081"),
			Admin: at("0.0.0.0:9090"), TLS: true, Fragment: "#t=X",
			Advice: "load a module", Loops: 1, Limit: 9},
			`level=INFO msg="a note"
level=WARN msg="load a module"
level=INFO msg="listening on [::]:8080" with=TLS apps=1 loops=1 connections=9
level=INFO msg="listening on 127.0.0.1:8081" with=plain
level=INFO msg="metrics and status on 0.0.0.0:9090"
level=INFO msg="the status page opens once without the secret, within ` +
				`10 minutes" url="http://127.0.0.1:9090/#t=X"
level=WARN msg="metrics and status can be reached from other machines, ` +
				`without a password; keep outsiders away with a ` +
				`firewall, or set REVERB_ADMIN_LISTEN=127.0.0.1:9090"
`},
	} {
		var out, said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said,
			&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
		c := loaded(t, write(t, app+tt.file))
		if tt.s.TLS {
			c.Notes = []string{"a note"}
		}
		l.Announce(&out, log, c, &tt.s)
		if got := said.String(); got != tt.want || out.Len() > 0 {
			t.Errorf("%s: got\n%s%s\nwant\n%s", name, got, out.String(), tt.want)
		}
	}
}

// at is an address of TCP.
func at(address string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 19936: "19,936",
		1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for value, want := range map[string]string{"": "", "127.0.0.1": "127.0.0.1", "a b": "'a b'",
		"it's": `'it'\''s'`, "$(x)": "'$(x)'"} {
		if got := shellWord(value); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestReloads has a configuration that is read again with and without problems.
func TestReloads(t *testing.T) {
	for _, c := range []struct {
		config config.Config
		want   string
	}{
		{config.Config{Apps: []*config.App{{}}, Notes: []string{"n"}, Warnings: []string{"w"}},
			"WARN w|INFO n|true"},
		{config.Config{Notes: []string{"n"}, Problems: []string{"p"}, Warnings: []string{"w"}},
			"WARN w|ERROR not reloaded: p|ERROR not reloaded: there is no app|false"},
		{config.Config{Apps: []*config.App{{}}, Problems: []string{"p"}},
			"ERROR not reloaded: p|false"},
	} {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, nil))
		ok := Reloads(log, &c.config)
		var got []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), "level=")
			level, text, _ := strings.Cut(rest, " msg=")
			got = append(got, level+" "+strings.Trim(text, `"`))
		}
		if all := strings.Join(append(got, fmt.Sprint(ok)), "|"); all != c.want {
			t.Errorf("got %s, want %s", all, c.want)
		}
	}
}
