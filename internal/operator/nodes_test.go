package operator

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/protocol"
)

// ring has the nodes of a cluster, by ID.
type ring struct {
	mu     sync.Mutex
	nodes  map[string]*bench
	order  map[string]chan func() // what a node is to do, one after the other
	frozen map[string]bool        // they read nothing
	dead   []string               // are listed, and not there
	away   error                  // of Redis
}

// member is the ring as a node sees it.
type member struct {
	*ring
	id string
}

func (m member) Others(context.Context) (ids []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.nodes {
		if id != m.id {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return append(ids, m.dead...), m.away
}

func (m member) Tell(to, text string, done func(bool, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.nodes[to]
	if b != nil && !m.frozen[to] {
		m.order[to] <- func() { b.server.Told(m.id, text) }
	}
	m.order[m.id] <- func() { done(b != nil, nil) }
}

// newRing makes nodes a, b and c, each with the connections of a fakeSource. The test calls stop.
func newRing() (r *ring, a *bench, stop func()) {
	r = &ring{nodes: map[string]*bench{}, order: map[string]chan func(){},
		frozen: map[string]bool{}}
	for _, id := range []string{"a", "b", "c"} {
		b := newBench()
		o := b.server.Options
		o.Name, o.Nodes = "host-"+id, member{r, id}
		o.Log = slog.New(slog.NewTextHandler(&b.log, nil))
		b.server = NewServer(b.source, o)
		todo := make(chan func(), 10_000)
		r.nodes[id], r.order[id] = b, todo
		go func() {
			for f := range todo {
				f()
			}
		}()
	}
	return r, r.nodes["a"], func() {
		time.Sleep(time.Minute) // what is open has ended
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.order {
			close(c)
		}
	}
}

func TestAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, stop := newRing()
		defer stop()
		code, out, said := a.run(t, asked{Command: "connections", All: true, JSON: true})
		found := map[string]int{}
		for line := range strings.Lines(out) {
			var row struct{ Node, Socket string }
			if err := json.Unmarshal([]byte(line), &row); err != nil || row.Socket == "" {
				t.Fatalf("%s: %v", line, err)
			}
			found[row.Node]++
		}
		if code != 0 || said != "" || len(found) != 3 || found["host-a"] != 4 ||
			found["host-b"] != 4 || found["host-c"] != 4 {
			t.Errorf("got %d, %v, %q", code, found, said)
		}
		for _, tt := range []struct {
			asked asked
			want  []string
			lines int
		}{
			{asked{Command: "connections", Filter: Filter{App: "2"}},
				[]string{"NODE    APP  SOCKET", "host-b  2    2.1"}, 4},
			{asked{Command: "channels", Words: []string{"presence-"}},
				[]string{"NODE    APP  CHANNEL", "host-c  1    presence-a"}, 4},
			{asked{Command: "users", Words: []string{"presence-a"}},
				[]string{"APP  USER  INFO\n1    u1    {\"name\":\"A\"}\n"}, 2},
			{asked{Command: "status"}, []string{"node         host-a\nserver ",
				"node         host-b\nserver ", "node         host-c\nserver ",
				"\nwebhooks     URLs of 2 hosts: 4 wait; 6 delivered, 0 requests repeated\n"}, 35},
			{asked{Command: "top"},
				[]string{"NODE    READY  ", "host-c  stopping            3  1.2ms"}, 4},
		} {
			tt.asked.All = true
			code, out, said := a.run(t, tt.asked)
			for _, want := range tt.want {
				if code != 0 || said != "" || !strings.Contains(out, want) ||
					strings.Count(out, "\n") < tt.lines {
					t.Errorf("%s: got %d, %q, want %q in\n%s", tt.asked.Command, code, said, want,
						out)
				}
			}
		}
		if code, _, said := a.run(t, asked{Command: "users", Words: []string{"presence-z"},
			All: true}); code != 1 || !strings.Contains(said, "on any node") {
			t.Errorf("a channel without members: got %d, %q", code, said)
		}
		if code, _, said := a.run(t, asked{Command: "connections", All: true,
			Filter: Filter{App: "none"}}); code != 0 ||
			!strings.Contains(said, "no such connections on any node") {
			t.Errorf("no connections: got %d, %q", code, said)
		}
	})
}

