package operator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/admin"
	"reverb/internal/lib/tallies"
	"reverb/internal/protocol"
)

// fakePeer is a connection of a fakeSource.
type fakePeer struct {
	app, address, user string
	number             uint64
	channels           []string
	in, out            int64
	kicked             string
	marks              uint8
	looked             int // how often the address was asked for
}

func (p *fakePeer) AppID() string         { return p.app }
func (p *fakePeer) ID() protocol.SocketID { return protocol.SocketIDOf(p.number<<32 | 1) }
func (p *fakePeer) Address() string       { p.looked++; return p.address }
func (p *fakePeer) SubscribedTo(name string) bool {
	for _, ch := range p.channels {
		if ch == name {
			return true
		}
	}
	return false
}
func (p *fakePeer) IsUser(id string) bool  { return p.user == id }
func (p *fakePeer) Bytes() (in, out int64) { return p.in, p.out }
func (p *fakePeer) Traced() *uint8         { return &p.marks }
func (p *fakePeer) Kick(e *protocol.Error) {
	p.kicked = fmt.Sprint("reconnect ", e == protocol.ErrMoved)
}
func (p *fakePeer) Describe() Connection {
	return Connection{
		App:           p.app,
		Socket:        p.ID().String(),
		Address:       p.address,
		User:          p.user,
		Since:         time.Now().Add(-time.Hour),
		Idle:          5,
		In:            p.in,
		Out:           p.out,
		Waiting:       7,
		Subscriptions: len(p.channels),
		Library:       "js 8.4.0",
	}
}

// fakeSource has connections on two loops, which are one goroutine each by a lock.
type fakeSource struct {
	mu       [2]sync.Mutex
	peers    [2][]*fakePeer
	events   uint64 // added to the channel's at each look
	looking  sync.Mutex
	channels []Channel
	users    []*protocol.Member // of presence-a
	stuck    chan struct{}      // Slice waits for it; nil: it does not
	sliced   int                // the most connections of a slice
}

func (s *fakeSource) Loops() int { return len(s.peers) }

func (s *fakeSource) Slice(loop, from int, visit func(Peer) bool, done func(int)) bool {
	go func() {
		if s.stuck != nil {
			<-s.stuck
		}
		s.mu[loop].Lock()
		defer s.mu[loop].Unlock()
		all := s.peers[loop]
		end := min(from+s.sliced, len(all))
		for i, p := range all[from:end] {
			if !visit(p) {
				end = from + i + 1
				break
			}
		}
		if end == len(all) {
			end = -1
		}
		done(end)
	}()
	return true
}

func (s *fakeSource) Snapshot(time.Time) admin.Snapshot {
	a := admin.AppFigures{ID: "1", Connections: 3, Published: s.events}
	a.Kinds[0].Occupied, a.Kinds[0].Vacated = 5, 3
	a.Hooks = []tallies.Figures{{Kind: "url", To: "a", Queued: 1, Delivered: 2},
		{Kind: "url", To: "b", Queued: 3, Delivered: 4}}
	return admin.Snapshot{Resumed: admin.Resumed{Bytes: 2048, Recovered: 5},
		Connections: 3,
		Limit:       1000,
		Memory:      admin.Memory{Used: 1 << 20, Limit: 1 << 30},
		Draining:    true,
		Loops: []admin.Loop{
			{Lag: 1200 * time.Microsecond},
			{},
		},
		Cluster: &admin.Cluster{Live: true},
		Apps:    []admin.AppFigures{a, {ID: "2"}},
	}
}

func (s *fakeSource) Channels(app, prefix string,
	yield func(app, name string, now protocol.Stats, events uint64) bool) {
	s.looking.Lock()
	for i := range s.channels {
		s.channels[i].Events += s.events
	}
	all := slices.Clone(s.channels)
	s.looking.Unlock()
	for _, c := range all {
		now := protocol.Stats{Subscriptions: c.Subscriptions, Users: c.Users}
		if (app == "" || app == c.App) && strings.HasPrefix(c.Name, prefix) &&
			!yield(c.App, c.Name, now, c.Events) {
			return
		}
	}
}

