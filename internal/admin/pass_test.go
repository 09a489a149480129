package admin

import (
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A token is exchanged once, in time, for a session of one app.
func TestPass(t *testing.T) {
	p := newPass("1", started)
	token := strings.TrimPrefix(p.Fragment(), "#t=")
	if len(token) < 26 || token == strings.TrimPrefix(newPass("1", started).Fragment(), "#t=") {
		t.Errorf("the token is %q", token)
	}
	if p.admits("", "1", started) {
		t.Error("no session is admitted before there is one")
	}
	for _, wrong := range []string{"", token[1:], token + "x", strings.ToLower(token)} {
		if _, ok := p.exchange(wrong, started); ok {
			t.Errorf("%q is exchanged", wrong)
		}
	}
	if _, ok := newPass("1", started.Add(-10*time.Minute)).exchange(token, started); ok {
		t.Error("another pass's token is exchanged")
	}
	last := started.Add(10*time.Minute - 1)
	session, ok := p.exchange(token, last)
	if !ok || len(session) < 26 || session == token {
		t.Fatalf("got %q, %v", session, ok)
	}
	if _, again := p.exchange(token, last); again {
		t.Error("the token is exchanged twice")
	}
	for _, tt := range []struct {
		session, app string
		at           time.Time
		want         bool
	}{
		{session, "1", last, true}, {session, "1", last.Add(12*time.Hour - 1), true},
		{session, "1", last.Add(12 * time.Hour), false}, {session, "2", last, false},
		{session + "x", "1", last, false}, {"", "1", last, false}, {token, "1", last, false},
	} {
		if got := p.admits(tt.session, tt.app, tt.at); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
	if old := newPass("1", started); len(old.token) > 0 {
		if _, ok := old.exchange(old.token, started.Add(10*time.Minute)); ok {
			t.Error("a token that is too old is exchanged")
		}
	}
	if (*Pass)(nil).admits("", "1", started) {
		t.Error("without a pass a session is admitted")
	}
}

// Only a page that no other machine reaches has a link.
func TestPassIsOfThisMachine(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 9090} }
	for _, tt := range []struct {
		addr net.Addr
		want bool
	}{
		{tcp("127.0.0.1"), true}, {tcp("127.1.2.3"), true}, {tcp("::1"), true},
		{tcp("0.0.0.0"), false}, {tcp("::"), false}, {tcp("10.0.0.1"), false},
		{&net.UnixAddr{Name: "/run/admin", Net: "unix"}, false},
	} {
		p := NewPass("1", tt.addr, started)
		if (p != nil) != tt.want || strings.HasPrefix(p.Fragment(), "#t=") != tt.want {
			t.Errorf("%v: got %v, the link %q", tt.addr, p != nil, p.Fragment())
		}
	}
}

// Of many tries at once only one gets the session.
func TestPassOnce(t *testing.T) {
	p := newPass("1", started)
	var all sync.WaitGroup
	won := make(chan string, 8)
	for range cap(won) {
		all.Go(func() {
			if session, ok := p.exchange(p.token, started); ok {
				won <- session
			}
		})
	}
	if all.Wait(); len(won) != 1 {
		t.Errorf("%d got a session", len(won))
	}
}

// The page enters with its link and then uses the console without the secret. Nothing that
// it gets holds the secret.
func TestEnter(t *testing.T) {
	s, now := &source{remote: "192.0.2.1:1"}, started
	pass := newPass("1", started)
	h := open(s, func(o *Options) { o.Pass, o.Now = pass, func() time.Time { return now } })
	link := `{"token":"` + pass.token + `"}`
	for _, headers := range [][]string{nil, {"Content-Type", "text/plain"},
		append(asJSON[:2:2], "Sec-Fetch-Site", "cross-site")} {
		if w := ask(t, h, "POST", "/session", link, headers...); w.Code != 403 {
			t.Errorf("%q: got %s, want 403, and the token not used up", headers, got(w))
		}
	}
	wrong := `401 {"error":"the link has been used, or is older than 10 minutes; ` +
		`use the secret of the app"}` + "\n"
	if w := ask(t, h, "POST", "/session", `{"token":"x"}`, asJSON...); got(w) != wrong {
		t.Errorf("got %s, want %s", got(w), wrong)
	}
	w := ask(t, h, "POST", "/session", link, asJSON...)
	var a struct{ App, Session string }
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 || a.App != "1" ||
		a.Session != pass.session {
		t.Fatalf("got %s, %v", got(w), err)
	}
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("the secret is in %s", got(w))
	}
	if w := ask(t, h, "POST", "/session", link, asJSON...); got(w) != wrong {
		t.Errorf("a second time: got %s", got(w))
	}
	mine := `{"app":"1","session":"` + a.Session + `"`
	over := `401 {"error":"the session of this page is over; use the secret of the app"}` + "\n"
	for _, tt := range []struct{ body, want string }{
		{mine + `}`, `200 {"channels":[],"total":0}` + "\n"},
		{mine + `,"secret":"wrong"}`, "200 "},
		{`{"app":"2","session":"` + a.Session + `"}`, over},
		{`{"app":"1","session":"x","secret":"secret"}`, over},
		{`{"app":"1","secret":"` + a.Session + `"}`,
			`401 {"error":"this is not the secret of that app"}` + "\n"},
		{`{"app":"1","session":""}`, `401 {"error":"this is not the secret of that app"}` + "\n"},
	} {
		w := ask(t, h, "POST", "/channels.json", tt.body, asJSON...)
		if !strings.HasPrefix(got(w), tt.want) {
			t.Errorf("%s: got %s, want %s", tt.body, got(w), tt.want)
		}
	}
	now = now.Add(12 * time.Hour)
	if w := ask(t, h, "POST", "/channels.json", mine+`}`, asJSON...); got(w) != over {
		t.Errorf("after the session: got %s", got(w))
	}
	w = ask(t, open(s, nil), "POST", "/session", link, asJSON...)
	if w.Code != 404 && w.Code != 405 {
		t.Errorf("without a pass: got %s", got(w))
	}
}

// Guesses of the token are slowed down like those of the secret.
func TestGuessingTheToken(t *testing.T) {
	s := &source{remote: "192.0.2.1:1"}
	pass := newPass("1", started)
	h := open(s, func(o *Options) { o.Pass = pass })
	for i := range 20 {
		w := ask(t, h, "POST", "/session", `{"token":"x"}`, asJSON...)
		if w.Code != map[bool]int{true: 401, false: 429}[i < 10] {
			t.Fatalf("guess %d: got %s", i+1, got(w))
		}
	}
	if w := ask(t, h, "POST", "/session", `{"token":"`+pass.token+`"}`, asJSON...); w.Code != 429 {
		t.Errorf("the right one among the guesses: got %s", got(w))
	}
	if !strings.Contains(s.refused[0], "a link that is wrong") ||
		strings.Contains(strings.Join(s.refused, ""), pass.token) {
		t.Errorf("refused %q", s.refused[0])
	}
}