// TestMissingNodes has a node that is frozen, one that is listed and gone, and no Redis.
func TestMissingNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a, stop := newRing()
		defer stop()
		a.run(t, asked{Command: "status", All: true}) // has the names told
		r.mu.Lock()
		r.frozen["b"], r.dead = true, []string{"0123-1"}
		r.mu.Unlock()
		began := time.Now()
		code, out, said := a.run(t, asked{Command: "channels", All: true})
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, want := range []string{
			"reverb: node host-b: it has not answered for 2 s; it is frozen, or too old",
			"reverb: node 0123-1: it is not connected any more\n", "the answer is not whole"} {
			if code != 1 || !strings.Contains(said, want) {
				t.Errorf("got %d, %q, want %q", code, said, want)
			}
		}
		if !strings.Contains(out, "host-c") || strings.Contains(out, "host-b") {
			t.Errorf("got\n%s", out)
		}
		r.mu.Lock()
		r.away = errors.New("Redis is not reachable")
		r.mu.Unlock()
		code, out, said = a.run(t, asked{Command: "channels", All: true})
		if code != 1 || !strings.Contains(out, "host-a") || strings.Contains(out, "host-c") ||
			!strings.Contains(said, "the other nodes cannot be asked: Redis is not reachable") {
			t.Errorf("without Redis: got %d, %q\n%s", code, said, out)
		}
	})
}

func TestKickAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a, stop := newRing()
		defer stop()
		kicked := func() (all string) {
			for _, id := range []string{"a", "b", "c"} {
				for _, peers := range r.nodes[id].source.peers {
					for _, p := range peers {
						if p.kicked != "" {
							all += id
						}
						p.kicked = ""
					}
				}
			}
			return all
		}
		one := asked{Command: "kick", Words: []string{"3.1"}, All: true}
		code, out, said := a.run(t, one)
		if code != 1 || !strings.Contains(said, "3 connections match; give --yes") ||
			strings.Count(out, "3.1") != 3 || kicked() != "" {
			t.Errorf("one on each node: got %d, %q\n%s", code, said, out)
		}
		one.Yes = true
		code, out, said = a.run(t, one)
		if code != 0 || !strings.Contains(said, "kicked 3 of 3 with code 4009") ||
			strings.Count(out, "3.1") != 3 || kicked() != "abc" {
			t.Errorf("--yes: got %d, %q\n%s", code, said, out)
		}
		if log := r.nodes["b"].log.String(); !strings.Contains(log,
			`uid=1000 asked_on=host-a of=`) {
			t.Errorf("the log of another node has %s", log)
		}
		if log := a.log.String(); !strings.Contains(log, `uid=1000 of="socket 3.1"`) {
			t.Errorf("the log of the node has %s", log)
		}
		r.nodes["a"].source.peers, r.nodes["b"].source.peers = [2][]*fakePeer{}, [2][]*fakePeer{}
		one.Yes, one.Back = false, true
		code, out, said = a.run(t, one)
		if code != 0 || !strings.Contains(said, "kicked 1 of 1 with code 4200") ||
			strings.Count(out, "3.1") != 1 || kicked() != "c" {
			t.Errorf("one on one node: got %d, %q\n%s", code, said, out)
		}
		one.Words = []string{"99.1"}
		if code, _, said := a.run(t, one); code != 1 || !strings.Contains(said, "on any node") {
			t.Errorf("nobody: got %d, %q", code, said)
		}
	})
}