func (s *fakeSource) Members(app string, channel protocol.Name,
	yield func(string, []*protocol.Member)) {
	s.looking.Lock()
	users := s.users
	s.looking.Unlock()
	if channel.String() == "presence-a" {
		yield("1", users)
	}
	if app == "" {
		yield("2", nil)
	}
}

// members changes who is on presence-a.
func (s *fakeSource) members(users []*protocol.Member) {
	s.looking.Lock()
	s.users = users
	s.looking.Unlock()
}

func newFakeSource() *fakeSource {
	s := &fakeSource{
		sliced: 2,
		users:  []*protocol.Member{protocol.NewMember("u1", `{"name":"A"}`)},
		channels: []Channel{
			{App: "1", Name: "news", Subscriptions: 3, Events: 10},
			{App: "1", Name: "presence-a", Subscriptions: 2, Users: 1},
			{App: "2", Name: "news"},
		},
	}
	s.peers[0] = []*fakePeer{
		{
			app:      "1",
			number:   1,
			address:  "10.0.0.1:99",
			user:     "u1",
			channels: []string{"news", "presence-a"},
			in:       10,
			out:      2048,
		},
		{
			app:     "2",
			number:  2,
			address: "10.0.1.1",
			in:      -1,
			out:     -1,
		},
		{app: "1", number: 3, address: "[2001:db8::1]:5"},
	}
	s.peers[1] = []*fakePeer{
		{
			app:      "1",
			number:   4,
			address:  "::ffff:10.0.0.9",
			user:     "u1",
			channels: []string{"presence-a"},
		},
	}
	return s
}

// bench is a server and what a person sees of it.
type bench struct {
	source   *fakeSource
	server   *Server
	ended    chan struct{}
	log      bytes.Buffer
	out, err bytes.Buffer
	tool     Tool
	talks    sync.WaitGroup
	known    bool
}

func newBench() *bench {
	b := &bench{source: newFakeSource(), ended: make(chan struct{}), known: true}
	b.server = NewServer(
		b.source,
		Options{
			Version:   "reverb 9",
			PID:       12,
			Listening: "127.0.0.1:8080",
			Started:   time.Now().Add(-90 * time.Minute),
			Snapshot:  b.source.Snapshot,
			Traces:    new(Traces),
			Ended:     b.ended,
			Log:       slog.New(slog.NewTextHandler(&b.log, nil)),
		},
	)
	b.tool = Tool{Dial: b.dial, In: strings.NewReader(""), Out: &b.out, Err: &b.err}
	return b
}

// dial begins a stream, as packages control and listen do it.
func (b *bench) dial(question string, to any) (net.Conn, error) {
	v, ok := b.server.Greet(question)
	if !ok {
		return nil, errors.New("not a question")
	}
	text, _ := json.Marshal(v)
	json.Unmarshal(text, to)
	here, there := net.Pipe()
	b.talks.Go(func() {
		defer there.Close()
		b.server.Talk(there, 1000, b.known)
	})
	return here, nil
}

// run runs a command and returns what it has printed.
func (b *bench) run(t *testing.T, a asked) (code int, out, err string) {
	t.Helper()
	b.out.Reset()
	b.err.Reset()
	code = b.tool.Run(t.Context(), a.typed())
	b.talks.Wait()
	return code, b.out.String(), b.err.String()
}

// asked is an Asked of plain values.
type asked struct {
	Command                    string
	Words                      []string
	Filter                     Filter
	JSON, All, Yes, Back, Once bool
}

func (a asked) typed() Asked {
	f := a.Filter
	values := map[string]string{
		"app":     f.App,
		"channel": strings.Join(f.Channels, " "),
		"user":    f.User,
		"address": f.Address,
		"socket":  f.Socket,
	}
	set := map[string]bool{
		"json":      a.JSON,
		"all":       a.All,
		"yes":       a.Yes,
		"reconnect": a.Back,
		"once":      a.Once,
	}
	return Asked{
		a.Command,
		a.Words,
		func(flag string) bool { return set[flag] },
		func(flag string) string { return values[flag] },
		func(flag string) []string { return strings.Fields(values[flag]) },
	}
}

func TestTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		for _, c := range []struct {
			asked asked
			want  string
		}{
			{asked{Command: "connections", Filter: Filter{App: "2"}},
				"APP  SOCKET  ADDRESS   USER  SINCE   IDLE  IN  OUT  WAITING  CHANNELS  LIBRARY\n" +
					"2    2.1     10.0.1.1  -     1h00m   5s   -    -      7 B         0  js " +
					"8.4.0\n"},
			{asked{Command: "channels", Words: []string{"presence-"}},
				"APP  CHANNEL     SUBSCRIPTIONS  USERS  EVENTS\n1    presence-a              2  " +
					"    1       0\n"},
			{asked{Command: "users", Words: []string{"presence-a"}},
				"APP  USER  INFO\n1    u1    {\"name\":\"A\"}\n"},
		} {
			code, out, err := b.run(t, c.asked)
			if strings.Join(
				strings.Fields(out),
				" ",
			) != strings.Join(
				strings.Fields(c.want),
				" ",
			) ||
				code != 0 ||
				err != "" {
				t.Errorf("%+v: got %d, %s, %q, want\n%s", c.asked, code, out, err, c.want)
			}
		}
		for want, a := range map[string]asked{
			`"app":"1","user":"u1","info":{"name":"A"}}`: {Command: "users", JSON: true,
				Words: []string{"presence-a"}},
			`{"kind":"server",`:       {Command: "status", JSON: true},
			`{"kind":"app","app":"1"`: {Command: "status", JSON: true},
		} {
			if _, out, _ := b.run(t, a); !strings.Contains(out, want) {
				t.Errorf("lacks %s: %s", want, out)
			}
		}
		code, out, _ := b.run(t, asked{Command: "status"})
		for _, want := range []string{"reverb 9, pid 12, on 127.0.0.1:8080", "1h30m", "stopping",
			"3 of 1000", "1.0 MiB of 1.0 GiB", "lag 1.2ms", "in step",
			"\nresumed      2.0 KiB are kept; of subscriptions that came back, 5 got all that ",
			"APP  CONNECTIONS  CHANNELS"} {
			if !strings.Contains(out, want) || code != 0 {
				t.Errorf("status lacks %q:\n%s", want, out)
			}
		}
	})
}

// TestFilters has who is meant by what, in lines of JSON.
func TestFilters(t *testing.T) {
	b := newBench()
	for want, f := range map[string]Filter{
		"1 2 3 4": {}, "1 3 4": {App: "1"}, "1 4": {User: "u1"}, "1": {Channels: []string{"news"}},
		"1 4  ": {Channels: []string{"presence-a", "news", "none"}},
		"2":     {Socket: "2.1"}, "1 4 ": {Address: "10.0.0.0/24"}, "3": {Address: "2001:db8::/32"},
		"3 ": {Address: "2001:db8::1"}, "4": {Address: "10.0.0.9"},
		"4 ": {Address: "::ffff:10.0.0.9"}, "": {App: "1", Address: "10.0.1.0/24"},
	} {
		code, out, err := b.run(t, asked{Command: "connections", JSON: true, Filter: f})
		got := map[uint64]bool{}
		for line := range strings.Lines(out) {
			var c Connection
			if json.Unmarshal([]byte(line), &c) != nil {
				t.Fatal(line)
			}
			var n uint64
			fmt.Sscan(strings.TrimSuffix(c.Socket, ".1"), &n)
			got[n] = true
		}
		names := ""
		for n := uint64(1); n < 5; n++ {
			if got[n] {
				names += fmt.Sprint(n, " ")
			}
		}
		said := ""
		if want == "" {
			said = "reverb: there are no such connections here\n"
		}
		if strings.TrimSpace(names) != strings.TrimSpace(want) || code != 0 || err != said {
			t.Errorf("%v: got %q, %d, %q, want %q", f, names, code, err, want)
		}
	}
	// The address is asked of the system alone where it counts.
	for _, p := range b.source.peers[0] {
		p.looked = 0
	}
	b.run(t, asked{Command: "connections", Filter: Filter{App: "none", Address: "10.0.0.1"}})
	for _, p := range b.source.peers[0] {
		if p.looked > 0 {
			t.Errorf("the address of %d was looked at", p.number)
		}
	}
}

func TestMistakes(t *testing.T) {
	b := newBench()
	for want, a := range map[string]asked{
		"news is not a presence channel": {Command: "users", Words: []string{"news"}},
		"not both": {Command: "trace", Words: []string{"news"},
			Filter: Filter{User: "u"}},
		"users takes one channel": {Command: "users", Words: []string{"presence-a"},
			Filter: Filter{Channels: []string{"presence-b"}}},
		"users needs a channel":                  {Command: "users"},
		"status takes no argument":               {Command: "status", Words: []string{"x"}},
		"kick takes one argument; got \"b\" too": {Command: "kick", Words: []string{"a", "b"}},
		"kick needs to know whom":                {Command: "kick", Filter: Filter{App: "1"}},
		"101 channels are too many": {Command: "kick", Filter: Filter{
			Channels: strings.Fields(strings.Repeat("a ", 101))}},
		"trace needs to know whom": {Command: "trace"},
		"neither an address nor a network": {Command: "connections", Filter: Filter{
			Address: "10.0.0.0/99"}},
		"\"a.b\" is not a socket ID": {Command: "kick", Words: []string{"a.b"}},
		"\"a?b\" is neither an address nor a networ": {Command: "connections", Filter: Filter{
			Address: "a\x1bb"}},
	} {
		if code, out, err := b.run(t, a); code != 2 || out != "" ||
			!strings.Contains(strings.ReplaceAll(err, `\x1b`, "?"), want) ||
			strings.Contains(err, "\x1b") {
			t.Errorf("%+v: got %d, %q, %q, want %q", a, code, out, err, want)
		}
	}
	for want, a := range map[string]asked{
		"nobody is subscribed to presence-z here": {Command: "users",
			Words: []string{"presence-z"}},
		"this server is older (version reverb 9): it does not know dance; restart it with this " +
			"program": {Command: "dance"},
	} {
		if code, out, err := b.run(t, a); code != 1 || out != "" || !strings.Contains(err, want) {
			t.Errorf("%+v: got %d, %q, %q, want %q", a, code, out, err, want)
		}
	}
	b.known = false
	if code, _, err := b.run(t, asked{Command: "status"}); code != 1 ||
		!strings.Contains(err, "does not tell the server which user asks") {
		t.Errorf("nobody knows who asks: got %d, %q", code, err)
	}
}

func TestKick(t *testing.T) {
	b := newBench()
	peer := func(i int) string { return b.source.peers[0][i].kicked }
	if code, _, err := b.run(t, asked{Command: "kick", Words: []string{"99.1"}}); code != 1 ||
		!strings.Contains(err, "no connection of socket 99.1 is here") {
		t.Errorf("nobody: got %d, %q", code, err)
	}
	code, out, err := b.run(t, asked{Command: "kick", Words: []string{"3.1"}, Back: true})
	if code != 0 || !strings.Contains(out, "3.1") ||
		!strings.Contains(err, "kicked 1 of 1 with code 4200") ||
		peer(2) != "reconnect true" ||
		peer(0) != "" {
		t.Errorf("one: got %d, %q, %q, %q, %q", code, out, err, peer(2), peer(0))
	}
	user := asked{Command: "kick", Filter: Filter{User: "u1"}}
	code, out, err = b.run(t, user)
	if code != 1 || !strings.Contains(out, "4.1") ||
		!strings.Contains(err, "2 connections match; give --yes") ||
		peer(0) != "" {
		t.Errorf("two, and nobody to ask: got %d, %q, %q", code, out, err)
	}
	b.tool.Asks, b.tool.In = true, strings.NewReader("no\n")
	if code, _, err = b.run(t, user); code != 1 ||
		!strings.Contains(err, "Kick these 2 connections? [y/N]") ||
		peer(0) != "" {
		t.Errorf("no: got %d, %q", code, err)
	}
	b.tool.In = strings.NewReader("Y\n")
	if code, out, err = b.run(t, user); code != 0 || strings.Count(out, "4.1") != 1 ||
		!strings.Contains(err, "kicked 2 of 2 with code 4009") ||
		peer(0) != "reconnect false" {
		t.Errorf("yes: got %d, %q, %q", code, out, err)
	}
	b.source.peers[0][0].kicked = ""
	user.Yes = true
	if code, out, _ = b.run(t, user); code != 0 || peer(0) != "reconnect false" ||
		!strings.Contains(out, "1.1") {
		t.Errorf("--yes: got %d, %q", code, out)
	}
	if log := b.log.String(); strings.Count(log, "kicked connections") != 3 ||
		!strings.Contains(log, `uid=1000 of="user u1" connections=2 reconnect=false`) {
		t.Errorf("the log has\n%s", log)
	}
	if b.source.peers[0][1].kicked != "" {
		t.Error("a bystander was kicked")
	}
}

func TestTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.source.events = 4
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			time.Sleep(topFirst / 2) // of the bubble
			b.source.mu[0].Lock()
			b.source.peers[0][0].out += 1000
			b.source.mu[0].Unlock()
		}()
		code := b.tool.Run(ctx, asked{Command: "top", Once: true}.typed())
		b.talks.Wait()
		stop()
		out := b.out.String()
		if took := time.Since(began); code != 0 || took < topInterval ||
			took > topInterval+time.Second ||
			strings.Contains(out, "\x1b") {
			t.Errorf("got %d after %v: %s", code, took, out)
		}
		for _, want := range []string{" 2.0             6  1    news", "500 B  1    1.1 "} {
			if !strings.Contains(out, want) {
				t.Errorf("lacks %q:\n%s", want, out)
			}
		}
		b.out.Reset()
		b.source.events = 0
		b.tool.Run(t.Context(), asked{Command: "top", Once: true, JSON: true}.typed())
		b.talks.Wait()
		if out := b.out.String(); !strings.Contains(out, `"busiest_channels":[],`) {
			t.Errorf("nothing is busy: got %s", out)
		}
		b.out.Reset()
		b.tool.Look.Terminal = true
		ctx, stop = context.WithTimeout(t.Context(), topFirst+topInterval+time.Second)
		defer stop()
		if code := b.tool.Run(ctx, asked{Command: "top"}.typed()); code != 0 ||
			strings.Count(b.out.String(), "\x1b[H\x1b[2J") != 2 {
			t.Errorf("live: got %d, %q", code, b.out.String())
		}
		b.talks.Wait()
	})
}

// TestStreams has what either end does when the other is not there for it.
func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		talk := func(do func(nc net.Conn)) (said string) {
			nc, err := b.dial(Question, new(greeting))
			if err != nil {
				t.Fatal(err)
			}
			go do(nc)
			text, _ := io.ReadAll(nc)
			b.talks.Wait()
			return string(text)
		}
		for request, want := range map[string]string{
			"no\n": "not the line of JSON",
			`{"command":"status","flavour":1}` + "\n":               `does not know \"flavour\"`,
			`{"command":"status","filter":{"colour":"red"}}` + "\n": `does not know \"colour\"`,
			`{"command":"kick"}` + "\n": "kick needs a s" +
				"ocket",
			`{"command":"kick","filter":{"app":"1"},"sure":true}` + "\n": "kick needs a socket",
			`{"command":"dance"}` + "\n": `does not know ` +
				`the command \"dance\"`,
			`{"command":"status","filter":{"address":"."}}` + "\n": "neither an " +
				"address",
			`{"command":"` + strings.Repeat("x", maxRequestBytes) + `"}` + "\n": "too long",
		} {
			if got := talk(func(nc net.Conn) { io.WriteString(nc, request) }); !strings.Contains(
				got,
				want,
			) ||
				strings.Count(got, "\n") != 1 {
				t.Errorf("%.60q: got %q, want %q", request, got, want)
			}
		}
		if got := talk(func(net.Conn) {}); !strings.Contains(got, "has not come") {
			t.Errorf("no request: got %q", got)
		}
		// Whoever does not read is given up, and whoever closes ends the work.
		b.source.stuck = make(chan struct{})
		nc, _ := b.dial(Question, new(greeting))
		io.WriteString(nc, `{"command":"connections"}`+"\n")
		synctest.Wait()
		nc.Close()
		b.talks.Wait()
		close(b.source.stuck)
		nc, _ = b.dial(Question, new(greeting))
		began := time.Now()
		io.WriteString(nc, `{"command":"connections"}`+"\n")
		b.talks.Wait()
		if took := time.Since(began); took != writePatience {
			t.Errorf("a reader that stalls was given up after %v", took)
		}
		nc.Close()
		// No more than so many at a time.
		var waiting []net.Conn
		for range maxStreams {
			nc, _ := b.dial(Question, new(greeting))
			waiting = append(waiting, nc)
			io.WriteString(nc, `{"command":"top"}`+"\n")
		}
		synctest.Wait()
		if got := talk(func(nc net.Conn) {
			io.WriteString(nc,
				`{"command":"status"}`+"\n")
		}); !strings.Contains(
			got,
			"too many commands",
		) {
			t.Errorf("one too many: got %q", got)
		}
		close(b.ended) // the server stops: every stream ends
		for _, nc := range waiting {
			go io.Copy(io.Discard, nc)
		}
		b.talks.Wait()
		for _, nc := range waiting {
			nc.Close()
		}
	})
}