// TestTraceAll ends the traces of all nodes when the asker goes, and when its node dies.
func TestTraceAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a, stop := newRing()
		defer stop()
		trace := func() *tracing {
			nc, err := a.dial(Question, new(greeting))
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(nc, `{"command":"trace","filter":{"channels":["news","x"]},"all":true}`+
				"\n")
			tr := &tracing{nc, bufio.NewReader(nc)}
			for range 3 {
				if got := tr.next(t); !strings.Contains(got, "tracing channel news or x") {
					t.Errorf("got %s", got)
				}
			}
			return tr
		}
		running := func() (n int) {
			for _, b := range r.nodes {
				if b.server.Traces.On() {
					n++
				}
			}
			return n
		}
		tr := trace()
		r.nodes["c"].server.Traces.ShowChannel(Event{What: "event", App: "1", Channel: "x",
			Message: []byte(`{"auth":"5ecret"}`)})
		if got := tr.next(t); !strings.Contains(got, `{"node":"host-c"`) ||
			strings.Contains(got, "5ecret") {
			t.Errorf("got %s", got)
		}
		time.Sleep(9 * time.Minute)
		if n := running(); n != 3 {
			t.Errorf("%d traces run, want 3", n)
		}
		tr.nc.Close()
		synctest.Wait()
		if n := running(); n != 0 {
			t.Errorf("%d traces run when the asker has gone", n)
		}
		if log := r.nodes["b"].log.String(); !strings.Contains(log, `msg="an operator traces" `+
			`uid=1000 asked_on=host-a what="channel news or x"`) {
			t.Errorf("the log has %s", log)
		}
		tr = trace()
		r.mu.Lock()
		delete(r.nodes, "a") // nothing reaches it any more
		r.mu.Unlock()
		time.Sleep(6 * time.Second)
		if n := running(); n > 0 {
			t.Errorf("%d traces run when the asker's node has died", n)
		}
		tr.nc.Close()
		go io.Copy(io.Discard, tr.r)
		a.talks.Wait()
	})
}

// TestPart has what one node may say.
func TestPart(t *testing.T) {
	b := newBench()
	var out strings.Builder
	answer := func(text string) string {
		out.Reset()
		if err := b.server.answerNode(t.Context(), "x", text, &out); err != nil {
			return err.Error()
		}
		return out.String()
	}
	for text, want := range map[string]string{
		`{"uid":1,"node":"n","request":{"command":"status"}}`:             `{"end":{"rows":3}}`,
		`{"uid":1,"node":"n","request":{"command":"dance"}}`:              "does not know the comm",
		`{"uid":1,"node":"n","request":{"command":"kick"}}`:               "kick needs a socket",
		`{"uid":1,"node":"n","request":{"command":"status","all":true}}`:  "for itself alone",
		`{"uid":1,"node":"n","request":{"command":"watch"}}`:              "for itself alone",
		`{"uid":1,"node":"n","colour":1,"request":{"command":"status"}}`:  "its version is another",
		`{"uid":1,"request":{"command":"kick","filter":{"address":"."}}}`: "neither an address",
		`nonsense`: "its version is another",
	} {
		if got := answer(text); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	many := &talk{Server: b.server, part: true, req: request{Command: "connections"}}
	many.out = bufio.NewWriter(io.Discard)
	many.end.Rows = maxPartRows
	if err := many.row(1); err != errCut {
		t.Errorf("got %v", err)
	}
	for range maxStreams {
		b.server.enter()
	}
	if got := answer(`{"uid":1,"node":"n","request":{"command":"status"}}`); !strings.Contains(got,
		"too many commands") {
		t.Errorf("got %s", got)
	}
}

func TestNames(t *testing.T) {
	s := NewServer(nil, Options{})
	for i := range maxNames + 10 {
		s.nameOf(strings.Repeat("x", i), "name")
	}
	if n := len(s.names.of); n > maxNames || s.nameOf("y", "") != "y" {
		t.Errorf("%d names are kept", n)
	}
}

// watched starts to watch a channel, and returns where its events come.
func (b *bench) watched(t *testing.T, channel string) (heard <-chan Heard, ended <-chan error,
	stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan Heard, 100), make(chan error, 1)
	go func() {
		done <- b.tool.Watch(ctx, "1", channel, "listed", func(h Heard) error {
			events <- h
			return nil
		})
	}()
	return events, done, cancel
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		ada, bob := protocol.NewMember("1", `{"name":"Ada"}`), protocol.NewMember("b\"", "")
		b.source.members([]*protocol.Member{ada})
		heard, ended, stop := b.watched(t, "presence-a")
		next := func(want Heard) {
			t.Helper()
			if got := <-heard; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		next(Heard{"listed",
			`{"presence":{"count":1,"ids":["1"],"hash":{"1":{"name":"Ada"}}}}`, ""})
		show := func(what string, message []byte) {
			b.server.Traces.ShowChannel(Event{What: what, App: "1", Channel: "presence-a",
				Message: message})
		}
		// A member that comes while others are there is an event, and told once.
		b.source.members([]*protocol.Member{ada, bob})
		show("event", protocol.EncodeMemberAdded("presence-a", bob))
		show("subscribed", nil)
		next(Heard{"pusher_internal:member_added", `{"user_id":"b\""}`, ""})
		show("event", []byte(`{"event":"client-x","data":"{\"a\":1}","user_id":"1"}`))
		next(Heard{"client-x", `{"a":1}`, "1"})
		show("event", []byte(`{"event":"e","data":[1,"auth"]}`))
		next(Heard{"e", `[1,"auth"]`, ""})
		// A missed event is made up for.
		b.source.members([]*protocol.Member{bob})
		next(Heard{"pusher_internal:member_removed", `{"user_id":"1"}`, ""})
		// The last one leaves without an event, and the first one comes without one.
		b.source.members(nil)
		began := time.Now()
		show("unsubscribed", nil)
		next(Heard{"pusher_internal:member_removed", `{"user_id":"b\""}`, ""})
		b.source.members([]*protocol.Member{ada})
		show("subscribed", nil)
		next(Heard{"pusher_internal:member_added",
			`{"user_id":"1","user_info":{"name":"Ada"}}`, ""})
		if d := time.Since(began); d > 0 {
			t.Errorf("they were told after %v", d)
		}
		show("event", nil)
		time.Sleep(time.Hour) // longer than a trace
		if len(heard) > 0 || !b.server.Traces.On() {
			t.Errorf("%d events more; on: %v", len(heard), b.server.Traces.On())
		}
		stop()
		<-ended
		b.talks.Wait()
		if log := b.log.String(); !strings.Contains(log, `msg="an operator watches a channel" `+
			`uid=1000 what="app 1, channel presence-a"`) || b.server.Traces.On() {
			t.Errorf("the log has %s", log)
		}
		if !strings.Contains(b.err.String(), "too long") {
			t.Errorf("noted %q", b.err.String())
		}
	})
}