// TestVersions has a program and a server that are not of the same age.
func TestVersions(t *testing.T) {
	for want, answer := range map[string]string{
		"this server is older (version reverb 1): it does not know kick; restart it with this " +
			"program": `{"pid":1,"version":"reverb 1","listening":"x","connections":0}`,
		"this server is older (version reverb 1?): it does not know kick; restart it with this " +
			"program": `{"protocol":1,"version":"reverb 1\u001b","commands":["status"]}`,
		"this program is older than the server (version reverb 3), and does not know how to ask " +
			"it; use the": `{"protocol":2,"version":"reverb 3","commands":["status"]}`,
	} {
		b := newBench()
		b.tool.Dial = func(_ string, to any) (net.Conn, error) {
			here, there := net.Pipe()
			t.Cleanup(func() { there.Close() })
			return here, json.Unmarshal([]byte(answer), to)
		}
		if code, _, err := b.run(t, asked{Command: "kick", Words: []string{"1.1"}}); code != 1 ||
			!strings.Contains(err, want) {
			t.Errorf("%s: got %d, %q", answer, code, err)
		}
	}
	s := NewServer(nil, Options{})
	if _, ok := s.Greet("status"); ok {
		t.Error("status begins a stream")
	}
	if v, ok := s.Greet("commands 2"); !ok || v.(greeting).Protocol != 1 {
		t.Errorf("a later program gets %v, %v", v, ok)
	}
	if len(Question) > 100 {
		t.Error("an old server does not read the question to its end")
	}
}

// TestDistrust has a server that says what a terminal would obey, and one that says too
// much, nonsense or not enough.
func TestDistrust(t *testing.T) {
	const evil = `\u001b]0;owned\u0007\u009b31m\u202e` + "\u009b"
	row := map[string]string{
		"connections": `{"app":"` + evil + `","socket":"` + evil + `","address":"` + evil +
			`","user":"` + evil + `","library":"` + evil + `"}`,
		"channels": `{"app":"` + evil + `","channel":"` + evil + `"}`, "users": `{"app":"` +
			evil + `","user":"` + evil + `","info":"` + evil + `"}`,
		"status": `{"version":"` + evil + `","listening":"` + evil + `","state":["` + evil +
			`"],"redis":"` + evil + `"}`,
		"top": `{"version":"` + evil + `","busiest_channels":[{"channel":"` + evil +
			`"}],"busiest_connections":[{"user":"` + evil + `"}]}`,
		"trace": `{"what":"` + evil + `","socket":"` + evil + `","message":"` + evil +
			`","note":"` + evil + `"}`,
	}
	run := func(command, answer string, asJSON bool) (int, string) {
		b := newBench()
		b.tool.Dial = func(_ string, to any) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				bufio.NewReader(there).ReadString('\n')
				io.WriteString(there, answer)
			}()
			return here, json.Unmarshal(
				[]byte(`{"protocol":1,"version":"x","commands":["`+command+`"]}`),
				to,
			)
		}
		a := asked{Command: command, JSON: asJSON}
		if command == "users" || command == "trace" {
			a.Words = []string{"presence-a"}
		}
		code, out, err := b.run(t, a)
		return code, out + err
	}
	for command, text := range row {
		for _, asJSON := range []bool{false, true} {
			code, out := run(
				command,
				`{"note":"`+evil+`"}`+"\n"+`{"row":`+text+`}`+"\n"+`{"end":{"rows":1}}`+"\n",
				asJSON,
			)
			if code != 0 || strings.ContainsAny(out, "\x1b\x07\u009b\u202e") || len(out) < 10 {
				t.Errorf("%s, JSON %v: got %d, %q", command, asJSON, code, out)
			}
			if code, out := run(command, `{"row":[]}`+"\n", false); code != 1 ||
				!strings.Contains(out, "not the one that is expected") {
				t.Errorf("%s, a strange row: got %d, %q", command, code, out)
			}
		}
	}
	for want, answer := range map[string]string{
		"closed the stream before its end": `{"row":{}}` + "\n", "too long": strings.Repeat("x",
			maxLineBytes+2),
		"not the JSON that is expected": "nonsense\n", "?]0;owned": `{"error":"\u001b]0;owned"}` +
			"\n",
	} {
		if code, out := run("connections", answer, false); code != 1 ||
			!strings.Contains(out, want) ||
			strings.Contains(out, "\x1b") {
			t.Errorf("%.40q: got %d, %q, want %q", answer, code, out, want)
		}
	}
}

// TestManyRows prints more rows than are looked at for the widths.
func TestManyRows(t *testing.T) {
	b := newBench()
	b.source.peers[0] = nil
	for i := range 2000 + 100 {
		b.source.peers[0] = append(
			b.source.peers[0],
			&fakePeer{app: "1", number: uint64(i) + 1, address: "192.0.2.1"},
		)
	}
	code, out, _ := b.run(t, asked{Command: "connections", Filter: Filter{Address: "192.0.2.1"}})
	if n := strings.Count(out, "\n"); code != 0 || n != 2000+101 {
		t.Errorf("got %d, %d lines", code, n)
	}
}

func TestShort(t *testing.T) {
	for want, got := range map[string]string{
		"äb...": bounded("äbä", 4), "äb": bounded("äb", 3),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzRequest holds that a request that is read is written and read as the same again, and
// that its filter can be asked.
func FuzzRequest(f *testing.F) {
	f.Add(
		[]byte(`{"command":"kick","filter":{"app":"1","address":"10.0.0.0/8"},"sure":true}` + "\n"),
	)
	f.Add([]byte(`{"command":"trace","filter":{"user":"u","address":"fe80::1%eth0"}}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRequest(b)
		if err != nil {
			return
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readRequest(text)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%s: got %+v, %v, want %+v", text, again, err, r)
		}
		_ = r.judge()
		r.Filter.Match(&fakePeer{address: "10.0.0.1:1"})
		_ = r.Filter.String()
	})
}

// FuzzLine holds that nothing that a server sends is printed raw, or hurts.
func FuzzLine(f *testing.F) {
	f.Add(
		"connections",
		[]byte(`{"row":{"app":"\u001b","bytes_in":-9223372036854775808,"idle_seconds":9e9}}`),
	)
	f.Add(
		"top",
		[]byte(`{"row":{"lag_seconds":1e300,"busiest_channels":[{}],`+
			`"started":"0001-01-01T00:00:00Z"}}`),
	)
	f.Add("trace", []byte(`{"row":{"at":"2026-01-01T00:00:00Z","message":"\u009b"}}`))
	f.Add("status", []byte(`{"note":"\u0007","end":null}`))
	f.Fuzz(func(t *testing.T, command string, text []byte) {
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			tool := Tool{Out: &out, Err: &out}
			a := asked{Command: command, JSON: asJSON}.typed()
			p := tool.printer(&a)
			l, err := readLine(bufio.NewReaderSize(io.MultiReader(bytes.NewReader(text),
				strings.NewReader("\n")), maxLineBytes+1))
			if err != nil || l.Row == nil || p.print(l.Row) != nil {
				return
			}
			if err := p.finish(); err != nil {
				t.Fatal(err)
			}
			if i := strings.IndexFunc(out.String(), func(r rune) bool {
				return r < ' ' &&
					r != '\n' || r >= 0x7f && r < 0xa0
			}); i >= 0 {
				t.Fatalf("%q", out.String())
			}
		}
	})
}