// TestWatchOfNodes says what a node of several does not hear.
func TestWatchOfNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, end := newRing()
		defer end()
		a.source.members([]*protocol.Member{protocol.NewMember("1", "")})
		heard, ended, stop := a.watched(t, "presence-a")
		<-heard
		a.source.members(nil)
		time.Sleep(2 * time.Second)
		stop()
		<-ended
		a.talks.Wait()
		for _, want := range []string{"--join joins, and hears all", "hears nothing until one"} {
			if !strings.Contains(a.err.String(), want) || len(heard) > 0 {
				t.Errorf("noted %q, %d events; want %q", a.err.String(), len(heard), want)
			}
		}
	})
}

func TestWatchRefused(t *testing.T) {
	b := newBench()
	for channel, want := range map[string]string{"news": "is not a presence channel",
		"presence-" + strings.Repeat("x", 300): "1 to 200 bytes"} {
		_, ended, stop := b.watched(t, channel)
		if err := <-ended; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: got %v", channel, err)
		}
		stop()
	}
	b.tool.Dial = func(string, any) (net.Conn, error) { return nil, errors.New("nobody is there") }
	if err := b.tool.Watch(t.Context(), "1", "presence-a", "l", nil); err == nil {
		t.Error("nobody is there, and no error")
	}
}

// FuzzQuestion holds that the question of another node is read as it was written, or not at all.
func FuzzQuestion(f *testing.F) {
	f.Add(`{"uid":1,"node":"n","request":{"command":"kick","filter":{"user":"u"},"sure":true}}`)
	f.Add(`{"uid":-1,"node":"","request":{"command":"trace","filter":{"channels":["a","b"]}}}{}`)
	f.Fuzz(func(t *testing.T, text string) {
		q, err := readQuestion(text)
		if err != nil {
			return
		}
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readQuestion(string(b))
		if err != nil || again.UID != q.UID || again.Request.Command != q.Request.Command ||
			again.Request.Filter.String() != q.Request.Filter.String() ||
			again.Request.All || len(again.Node) > maxNameBytes+3 {
			t.Fatalf("%s: got %+v, %v, want %+v", b, again, err, q)
		}
	})
}
