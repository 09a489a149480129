package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"reverb/internal/cluster"
	"reverb/internal/commands"
	"reverb/internal/config"
	"reverb/internal/engine"
	"reverb/internal/lib/closeframe"
	"reverb/internal/lib/conversation"
	"reverb/internal/lib/deflate"
	"reverb/internal/lib/fakenode"
	"reverb/internal/lib/fakeredis"
	"reverb/internal/lib/fakesockets"
	"reverb/internal/lib/load"
	"reverb/internal/lib/mask"
	"reverb/internal/lib/metrics"
	"reverb/internal/lib/outqueue"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/selfsigned"
	"reverb/internal/lib/witness"
	"reverb/internal/operator"
	"reverb/internal/protocol"
	"reverb/internal/topics"
	"reverb/internal/upgrade"
	"reverb/internal/webhooks"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(2) // a server has as many loops: the same on every machine
	code := m.Run()
	// What the tests have started must be gone; the runtime needs a moment to say so.
	for i := 0; code == 0 && runtime.NumGoroutine() > 2; i++ {
		if i == 200 {
			buf := make([]byte, 1<<16)
			fmt.Fprintf(os.Stderr, "goroutines leaked:\n%s\n", buf[:runtime.Stack(buf, true)])
			code = 1
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	os.Exit(code)
}

// --- ws.go: frames ---

func TestFrameHeader(t *testing.T) {
	for _, v := range []struct {
		bytes string // hex
		h     frameHeader
	}{
		{"8100", frameHeader{fin: true, op: opText}},
		{"817d", frameHeader{fin: true, op: opText, length: 125}},
		{"817e007e", frameHeader{fin: true, op: opText, length: 126, extended: 2}},
		{"817effff", frameHeader{fin: true, op: opText, length: 65535, extended: 2}},
		{"827f0000000000010000", frameHeader{fin: true, op: opBinary, length: 65536, extended: 8}},
		{"018537fa213d", frameHeader{op: opText, length: 5, masked: true, mask: 0x3d21fa37}},
		{"c1fe010001020304", frameHeader{256, 0x04030201, opText, 4, 2, true, true}},
		{"8aff0000000100000000ffffffff", frameHeader{1 << 32, 0xffffffff, opPong, 0, 8, true,
			true}},
		{"80ffffffffffffffffff01020304", frameHeader{1<<64 - 1, 0x04030201, 0, 0, 8, true, true}},
	} {
		b, _ := hex.DecodeString(v.bytes)
		h, n := parseFrameHeader(append(b, 0xaa, 0xbb))
		if n != len(b) || h != v.h {
			t.Errorf("%s: got %+v, %d, want %+v, %d", v.bytes, h, n, v.h, len(b))
		}
		if got := hex.EncodeToString(appendFrameHeader(nil, v.h)); got != v.bytes {
			t.Errorf("append: got %s, want %s", got, v.bytes)
		}
		for i := range b {
			if _, n := parseFrameHeader(b[:i]); n != 0 {
				t.Errorf("%s cut to %d bytes: got %d, want 0", v.bytes, i, n)
			}
		}
	}
	b, _ := hex.DecodeString("8aff0000000100000000ffffffff")
	if n := testing.AllocsPerRun(100, func() { parseFrameHeader(b) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// --- ws.go: connections ---

// recorder is a handler that writes down what it is told.
type recorder struct {
	conn
	got  []string
	echo bool
}

func (r *recorder) handleOpen(uint32) { r.got = append(r.got, "open") }
func (r *recorder) handleMessage(op opcode, b []byte) {
	r.got = append(r.got, fmt.Sprintf("%d:%s", op, b))
	if r.echo {
		r.sendText(b)
	}
}
func (r *recorder) handleControl(op opcode) { r.got = append(r.got, fmt.Sprintf("control %d", op)) }
func (r *recorder) handleDeadline(uint32)   {}
func (r *recorder) handleDrain()            { r.close(endStopped) }
func (r *recorder) handleClosed(e *ending)  { r.got = append(r.got, "closed "+e.word) }

// maskedFrame is a frame as a client sends it.
func maskedFrame(op opcode, fin bool, rsv byte, payload string) string {
	b := []byte(payload)
	h := frameHeader{fin: fin, op: op, rsv: rsv, masked: true, mask: 0x04030201}
	h.length = uint64(len(payload))
	mask.Bytes(b, h.mask)
	return string(append(appendFrameHeader(nil, h), b...))
}

// feed gives bytes to a connection of a loop that does not run, cut into pieces,
// and returns what its handler saw.
func feed(t testing.TB, input string, pieces int, deflate bool) []string {
	r := &recorder{}
	r.handler, r.maxMessage, r.deflate = r, 1000, deflate
	testLoops(t, 1).all[0].place(&r.conn)
	r.state = connOpen
	for b := []byte(input); len(b) > 0; {
		n := min(pieces, len(b))
		r.receive(append([]byte(nil), b[:n]...))
		b = b[n:]
	}
	for b := range r.out.All {
		if h, n := parseFrameHeader(b); h.op == opPong {
			r.got = append(r.got, "pong "+string(b[n:]))
		} else if h.op == opClose {
			code, reason, _ := closeframe.Parse(b[n:])
			r.got = append(r.got, strings.TrimSpace(fmt.Sprintf("close %d %s", code, reason)))
		}
	}
	return r.got
}

// deflated is a message as a client compresses it.
func deflated(message string) string {
	payload, _ := new(deflate.Writer).Deflate([]byte(message))
	return string(payload)
}

// TestReadMachine plays test/testdata/frames/*.txt, where the lines are explained.
func TestReadMachine(t *testing.T) {
	conversation.Each(t, "test/testdata/frames", func(t *testing.T, s *conversation.Scene) {
		told := ""
		read := func(deflate bool, frames ...string) (differs, want string) {
			b := strings.Join(frames, "")
			told = strings.Join(feed(t, b, 1<<20, deflate), "|")
			for pieces := 1; pieces < 9; pieces++ {
				if got := strings.Join(feed(t, b, pieces, deflate), "|"); got != told {
					return fmt.Sprintf("%s, but in pieces of %d %s", told, pieces, got), ""
				}
			}
			return "", ""
		}
		frames := func(line string) string {
			b, err := conversation.Frames(line)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		s.Play(t, &conversation.Server{Verbs: conversation.Verbs{
			"reads": func(rest string) (got, want string) { return read(true, frames(rest)) },
			"plain": func(rest string) (got, want string) { return read(false, frames(rest)) },
			"deflated": func(rest string) (got, want string) {
				return read(true, maskedFrame(opText, true, rsv1, deflated(rest)))
			},
			"torn": func(rest string) (got, want string) {
				z := deflated(rest)
				return read(true, maskedFrame(opText, false, rsv1, z[:2]),
					maskedFrame(opContinuation, true, 0, z[2:]))
			},
			"tells": func(rest string) (got, want string) { return told, rest },
		}})
	})
}

// FuzzFrames checks that how bytes are cut into reads changes nothing.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(maskedFrame(opText, false, 0, "a")+maskedFrame(opPing, true, 0, "p")+
		maskedFrame(opContinuation, true, 0, "é")), uint8(1))
	f.Add([]byte(maskedFrame(opClose, true, 0, "\x03\xe8")), uint8(3))
	f.Add([]byte(maskedFrame(opText, true, rsv1, "\xaa\xaa\x04\x00")), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, pieces uint8) {
		whole := feed(t, string(b), len(b)+1, true)
		cut := feed(t, string(b), int(pieces)+1, true)
		// What is read whole may be judged later than what comes byte by byte, but
		// only invalid text, and only at the end.
		if w, c := strings.Join(whole, "|"), strings.Join(cut, "|"); w != c {
			t.Fatalf("whole %q, in pieces of %d %q", w, pieces+1, c)
		}
	})
}

// testLoops makes loops that have not begun to run, and that need no system calls.
func testLoops(t testing.TB, n int) *loops {
	t.Helper()
	portable := func() (*poll.Poller, error) { return poll.NewPortable(), nil }
	ls, err := newLoops(n, new(atomic.Int64), time.Now(), portable)
	if err != nil {
		t.Fatal(err)
	}
	return ls
}

// A connection that the peer has reset is done with at the first write that fails:
// nothing is queued, gathered or written for it in the rest of the turn, however many
// small events that turn has for it.
func TestDeadConnectionIsDoneWith(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a stream learns of the reset at some later time")
	}
	small := (*app)(nil).Event([]byte(`{"event":"client-","channel":"z"}`), protocol.SocketID{},
		time.Now())
	for how, send := range map[string]func(c *conn){
		"at once": func(c *conn) { c.sendEncoded(&small.encodedText) },
		"queued":  func(c *conn) { c.send(small.plain) },
		"to several at once": func(c *conn) {
			c.loop.sendEach([]*conn{c}, &small.encodedText, false)
		},
		"alone": func(c *conn) { c.loop.sendEach([]*conn{c}, &small.encodedText, true) },
	} {
		for _, layer := range []*fakesockets.Layer{nil, {}} {
			t.Run(fmt.Sprintf("%s, TLS %v", how, layer != nil), func(t *testing.T) {
				w := newCrowd(t, 1)
				l, c := w.loop, &w.clients[0].conn
				peer := w.connect(t, func(ours, theirs net.Conn) net.Conn {
					if layer == nil {
						return ours
					}
					layer = fakesockets.TLS(t, ours, theirs)
					return layer
				})[0]
				l.group.sockets.Add(1)
				before := 0
				if layer != nil {
					layer.Writes, before = 0, layer.Bytes
				}
				peer.(*net.TCPConn).SetLinger(0)
				peer.Close()
				events := make([]poll.Event, 4)
				n, err := l.poller.Wait(events, -1) // the reset has come
				if err != nil {
					t.Fatal(err)
				}
				for range 30_000 {
					send(c)
				}
				if c.out.Bytes() != 0 || !c.out.Empty() || l.outs.Bytes() != 0 {
					t.Errorf("%d bytes are queued, the loop counts %d; want none", c.out.Bytes(),
						l.outs.Bytes())
				}
				if layer != nil && (layer.Writes > 1 || layer.Bytes-before > loopBufferBytes) {
					t.Errorf("%d writes of %d bytes; want 1 of at most %d", layer.Writes,
						layer.Bytes-before, loopBufferBytes)
				}
				l.flush()
				after := c.state
				for _, ev := range events[:n] { // of a socket that is no more
					l.handleEvent(ev)
				}
				failed, gone := w.hub.reports.Closed.Of("write_failed").Load(),
					w.hub.reports.Closed.Of("peer_gone").Load()
				if failed != 1 || gone != 0 || after != connClosed {
					t.Errorf("closed %d times because a write failed, %d times because the peer "+
						"was gone, state %d; want once, for the write", failed, gone, after)
				}
				if n := l.group.sockets.Load(); n != 0 {
					t.Errorf("%d sockets are still counted", n)
				}
			})
		}
	}
}

// What comes after the loops have ended is closed, not kept.
func TestAdoptionAfterTheEnd(t *testing.T) {
	ls := testLoops(t, 1)
	ls.start()
	ls.stop(0)
	ls.sockets.Add(1)
	ours, theirs := net.Pipe()
	r := &recorder{}
	r.handler = r
	ls.adopt(&r.conn, ours, []byte("first"), nil)
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF || ls.sockets.Load() != 0 {
		t.Errorf("got %v and %d sockets, want EOF and none", err, ls.sockets.Load())
	}
	if ls.all[0].post(stopTask{}); ls.all[0].inbox.Len() != 0 {
		t.Error("a loop that has ended took a task")
	}
}

// A connection that is ended for another reason in the turn in which its queue has
// overflowed tells that reason all the same.
func TestOverflowDoesNotHideTheEnding(t *testing.T) {
	const more = maxQueueBytes + 100<<10 // one message may go over it
	for _, sent := range [][2]int{{30, 100 << 10}, {2, more}, {1, more}} {
		v := newFoyer(t, maxListBytes).enter(0, 0)
		for range sent[0] {
			v.send(appendFrame(nil, opBinary, 0, make([]byte, sent[1])))
		}
		v.close(endStopped)
		v.flush(math.MaxInt)
		want := appendCloseFrame(nil, endStopped.code, endStopped.reason)
		if !bytes.HasSuffix(v.got, want) {
			t.Errorf("%d messages of %d bytes: the last bytes are %q, want the close frame",
				sent[0], sent[1], v.got[max(0, len(v.got)-60):])
		}
	}
}

// --- pusher.go: conversations ---

// rig is the whole program in memory, inside a synctest bubble. Its sockets are pipes.
type rig struct {
	*server
	*conversation.Server // who talks to it
	t                    *testing.T
	public, operator     *conversation.Pipes
	env                  string // the file of REVERB_ENV_FILE
	serving              sync.WaitGroup
	shown                conversation.Notes // the traffic, with --debug
	logged               conversation.Notes
	end                  func() // stops the server, once
}

// testProgram is the program around a hub without a server.
type testProgram struct{ surroundings }

func (p *testProgram) Full() bool { return false }

func testApp(edit func(a *config.App)) *config.App {
	a := &config.App{ID: "app-id", Key: "app-key", Secret: "app-secret",
		AllowedOrigins: []string{"*"}, MaxMessageSize: 10_000, MaxSubscriptions: 10_000,
		PingInterval: 60 * time.Second, ActivityTimeout: 30 * time.Second}
	if edit != nil {
		edit(a)
	}
	return a
}

// withRig starts the program as an operator would who has set env, and one app.
func withRig(t *testing.T, env []string, f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, public: conversation.NewPipes(), operator: conversation.NewPipes(),
			env: filepath.Join(t.TempDir(), "env")}
		if err := os.WriteFile(r.env, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		env := append([]string{"REVERB_ENV_FILE=" + r.env, "REVERB_APP_ID=app-id",
			"REVERB_APP_KEY=app-key", "REVERB_APP_SECRET=app-secret"}, env...)
		c := loadConfig(env)
		if len(c.Problems) > 0 {
			t.Fatal(c.Problems)
		}
		var err error
		r.server, err = newServer(c, r.public, nil, 0, &upgrade.Heritage{Began: time.Now()},
			slog.New(&r.logged), &r.shown)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range r.loops.all {
			l.poller.Close()
			l.poller = poll.NewPortable() // waits without the system, so that time stands still
		}
		r.Server = &conversation.Server{Settle: synctest.Wait, Verbs: r.verbs()}
		r.Connect = func(from string, operator bool) net.Conn {
			if operator {
				return r.operator.Dial(from)
			}
			return r.public.Dial(from)
		}
		for _, a := range c.Apps {
			r.Apps = append(r.Apps, conversation.App{ID: a.ID, Key: a.Key, Secret: a.Secret})
		}
		r.end = sync.OnceFunc(func() { r.stop(&r.serving) })
		r.loops.start()
		r.serving.Go(func() { r.http.Serve(r.listeners[0]) })
		r.admin = r.newAdmin(r.operator.Addr())
		go r.admin.Serve(r.operator)
		f(r)
		synctest.Wait()
		r.checkConsistency()
		r.Close()
		r.admin.Close()
		r.end()
		for id, a := range r.hub.reloadable.Load().ByID {
			if n := a.figures(); n.Connected != n.Disconnected || a.connections.Load() != 0 {
				t.Errorf("app %s: %d connections were counted in, %d out, %d are still counted", id,
					n.Connected, n.Disconnected, a.connections.Load())
			}
		}
		if n, m := r.hub.addresses.Len(), r.sockets.Load(); n != 0 || m != 0 {
			t.Errorf("%d addresses and %d sockets are still counted", n, m)
		}
	})
}

// reverb upgrade waits for as long as an upgrade may take, whatever takes long.
func TestUpgradePatience(t *testing.T) {
	if upgradePatience <= upgrade.Longest {
		t.Errorf("it waits for %v, and an upgrade may take %v", upgradePatience, upgrade.Longest)
	}
}

// A loop that hangs does not make the others stand still for long, and all go on.
func TestStandWithoutALoop(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		hung, release := r.loops.all[len(r.loops.all)-1], make(chan struct{})
		hung.post(taskFunc(func() { <-release }))
		began := time.Now()
		end, err := r.Stand(time.Second)
		end(false)
		name := fmt.Sprint("event loop ", len(r.loops.all))
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), name+";") ||
			took != time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		close(release)
		synctest.Wait()
		end, err = r.Stand(time.Second) // as soon as it can
		if end(false); err != nil {
			t.Error(err)
		}
	})
}

// checkConsistency recomputes everything that is kept twice. The server is idle.
func (r *rig) checkConsistency() {
	have := map[*app]map[string][]string{} // the user of each subscription, by channel
	for id, a := range r.hub.reloadable.Load().ByID {
		have[a] = map[string][]string{}
		if n := a.undelivered.Load(); n != 0 {
			r.t.Errorf("app %s has %d bytes to be delivered, and no loop has any", id, n)
		}
	}
	for _, l := range r.hub.loops.all {
		links := -l.outs.Links()
		for c := range l.conns.All {
			for range c.out.All {
				links++
			}
			cl, n := c.handler.(*client), 0
			if l.find(c.token()) != c || c.loop != l {
				r.t.Errorf("a connection thinks it is in slot %d", c.slot)
			}
			for s := range cl.subscriptions.All {
				user := ""
				if s.Kind().Presence {
					user = s.Member().ID
				}
				have[cl.app][s.Name()] = append(have[cl.app][s.Name()], user)
				if n++; cl.find([]byte(s.Name())) != s {
					r.t.Errorf("subscription to %s is not where it should be", s.Name())
				}
			}
			if at := cl.identity().Place(); at != nil {
				have[cl.app][at.Name()] = append(have[cl.app][at.Name()], "")
			}
			if cl.subscriptions.Len() != n {
				r.t.Errorf("client has %d subscriptions, counts %d", n, cl.subscriptions.Len())
			}
		}
		if n := l.load.Backlog(); n != 0 || links != 0 || l.load.Owed() != 0 || l.pending() ||
			l.holding.Len()+l.flows.Jobs() > 0 {
			r.t.Errorf("an idle loop has a backlog of %d, %d links too few, %d deliveries, %d "+
				"flows that hold somebody", n, links, l.flows.Jobs(), l.holding.Len())
		}
	}
	checkLists(r.t, r.hub)
	for a, channels := range have {
		r.checkApp(a, channels)
	}
}

// checkApp compares what an app says and has counted with what its clients have: the user of
// each subscription, by channel.
func (r *rig) checkApp(a *app, have map[string][]string) {
	got, total, counted, subscribed := map[string]protocol.Stats{}, 0, 0, 0
	a.Rows("", time.Now(), func(_, name string, s protocol.Stats, _ uint64) bool {
		got[name] = s
		return true
	})
	for _, k := range a.figures().Kinds {
		counted += int(k.Occupied - k.Vacated)
		subscribed += int(k.Subscribed - k.Unsubscribed)
	}
	for name, users := range have {
		there := []string{}
		for _, m := range a.Users(channelName(name)) {
			there = append(there, m.ID)
		}
		total += len(users)
		slices.Sort(users)
		distinct := slices.Compact(slices.Clone(users))
		distinct = slices.DeleteFunc(distinct, func(id string) bool { return id == "" })
		if slices.Sort(there); got[name].Subscriptions != len(users) ||
			got[name].Users != len(there) || !slices.Equal(there, distinct) {
			r.t.Errorf("%s: %+v, users %q; clients have %q", name, got[name], there, users)
		}
	}
	if len(got) != len(have) || counted != len(have) || subscribed != total {
		r.t.Errorf("app %s: %d channels are occupied, %d counted, clients have %d; %d "+
			"subscriptions are counted, clients have %d", a.id, len(got), counted, len(have),
			subscribed, total)
	}
}

// New connections, pings and other apps have their turn while one app's events go to
// very many, and an event of another app does not wait for all of them.
func TestFlowsTakeTurns(t *testing.T) {
	const members, events = 500, 20_000
	w := newCrowd(t, members)
	l := w.loop
	other := w.hub.newApp("other")
	other.settings.Store(w.app.settings.Load())
	c := w.addMember(other)
	for range events {
		w.publish(w.app, pingEvent())
	}
	cost := int64(members * events * (len(messagePing) + 2 + load.MessageCost))
	if n := w.app.undelivered.Load(); n != cost {
		t.Errorf("%d bytes are to be delivered, want %d", n, cost)
	}
	if !w.hub.Behind(w.app) || w.hub.Behind(other) {
		t.Error("another app is behind, or not that with the events")
	}
	w.publish(other, pingEvent())
	done := false
	l.post(taskFunc(func() { done = true }))
	if l.runTasks(); !done {
		t.Error("a task waits for the events that were posted before it")
	}
	l.serveNext(flowShare)
	l.serveNext(flowShare)
	l.dirty, l.later = l.later, l.dirty
	if c.out.Empty() || l.flows.Jobs() != events {
		t.Errorf("the other app's event waits: %d of %d deliveries are left", l.flows.Jobs(),
			events+1)
	}
	left := l.flows.Jobs()
	if l.deliver(time.Now()); l.flows.Jobs() != left {
		t.Error("more is queued before what was queued the last time is written")
	}
	w.settle()
	l.deliver(time.Now().Add(-turnDeliverTime)) // its time is up at the first look at the clock
	if l.flows.Jobs() == 0 || l.flows.Jobs() < left-flowShare || !l.pending() || l.timeout() != 0 {
		t.Errorf("%d of %d deliveries are left after one more turn", l.flows.Jobs(), left)
	}
}

// TestConversations plays test/testdata/conversations/*.txt against the whole program. The
// package conversation explains the lines; verbs has those of this program.
func TestConversations(t *testing.T) {
	conversation.Each(t, "test/testdata/conversations", func(t *testing.T, s *conversation.Scene) {
		withRig(t, s.Settings, func(r *rig) { s.Play(t, r.Server) })
	})
}

// verbs are what a scene can say of this program.
func (r *rig) verbs() conversation.Verbs {
	o := &fakenode.Node{Replica: r.hub.replica,
		Occupied: []string{"app-id:cache-x", "app-id:gone", "app-id:strange name", "other:cache-y",
			"app-id:news"},
		Subscriptions: map[string]int{"app-id:cache-x": 7, "app-id:news": -1,
			"app-id:presence-x": 5}}
	counted := func(tally *metrics.Tally) func(string) (got, want string) {
		return func(rest string) (got, want string) { // WORD NUMBER
			word, _, _ := strings.Cut(rest, " ")
			return fmt.Sprint(word, " ", tally.Of(word).Load()), rest
		}
	}
	return conversation.Verbs{
		"closed":  counted(&r.hub.reports.Closed),   // connections that ended with a word
		"refused": counted(&r.hub.reports.Refusals), // refusals with a word
		"log": func(rest string) (got, want string) { // what the log was told since
			return strings.ReplaceAll(r.logged.Take(), r.env, ".env"), rest
		},
		"shows": func(rest string) (got, want string) { // the words of the traffic since
			words := slices.DeleteFunc(strings.Fields(r.shown.Take()),
				func(w string) bool { return strings.Trim(w, ".|") == "" })
			return strings.Join(words, " "), rest
		},
		"reloads": func(rest string) (got, want string) { // once this stands in .env
			if err := os.WriteFile(r.env, []byte(rest+"\n"), 0o600); err != nil {
				return err.Error(), ""
			}
			r.reload(time.Now())
			return "", ""
		},
		"server": func(rest string) (got, want string) {
			state := serverStates[rest]
			if state == nil {
				return "a server cannot be: " + rest, ""
			}
			state(r)
			return "", ""
		},
		"cluster": func(rest string) (got, want string) { // fakenode.Node.Play, once it has begun
			if rest == "begins" { // before anybody is there
				r.hub.engine = engine.New(r.hub.replica, o)
				r.hub.openWatchlists(o)
				r.hub.Questions = topics.New[*app](o)
				return "", ""
			}
			return o.Play(rest)
		},
	}
}

// app is the app of those who say nothing else.
func (r *rig) app() *app { return r.hub.reloadable.Load().ByID["app-id"] }
func (r *rig) busy()     { time.Sleep(7 * time.Second) }

// serverStates are what a scene can make the server be.
var serverStates = map[string]func(r *rig){
	"is full":               func(r *rig) { r.hub.program.(*surroundings).soft = -1 },
	"is short of memory":    func(r *rig) { r.hub.short.Store(true) },
	"has memory again":      func(r *rig) { r.hub.short.Store(false) },
	"holds the app":         func(r *rig) { r.app().held.Store(true) },
	"is behind":             func(r *rig) { r.app().undelivered.Add(maxUndelivered + 1) },
	"has caught up":         func(r *rig) { r.app().undelivered.Add(-maxUndelivered - 1) },
	"is busy for 7s":        func(r *rig) { r.loops.all[1].post(taskFunc(r.busy)) },
	"is consistent":         func(r *rig) { r.checkConsistency() },
	"is about to stop":      func(r *rig) { r.draining.Store(true) },
	"is not about to stop":  func(r *rig) { r.draining.Store(false) },
	"makes room":            func(r *rig) { r.shortage().Relief.Make(r.t.Context()) },
	"has made room":         func(r *rig) { r.shortage().Relief.Unhold() },
	"has room for one list": func(r *rig) { r.hub.openDesks(1) },
	"stops":                 func(r *rig) { r.end() },
	"takes its rings over":  (*rig).takeRingsOver,
}

// takeRingsOver has the rings forget all, and take over what they had, as at an upgrade.
func (r *rig) takeRingsOver() {
	var records [][]byte
	err := r.hub.sections().Give(func(name string, record []byte, _ ...int) error {
		if name == "rings" {
			records = append(records, bytes.Clone(record))
		}
		return nil
	})
	set := r.app().settings.Load()
	r.app().history.Configure("", 0, time.Now())
	r.app().history.Configure(set.Secret, set.ResumeLife, time.Now())
	for _, record := range records {
		err = errors.Join(err, r.hub.sections().Take("rings", record))
	}
	if err != nil {
		r.t.Error(err)
	}
}

// Every ending has a word, a metric's label, and a reason that fits a close frame; every row of
// the table that closes has one of them, with its code.
func TestEndings(t *testing.T) {
	for _, e := range endings {
		if e.word == "" || strings.Trim(e.word, "abcdefghijklmnopqrstuvwxyz_") != "" ||
			len(e.reason) > 123 || !utf8.ValidString(e.reason) {
			t.Errorf("%+v: the word is no metric's label, or the reason fits no close frame", e)
		}
	}
	for i, e := range protocol.Errors() {
		end := pusherEndings[e.Row]
		same := func() bool {
			return end.code == e.Close && end.word == e.Word && end.reason == e.Message
		}
		if e.Row != i || (end == nil) != (e.Close == 0) ||
			end != nil && (!same() || !slices.Contains(endings, end)) {
			t.Errorf("%+v: the ending is %+v", e, end)
		}
	}
}

// channelName is the name of a channel that is known to be one.
func channelName(s string) protocol.Name {
	name, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return name
}

// What a connection takes is memory times the number of connections.
func TestSizeOfAClient(t *testing.T) {
	if got := reflect.TypeFor[client]().Size(); got > 144 {
		t.Errorf("a client takes %d bytes; 144 is a size class", got)
	}
	if got := reflect.TypeFor[clientExtra]().Size(); got > 48 {
		t.Errorf("clientExtra takes %d bytes; 48 is a size class", got)
	}
}

// foyer is two loops that do not run, and clients whose sockets take what the test says.
type foyer struct {
	t     *testing.T
	hub   *hub
	apps  []*app
	loops []*loop
	all   []*visitor
}

// visitor is a client of a foyer.
type visitor struct {
	*client
	got []byte // what its socket has taken, not read by the test
}

func newFoyer(t *testing.T, poolBytes int64) *foyer {
	t.Helper()
	ls := testLoops(t, 2)
	other := testApp(func(a *config.App) { a.ID, a.Key = "other", "other-key" })
	f := &foyer{t: t, hub: newHub([]*config.App{testApp(nil), other}, ls, new(testProgram)),
		loops: ls.all}
	f.hub.openDesks(poolBytes)
	known := f.hub.reloadable.Load().ByID
	f.apps = []*app{known["app-id"], known["other"]}
	return f
}

func (f *foyer) enter(app, loop int) *visitor {
	v := &visitor{client: enter(f.loops[loop], f.apps[app])}
	v.dirty = true // the test flushes
	f.all = append(f.all, v)
	return v
}

// enter makes a client of an app on a loop that does not run. Its socket takes nothing.
func enter(l *loop, a *app) *client {
	c := &client{app: a, id: protocol.NewSocketID()}
	c.handler, c.maxMessage = c, 10_000
	l.place(&c.conn)
	c.state, c.blocked = connOpen, true
	return c
}

// subscribe signs as the app would.
func (v *visitor) subscribe(channel, data string) {
	a := v.app.settings.Load()
	v.client.subscribe(protocol.Subscription{Channel: channel, ChannelData: []byte(data),
		Auth: a.Key + ":" + protocol.Sign(a.Secret, v.id.String()+":"+channel+":"+data)})
}

func (v *visitor) unsubscribe(channel string) {
	v.handleEvent(protocol.Event{Name: []byte("pusher:unsubscribe"),
		Data: []byte(`{"channel":"` + channel + `"}`)})
}

// flush lets the socket take so many bytes.
func (v *visitor) flush(n int) {
	v.blocked = false
	for n > 0 && v.ready() {
		b := v.out.Next(nil)
		b = b[:min(n, len(b))]
		v.got, n = append(v.got, b...), n-len(b)
		v.out.Written(&v.loop.outs, len(b))
	}
	v.blocked = true
}

// end ends the connection as a failure does.
func (v *visitor) end() {
	v.state = connClosing
	v.handleClosed(endPeerGone)
	v.state = connClosed
	v.out.Clear(&v.loop.outs)
}

// texts takes the whole messages off what the socket has taken.
func (v *visitor) texts() (all []string) {
	for {
		h, n := parseFrameHeader(v.got)
		if n == 0 || len(v.got) < n+int(h.length) {
			return all
		}
		all = append(all, string(v.got[n:n+int(h.length)]))
		v.got = v.got[n+int(h.length):]
	}
}

// turn does what waits in the inbox of every loop and delivers all.
func (f *foyer) turn() {
	for _, l := range f.loops {
		l.outs.EndTurn()
		for l.runTasks(); l.flows.Jobs() > 0; {
			l.serveNext(1000)
		}
		l.dirty = l.dirty[:0]
	}
}

// settle has all sockets take everything, until nothing is left.
func (f *foyer) settle() {
	for range 300 {
		f.turn()
		for _, v := range f.all {
			if v.state == connOpen {
				v.flush(math.MaxInt)
			}
		}
		time.Sleep(time.Millisecond) // in the bubble: pauses between lists pass
		synctest.Wait()
	}
	checkLists(f.t, f.hub)
}

// checkLists sees to it that nothing is left of lists of members. Nobody waits for one.
func checkLists(t *testing.T, h *hub) {
	t.Helper()
	for i, d := range h.desks {
		for s := range d.All {
			t.Errorf("loop %d: who joins %s waits for a list", i, s.Name())
		}
	}
	if ls := h.lists; ls.Used() != 0 || ls.Waiting() != 0 {
		t.Errorf("%d bytes of lists are counted, %d listings wait", ls.Used(), ls.Waiting())
	}
}

// A member hears every event that is published between its joining and its leaving, once and in
// order, whoever joins, leaves and ends while an event is on its way to others. Whoever gets a
// list of members hears what comes after the moment of the list, behind it; on a cache channel
// the last event before it, or cache_miss, stands between. The courses are random, and in some
// of them a cluster lets in later. An event's data is its number, and whoever is listed keeps
// its own list: with what it is told it must come to the same as the channel. What lists are
// and when they are made is tested in internal/memberlists.
func TestListsAndEvents(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) { listsAndEvents(t, seed, seed%4 == 3) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// guest is a visitor that reads what it gets.
type guest struct {
	*visitor
	*witness.Witness
	asked map[string]*int // the cluster has not let it in yet
}

func (g *guest) pull(t *testing.T) {
	for _, text := range g.texts() {
		if err := g.Hear(text); err != nil {
			t.Fatal(err)
		}
	}
}

// party is a foyer with guests.
type party struct {
	*foyer
	random  *rand.Rand
	guests  []*guest
	courses map[*app]map[string]*witness.Course
	node    *fakenode.Node // nil: there is no cluster
}

func (p *party) arrive(i int) *guest {
	v := p.enter(i%2, i/2%2)
	return &guest{v, witness.New(v.id.String()), map[string]*int{}}
}

func (p *party) join(g *guest, name string) {
	id, s, course := strconv.Itoa(p.random.IntN(12)), g.find([]byte(name)), p.courses[g.app][name]
	if channelName(name).Kind().Presence {
		if s == nil || s.Member().ID != id {
			g.Joins(name, course)
		}
		info := strings.Repeat("x", p.random.IntN(3000))
		g.subscribe(name, `{"user_id":"`+id+`","user_info":"`+info+`"}`)
		return
	}
	g.client.subscribe(protocol.Subscription{Channel: name})
	enter := func() {
		g.Joins(name, course)
		g.Answered(name)
	}
	switch {
	case s != nil: // it is answered once more
		g.Answered(name)
	case p.node == nil:
		enter()
	case g.asked[name] == nil:
		last, mine := &p.node.Joins[len(p.node.Joins)-1], new(int)
		ready := last.Ready
		g.asked[name], last.Ready = mine, func() {
			if ready(); g.asked[name] == mine {
				delete(g.asked, name)
				enter()
			}
		}
	}
}

func (p *party) leave(g *guest, name string) {
	if p.node != nil {
		p.turn(g.loop) // a reservation that is in the inbox is no subscription yet
	}
	if p.random.IntN(2) == 0 {
		g.flush(math.MaxInt)
		g.pull(p.t)
	}
	if g.out.Empty() {
		g.Left(name)
	}
	g.unsubscribe(name)
	delete(g.asked, name)
}

// turn lets a loop do its tasks, and notes who was given a list.
func (p *party) turn(l *loop) {
	waiting := p.hub.desks[l.index]
	before := slices.Collect(waiting.All)
	l.outs.EndTurn()
	l.runTasks()
	for _, s := range before {
		for _, g := range p.guests {
			if !waiting.Waits(s) && g.find([]byte(s.Name())) == s {
				g.Answered(s.Name())
			}
		}
	}
	l.dirty, l.later = l.dirty[:0], l.later[:0]
}

func (p *party) serve(l *loop, share int) {
	if l.flows.Jobs() > 0 {
		l.serveNext(share)
		l.dirty, l.later = l.dirty[:0], l.later[:0]
	}
}

func (p *party) publish(g *guest, name string) {
	c := p.courses[g.app][name]
	b := newEventBroadcast(g.app, []byte("e"), strconv.AppendInt(nil, int64(len(*c)), 10), name, "",
		protocol.SocketID{}, time.Now(), false)
	if p.random.IntN(4) == 0 {
		b.except = g.id
	}
	*c = append(*c, b.except.String())
	p.hub.channels.Publish(g.app.channels, channelName(name), b, b.except, true, b.at)
}

func listsAndEvents(t *testing.T, seed uint64, inCluster bool) {
	p := &party{foyer: newFoyer(t, 40_000), random: rand.New(rand.NewPCG(seed, 1)),
		courses: map[*app]map[string]*witness.Course{}}
	channels := []string{"presence-a", "presence-cache-b", "news"}
	if inCluster {
		channels, p.node = []string{"a", "b", "news"}, new(fakenode.Node)
		p.hub.engine = engine.New(p.hub.replica, p.node)
	}
	for _, a := range p.apps {
		p.courses[a] = map[string]*witness.Course{channels[0]: {}, channels[1]: {}, channels[2]: {}}
	}
	for i := range 40 {
		p.guests = append(p.guests, p.arrive(i))
	}
	for range 2000 {
		i := p.random.IntN(len(p.guests))
		g, name, l := p.guests[i], channels[p.random.IntN(3)], p.loops[p.random.IntN(2)]
		switch step := p.random.IntN(100); {
		case step < 25:
			p.join(g, name)
		case step < 28:
			p.leave(g, name)
		case step < 31: // both in one turn
			p.leave(g, name)
			p.join(g, name)
		case step < 32: // many at once
			for _, g := range p.guests {
				if p.random.IntN(8) > 0 {
					p.leave(g, name)
				}
			}
		case step < 34:
			if p.random.IntN(2) == 0 {
				g.end()
			} else {
				g.close(endSlow)
				g.out.Clear(&g.loop.outs)
			}
			p.guests[i] = p.arrive(i)
		case step < 44:
			p.publish(g, name)
		case step < 67:
			g.flush([]int{1, 100, 2000, math.MaxInt}[p.random.IntN(4)])
			g.pull(t)
		case step < 77:
			p.turn(l)
		case step < 87:
			p.serve(l, 1+p.random.IntN(10))
		case step < 97 && inCluster && len(p.node.Joins) > 0:
			ready := p.node.Joins[0].Ready
			p.node.Joins = p.node.Joins[1:]
			ready()
		default:
			time.Sleep(time.Millisecond) // in the bubble
			synctest.Wait()
		}
	}
	for range 500 {
		for _, l := range p.loops {
			for p.turn(l); l.flows.Jobs() > 0; {
				p.serve(l, 1000)
			}
		}
		for _, g := range p.guests {
			g.flush(math.MaxInt)
			g.pull(t)
		}
		time.Sleep(time.Millisecond) // in the bubble
		synctest.Wait()
	}
	for _, g := range p.guests {
		for s := range g.subscriptions.All {
			name, members := s.Name(), map[string]bool{}
			for _, m := range p.hub.Users(t.Context(), g.app, channelName(name)) {
				members[m.ID] = true
			}
			if err := g.Missing(name, members); err != nil {
				t.Error(err)
			}
		}
		if n := g.app.undelivered.Load(); n != 0 {
			t.Errorf("%d bytes are still counted as undelivered", n)
		}
	}
	checkLists(t, p.hub)
}

// A connection whose socket takes nothing has no list; one that asks again and again gets one
// list a turn.
func TestListsAreGivenWhenTheyAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFoyer(t, maxListBytes)
		made := f.hub.lists.Encoded
		data := func(i int) string { return `{"user_id":"` + strconv.Itoa(i) + `","user_info":{}}` }
		for i := range 20 { // half of them on each loop
			f.enter(0, i%2).subscribe("presence-x", data(i))
		}
		if f.turn(); made() != 0 {
			t.Errorf("%d lists were made for sockets that take nothing", made())
		}
		for _, v := range f.all[:10] {
			v.flush(math.MaxInt)
		}
		if f.turn(); made() != 1 {
			t.Errorf("%d lists were made for 10 who joined at once, want 1", made())
		}
		v, before := f.all[0], made()
		for i := range 20 {
			for range 100 {
				// another list each turn
				v.subscribe("presence-x", `{"user_id":"0","user_info":`+strconv.Itoa(i)+`}`)
			}
			v.flush(math.MaxInt)
			f.turn()
			v.flush(math.MaxInt)
		}
		if n := made() - before; n > 40 {
			t.Errorf("%d lists were made in 20 turns for one who asks again and again", n)
		}
		for _, v := range f.all {
			if v.state == connOpen {
				v.end()
			}
		}
		f.settle()
	})
}

// The cluster drops topics one by one, also those of an app that is configured no more.
func TestChannelsOfAFormerAppGo(t *testing.T) {
	a, b := testApp(nil), testApp(nil)
	b.ID, b.Key = "other", "other-key"
	ls := testLoops(t, 1)
	h := newHub([]*config.App{a, b}, ls, new(testProgram))
	first := h.reloadable.Load().ByID["other"]
	h.replica.Snapshot("other:presence-x", []string{"7"}, []string{"{}"}, "", 0)
	users := func() int { return len(first.Users(channelName("presence-x"))) }
	if n := users(); n != 1 {
		t.Fatalf("%d users, want 1", n)
	}
	h.configure([]*config.App{a}, config.Limits{})
	h.replica.Dropped("other:presence-x")
	if users() != 0 || !first.gone.Load() || h.reloadable.Load().ByKey["other-key"] != nil {
		t.Errorf("%d users of the former app are left", users())
	}
	h.configure([]*config.App{a, b}, config.Limits{})
	if tables := h.reloadable.Load(); tables.ByKey["other-key"] != first || first.gone.Load() ||
		len(tables.Former) != 0 {
		t.Error("the app did not come back as the one that it was")
	}
}

// A connection that never got in is not counted off.
func TestAddressOfAnAppThatIsGone(t *testing.T) {
	w := newCrowd(t, 0)
	w.hub.configure([]*config.App{w.app.settings.Load().App}, config.Limits{PerAddress: 2})
	stays, goes := w.addClient(), w.addClient()
	stays.setRemote("192.0.2.1")
	goes.setRemote("192.0.2.1:2")
	stays.handleOpen(0)
	w.app.gone.Store(true)
	goes.handleOpen(0)
	if n := w.hub.addresses.Len(); n != 1 {
		t.Errorf("%d addresses are counted, want that of the connection that stays", n)
	}
	stays.handleClosed(endPeerGone)
	if n := w.hub.addresses.Len(); n != 0 {
		t.Errorf("%d addresses are counted", n)
	}
}

// A loop that is far behind and does not answer keeps nobody waiting: the apps whose events it
// has are held. A scene of behind.txt has the rest.
func TestRelieveWithoutAnAnswer(t *testing.T) {
	w := newCrowd(t, 0)
	other := testApp(func(a *config.App) { a.ID, a.Key = "other", "other-key" })
	w.hub.configure([]*config.App{w.app.settings.Load().App, other}, config.Limits{})
	second := w.hub.reloadable.Load().ByID["other"]
	second.undelivered.Store(maxUndelivered/16 + 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	relief := w.hub.relief()
	if n := relief.Make(ctx); n != 0 || w.app.held.Load() || !second.held.Load() ||
		!letsIn(ctx, w.hub, w.app) || letsIn(ctx, w.hub, second) {
		t.Error("the app alone is to be held that has events on a loop that does not answer")
	}
	w.app.held.Store(true)
	w.hub.configure([]*config.App{other}, config.Limits{}) // the app may come back
	if relief.Unhold(); w.app.held.Load() || second.held.Load() {
		t.Error("an app is held for ever")
	}
	c := w.addClient() // it may have read meanwhile
	c.send(make([]byte, 1000))
	if c.shedQueue(); c.state != connOpen {
		t.Error("a connection is closed for which little waits")
	}
}

// letsIn says whether an event of a may be published.
func letsIn(ctx context.Context, h *hub, a *app) bool {
	_, bad := h.Publish(ctx, a, nil, nil, time.Now())
	return bad == nil
}

// Events that wait count with what they take if nobody reads them.
func TestCrowded(t *testing.T) {
	w := newCrowd(t, 100)
	w.publish(w.app, pingEvent())
	if w.loop.group.load.Crowded() {
		t.Error("crowded without a limit")
	}
	w.loop.group.load.SetRoom(w.loop.group.load.Claimed(), 0)
	n := 0
	for ; !w.loop.group.load.Crowded(); n++ {
		w.publish(w.app, pingEvent())
	}
	if took := n * 100 * outqueue.LinkBytes; took < load.LeastRoom/2 || took > load.LeastRoom {
		t.Errorf("%d events to 100 members are let in for %d bytes", n, load.LeastRoom)
	}
	before := w.loop.group.load.Claimed()
	for w.loop.runTasks(); w.loop.flows.Jobs() > 0; {
		w.loop.serveNext(flowShare) // what waited for the loop waits for the peers now
	}
	after, links := w.loop.group.load.Claimed(), w.loop.outs.Links()
	if !w.loop.group.load.Crowded() && after < before*9/10 || links != (n+1)*100 ||
		w.loop.load.Owed() != 0 {
		t.Errorf("%d bytes are claimed then, %d before, %d slices wait", after, before, links)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.loop.group.load.SetRoom(w.loop.group.load.Claimed()-load.LeastRoom-1, 0)
	if letsIn(ctx, w.hub, w.app) {
		t.Error("an event is let in although there is no room")
	}
	w.loop.group.load.SetRoom(w.loop.group.load.Claimed(), 1<<30)
	if !letsIn(ctx, w.hub, w.app) {
		t.Error("no event is let in although there is room")
	}
}

// crowd is a loop that does not run, with subscribers of one channel. Their send queues
// take everything; no socket is there.
type crowd struct {
	hub     *hub
	loop    *loop
	app     *app
	clients []*client
}

func newCrowd(t testing.TB, members int) *crowd {
	t.Helper()
	ls := testLoops(t, 1)
	h := newHub([]*config.App{testApp(nil)}, ls, new(testProgram))
	w := &crowd{hub: h, loop: ls.all[0], app: h.reloadable.Load().ByID["app-id"]}
	for range members {
		w.clients = append(w.clients, w.addMember(w.app))
	}
	return w
}

// addClient adds a connection without a subscription.
func (w *crowd) addClient() *client { return enter(w.loop, w.app) }

// addMember adds a subscriber of the app's channel news.
func (w *crowd) addMember(a *app) *client {
	c := enter(w.loop, a)
	s, _, _ := w.hub.engine.Join(a, c.place(channelName("news"), nil))
	c.subscriptions.Add(s)
	return c
}

// publish publishes on the app's channel news.
func (w *crowd) publish(a *app, b *broadcast) {
	b.app = a
	w.hub.engine.Publish(a, channelName("news"), b, false, nil, nil)
}

// pingEvent is a small event.
func pingEvent() *broadcast {
	return (*app)(nil).Event(messagePing, protocol.SocketID{}, time.Now())
}

// connect gives every client a socket, wrapped if wrap says how, and returns the other ends.
// They are closed after the test.
func (w *crowd) connect(
	t *testing.T, wrap ...func(ours, theirs net.Conn) net.Conn,
) (peers []net.Conn) {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	w.loop.poller = p
	fakesockets.Pairs(t, len(w.clients), func(i int, ours, peer net.Conn) {
		c := w.clients[i]
		for _, f := range wrap {
			ours = f(ours, peer)
		}
		if c.sock, err = p.Add(ours, c.token()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if c.state != connClosed {
				c.sock.Close(p)
			}
		})
		c.blocked = false
		peers = append(peers, peer)
	})
	return peers
}

// poll waits until a socket is ready, and does what it asks for.
func (w *crowd) poll(t *testing.T) {
	events := make([]poll.Event, 64)
	n, err := w.loop.poller.Wait(events, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range events[:n] {
		w.loop.handleEvent(ev)
	}
}

// work does what waits in the inbox. All that is to be written then is on dirty.
func (w *crowd) work() {
	w.loop.runTasks()
	for w.loop.flows.Jobs() > 0 {
		w.loop.deliver(time.Now())
		w.gather()
	}
}

// gather puts on dirty what a fan-out has touched.
func (w *crowd) gather() {
	l := w.loop
	if len(l.dirty) == 0 {
		l.dirty, l.later = l.later, l.dirty
	}
	l.dirty = append(l.dirty, l.later...)
	l.later = l.later[:0]
}

// turn does what waits in the inbox, and empties the send queues as if the sockets had
// taken everything. It returns how many connections were sent something.
func (w *crowd) turn() (sent int) {
	w.work()
	return w.settle()
}

// settle empties the send queues.
func (w *crowd) settle() (sent int) {
	l := w.loop
	w.gather()
	for _, c := range l.dirty {
		if !c.out.Empty() {
			sent++
		}
		c.out.Written(&l.outs, c.out.Bytes())
		c.dirty = false
	}
	l.dirty = l.dirty[:0]
	return sent
}

// BenchmarkBroadcast is one event to the subscribers of one loop, through their send
// queues, without what the system does.
func BenchmarkBroadcast(b *testing.B) {
	const members = 1000
	w := newCrowd(b, members)
	message := protocol.AppendEvent(nil, "e", []byte(`"`+strings.Repeat("x", 200)+`"`), "news", "")
	b.ReportAllocs()
	for b.Loop() {
		w.publish(w.app, (*app)(nil).Event(message, protocol.SocketID{}, time.Time{}))
		w.turn()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/members, "ns/delivery")
}

// A client that the cluster lets in is told so before anybody can publish what it shall
// hear: its loop is asked under the lock under which events get their numbers.
func TestLettingInIsOrdered(t *testing.T) {
	w, node := newCrowd(t, 0), new(fakenode.Node)
	w.hub.engine = engine.New(w.hub.replica, node)
	c := w.addClient()
	c.subscribe(protocol.Subscription{Channel: "a"})
	release := w.loop.inbox.Hold() // nothing can be posted
	done := make(chan struct{})
	go func() {
		node.Joins[0].Ready()
		close(done)
	}()
	for w.app.figures().Kinds[0].Subscribed == 0 {
		runtime.Gosched()
	}
	looked := make(chan struct{})
	go func() {
		w.app.Stats(channelName("a"), time.Now())
		close(looked)
	}()
	for range 2000 {
		select {
		case <-looked:
			t.Fatal("an event can be published between the two")
		default:
			runtime.Gosched()
		}
	}
	release()
	<-done
	if w.loop.inbox.Len() != 1 {
		t.Errorf("%d tasks were posted, want 1", w.loop.inbox.Len())
	}
}

// A delivery allocates nothing: neither through the send queues, nor written at once
// to a socket.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	w := newCrowd(t, 100)
	b := pingEvent()
	if n := testing.AllocsPerRun(100, func() {
		w.publish(w.app, b)
		sent, f := w.turn(), w.app.figures()
		if sent != len(w.clients) || f.SentBytes != f.Sent*uint64(len(messagePing)) {
			t.Fatalf("%d of %d got the event: %+v", sent, len(w.clients), f)
		}
	}); n != 0 {
		t.Errorf("through the send queues: %v allocations for %d deliveries", n, len(w.clients))
	}
	w = newCrowd(t, 2*maxTogether+1)
	peers := w.connect(t)
	var reading sync.WaitGroup
	for _, peer := range peers {
		reading.Go(func() {
			io.Copy(io.Discard, peer) // until it is closed below
		})
	}
	n := testing.AllocsPerRun(100, func() {
		w.publish(w.app, b)
		w.work()
		if len(w.loop.dirty) > 0 {
			t.Fatal("what could be written at once was queued")
		}
	})
	for _, c := range w.clients {
		c.sock.CloseWrite(w.loop.poller)
	}
	reading.Wait()
	if runtime.GOOS == "linux" && n != 0 { // elsewhere sockets have goroutines and buffers
		t.Errorf("written at once: %v allocations for %d deliveries", n, len(w.clients))
	}
}

// An event reaches every socket as a whole, those that take none or some of it at
// first too.
func TestBroadcastWaitsForFullSockets(t *testing.T) {
	w := newCrowd(t, 2*maxTogether+1)
	l := w.loop
	before := make([]int, len(w.clients)) // bytes that a peer gets before the event
	peers := w.connect(t)
	for i := 3; i < len(before); i += 7 {
		for err := error(nil); err == nil; {
			var n int
			n, err = w.clients[i].sock.Write(l.poller, make([]byte, 1<<16))
			before[i] += n
		}
	}
	b := (*app)(nil).Event(bytes.Repeat([]byte("event "), 100_000), protocol.SocketID{}, time.Now())
	w.publish(w.app, b)
	w.work()
	for i, c := range w.clients {
		if c.out.Empty() {
			t.Errorf("socket %d has taken %d bytes at once", i, len(b.plain))
		}
	}
	var left atomic.Int32
	for i, peer := range peers {
		left.Add(1)
		go func() {
			defer l.poller.Wake()
			defer left.Add(-1)
			got := make([]byte, before[i]+len(b.plain))
			if _, err := io.ReadFull(peer, got); err != nil ||
				!bytes.Equal(got[before[i]:], b.plain) {
				t.Errorf("member %d did not get the event as it is: %v", i, err)
			}
		}()
	}
	for l.flush(); left.Load() > 0; l.flush() {
		w.poll(t)
	}
}

// lateBytes is a supplier that notes what it is told.
type lateBytes struct{ wanted, dropped int }

func (b *lateBytes) Wanted()  { b.wanted++ }
func (b *lateBytes) Dropped() { b.dropped++ }

// Supplied bytes that are too many for a turn are written in the next one, which comes at
// once; bytes that were queued go out.
func TestSuppliedBytesHaveAShare(t *testing.T) {
	w := newCrowd(t, 2)
	peers, l := w.connect(t), w.loop
	late, other := w.clients[0], w.clients[1]
	from := new(lateBytes)
	place := late.queueSupply(from)
	l.flush()
	late.supply(place, []byte("late"), nil)
	other.send([]byte("other"))
	others, large := new(outqueue.Queue), make([]byte, outqueue.TurnBytes) // have had the share
	others.Supply(&l.outs, others.PushPlace(&l.outs, new(lateBytes)), large, nil)
	others.Written(&l.outs, len(large))
	late.flush()
	late.dirty = true
	l.flush()
	if from.wanted != 1 || from.dropped != 0 || place.Left() != 4 || !other.out.Empty() {
		t.Fatalf("the supplier was told %+v, %d bytes are left, the other has its bytes: %v", from,
			place.Left(), other.out.Empty())
	}
	if len(l.deferred) != 1 || l.pending() {
		t.Errorf("%d connections wait for the next turn", len(l.deferred))
	}
	if l.endTurn(time.Now()); !l.pending() || l.timeout() != 0 || len(l.deferred) != 0 {
		t.Errorf("%d connections wait, the next turn comes after %v", len(l.deferred), l.timeout())
	}
	if l.flush(); from.dropped != 1 || l.pending() {
		t.Errorf("in its turn the supplier was told %+v", from)
	}
	for i, want := range []string{"late", "other"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(peers[i], got); string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

// A socket that is full is not written to before it says that it takes more.
func TestFullSocketIsLeftAlone(t *testing.T) {
	w := newCrowd(t, 1)
	peer, c := w.connect(t)[0], w.clients[0]
	sent := 0
	for !c.blocked {
		c.send(make([]byte, 1<<16))
		c.flush()
		sent += 1 << 16
	}
	if _, err := io.ReadFull(peer, make([]byte, sent-c.out.Bytes())); err != nil {
		t.Fatal(err)
	}
	queued := c.out.Bytes()
	c.send(make([]byte, 10))
	c.flush()
	if n := c.out.Bytes(); n != queued+10 {
		t.Errorf("%d bytes wait, want %d", n, queued+10)
	}
	for !c.out.Empty() || c.blocked {
		w.poll(t)
		c.flush()
	}
	if _, err := io.ReadFull(peer, make([]byte, queued+10)); err != nil {
		t.Error(err)
	}
}

// After a pause of the whole process an answer that came in time waits to be read.
func TestAnswerThatWaits(t *testing.T) {
	w := newCrowd(t, 1)
	peer, c, l := w.connect(t)[0], w.clients[0], w.loop
	c.pinged, c.pingTick = true, 1
	io.WriteString(peer, maskedFrame(opPong, true, 0, ""))
	if _, err := l.poller.Wait(make([]poll.Event, 4), -1); err != nil {
		t.Fatal(err)
	}
	l.now = 1 + seconds(c.app.settings.Load().ActivityTimeout)
	c.handleDeadline(l.now)
	if c.state != connOpen || c.pinged {
		t.Fatal("it was not seen")
	}
	c.pinged, c.pingTick = true, l.now+1
	l.now += 1 + seconds(c.app.settings.Load().ActivityTimeout)
	c.handleDeadline(l.now)
	if c.state != connClosing {
		t.Error("a connection that does not answer stays")
	}
}

// A client event allocates its bytes and the task that carries them, and nothing for
// the frame it came in.
func TestClientEventAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, newCrowd(t, 10).clientEvent(t)); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

// clientEvent is a client event that can be repeated.
func (w *crowd) clientEvent(t testing.TB) func() {
	frame := maskedFrame(opText, true, 0,
		`{"event":"client-typing","channel":"news","data":{"who":"somebody with a long name"}}`)
	buf := make([]byte, len(frame))
	return func() {
		copy(buf, frame)
		w.clients[0].receive(buf)
		if sent := w.turn(); sent != len(w.clients)-1 || w.clients[0].state != connOpen {
			t.Fatalf("%d of %d got the event", sent, len(w.clients)-1)
		}
	}
}

// publisher is a signed publish that can be repeated.
func (w *crowd) publisher(t testing.TB) func() {
	t.Helper()
	set := w.app.settings.Load()
	body := `{"name":"App\\Events\\Changed","data":"{\"id\":1,\"text\":\"` +
		strings.Repeat("x", 200) + `\"}","channels":["news"]}`
	again := conversation.NewAgain(conversation.App{Key: set.Key, Secret: set.Secret}, "POST",
		"/apps/app-id/events", body, time.Now())
	return func() {
		again.Send(w.hub)
		if again.Status != 200 || string(again.Body) != "{}" {
			t.Fatalf("got %d %s", again.Status, again.Body)
		}
		if sent := w.turn(); sent != len(w.clients) {
			t.Fatalf("%d of %d got the event", sent, len(w.clients))
		}
	}
}

// A publish allocates a handful beyond what net/http does.
func TestPublishAllocations(t *testing.T) {
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	if b, ok := debug.ReadBuildInfo(); ok && slices.Contains(b.Settings, race) {
		t.Skip("sync.Pool forgets at random where races are looked for")
	}
	if n := testing.AllocsPerRun(100, newCrowd(t, 3).publisher(t)); n > 10 {
		t.Errorf("%v allocations, want at most 10", n)
	}
}

// BenchmarkPublish is a signed publish to three members, without net/http.
func BenchmarkPublish(b *testing.B) {
	publish := newCrowd(b, 3).publisher(b)
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}

// BenchmarkClientEvent is a client event from its frame to nine send queues.
func BenchmarkClientEvent(b *testing.B) {
	send := newCrowd(b, 10).clientEvent(b)
	b.ReportAllocs()
	for b.Loop() {
		send()
	}
}

// --- main.go ---

// loadConfig loads and judges what env sets, at a time of its own.
func loadConfig(env []string) *config.Config {
	c := config.Load(env, nil, files())
	judge(c, time.Unix(1_800_000_000, 0))
	return c
}

// TestCommandLine has what the commands do of a line that the program cannot follow.
func TestCommandLine(t *testing.T) {
	var out, errs bytes.Buffer
	for _, c := range commands.Table() {
		line := commands.Line{Command: c.Name, Words: make([]string, c.Min)}
		if (runs()[c.Name] != nil) == commands.Answer(io.Discard, nil, &line, "") {
			t.Errorf("%s is run by main and answered by the room, or by neither", c.Name)
		}
	}
	for _, line := range []string{"nope", "start x", "health x", "check x", "restart x"} {
		args := strings.Fields(line)
		if code := run(context.Background(), args, nil, &out, &errs); code != exitUsage {
			t.Errorf("%q: got %d", args, code)
		}
	}
	errs.Reset()
	code := run(context.Background(), nil, []string{"REVERB_ENV_FILE=/dev/null"}, &out, &errs)
	if code != exitUsage || !strings.Contains(errs.String(), "REVERB_APP_SECRET=") {
		t.Errorf("no app: got %d, %s", code, errs.String())
	}
}

// anyPort is how a server runs on a port of its own.
func anyPort() []string {
	return []string{
		"REVERB_ENV_FILE=/dev/null", "REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s",
		"REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0"}
}

// TestQuiet holds that artisan's -q lets nothing be said but errors.
func TestQuiet(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out, errs bytes.Buffer
	args := []string{"reverb:start", "--quiet", "--no-interaction"}
	env := append(anyPort(), "REVERB_SERVR=1")
	if code := run(ctx, args, env, &out, &errs); code != exitOK || out.Len()+errs.Len() > 0 {
		t.Errorf("quiet: got %d, %s%s", code, out.String(), errs.String())
	}
}

// TestRun is the whole program: it listens, serves, without a goroutine for each connection, and
// stops when asked.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	env := anyPort()
	pr, pw := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, nil, env, io.Discard, pw)
		pw.Close()
	}()
	address := ""
	lines := bufio.NewScanner(pr)
	for address == "" && lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "listening on 127.0.0.1:"); ok {
			address = after[:strings.IndexAny(after, `" `)]
		}
	}
	go io.Copy(io.Discard, pr)
	connectMany(t, "127.0.0.1:"+address)
	at := append(slices.Clone(env[:5]), "REVERB_SERVER_PORT="+address)
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"health"}, at, &out, &errs); code != exitOK {
		t.Errorf("health: got %d, %s", code, errs.String())
	}
	listening, heard := io.Pipe()
	lctx, stopListening := context.WithCancel(ctx)
	listened := make(chan int, 1)
	go func() {
		listened <- run(lctx, []string{"listen", "--join", "presence-x"}, at, heard, io.Discard)
		heard.Close()
	}()
	said := bufio.NewScanner(listening)
	said.Scan()
	trigger := []string{"trigger", "presence-x", "my-event", `{"n":1}`}
	if code := run(ctx, trigger, at, &out, &errs); code != exitOK {
		t.Errorf("trigger: got %d, %s", code, errs.String())
	}
	if said.Scan(); said.Text() != `presence-x my-event {"n":1}` {
		t.Errorf("heard %q", said.Text())
	}
	for _, command := range operator.Commands() {
		args := []string{command, "presence-x"}[:1+map[string]int{"users": 1}[command]]
		want := map[string]int{"kick": exitUsage, "trace": exitUsage}[command] // of whom?
		if code := run(ctx, args, at, &out, &errs); code != want {
			t.Errorf("%s: got %d, want %d: %s", args, code, want, errs.String())
		}
	}
	stopListening()
	if code := <-listened; code != exitOK {
		t.Errorf("listen: got %d", code)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("start: got %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}

// connectMany has many clients connect, and counts goroutines where sockets are the kernel's.
func connectMany(t *testing.T, address string) {
	const n = 100
	before := runtime.NumGoroutine()
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /app/k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
			"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
			"Sec-WebSocket-Version: 13\r\n\r\n")
		if got, err := bufio.NewReader(c).ReadString('}'); err != nil ||
			!strings.Contains(got, " 101 ") {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	// The last request's goroutine may still be on its way out.
	for i := 0; runtime.NumGoroutine() > before+n/10 && i < 1_000_000; i++ {
		runtime.Gosched()
	}
	after := runtime.NumGoroutine()
	if after > before+n/10 && runtime.GOOS == "linux" { // only epoll does without
		t.Errorf("%d goroutines with %d connections, %d without", after, n, before)
	}
}

// --- redis.go ---

// TestRedis plays test/testdata/redis/*.txt, where the lines are explained.
func TestRedis(t *testing.T) {
	conversation.Each(t, "test/testdata/redis", func(t *testing.T, s *conversation.Scene) {
		servers := fakeredis.NewNamed(t)
		found, failed := "", ""
		options := func(rest string) *redisOptions { // of the variables behind a word
			env := []string{"REVERB_ENV_FILE=/dev/null", "REVERB_SCALING_ENABLED=true"}
			c := loadConfig(append(env, strings.Fields(servers.Addresses(rest))[1:]...))
			o, err := newRedisOptions(&c.Redis)
			if err != nil || len(c.Problems) > 0 {
				t.Fatal(err, c.Problems)
			}
			return o
		}
		tell := func(what string, err error) (got, want string) {
			if found, failed = servers.Names(what), ""; err != nil {
				failed = servers.Names(err.Error())
			}
			return "", ""
		}
		var open cluster.Link
		verbs := conversation.Verbs{
			"logs": func(rest string) (got, want string) {
				conn, err := dialRedis(t.Context(), options(rest))
				if err != nil {
					return tell("", err)
				}
				defer conn.nc.Close()
				return tell(conn.nc.RemoteAddr().String(), nil)
			},
			"probes": func(rest string) (got, want string) {
				found, lacks, err := probeRedis(t.Context(), options(rest))
				return tell(strings.TrimSpace(lacks+" "+found), err)
			},
			"opens": func(rest string) (got, want string) {
				var err error
				d := &redisDialer{options: options(rest)}
				if open, err = d.Dial(t.Context(), []string{"return 1"}); err == nil {
					t.Cleanup(func() { open.Fail(io.EOF); open.Wait() })
				}
				return tell("", err)
			},
			"session": func(rest string) (got, want string) {
				replies, pushes := open.Batches()
				switch verb, words, _ := strings.Cut(rest, " "); verb {
				case "has":
					version, masters, byBucket := open.Layout()
					return fmt.Sprint(version, " ", masters, byBucket), words
				case "asks":
					open.Command(0, strings.Fields(words)...)
					open.Flush()
					return tell((<-replies).Replies[0].Text, nil)
				default:
					open.Subscription(0, strings.Fields(words)...)
					open.Flush()
					return tell((<-pushes).Replies[0].Text, nil)
				}
			},
			"ends": func(rest string) (got, want string) {
				<-open.Done()
				return servers.Names(open.Err().Error()), rest
			},
			"finds":   func(rest string) (got, want string) { return found, rest },
			"reaches": func(rest string) (got, want string) { return found, "@" + rest },
			"fails":   func(rest string) (got, want string) { return failed, rest },
		}
		maps.Copy(verbs, servers.Verbs())
		s.Play(t, &conversation.Server{Verbs: verbs})
	})
}

// --- tls.go ---

// TestJudgement plays test/testdata/judgement/*.txt: what is said of a configuration, a
// line each, and nothing else. In the scenes DIR is a folder with
// selfsigned.Files.
func TestJudgement(t *testing.T) {
	dir := t.TempDir()
	selfsigned.Files(t, dir, time.Unix(1_800_000_000, 0))
	conversation.Each(t, "test/testdata/judgement", func(t *testing.T, s *conversation.Scene) {
		env := []string{"REVERB_ENV_FILE=/dev/null"}
		for _, setting := range s.Settings {
			if env = append(env, strings.ReplaceAll(setting, "DIR", dir)); setting == "an app" {
				env = append(env[:len(env)-1], "REVERB_APP_ID=1", "REVERB_APP_KEY=k",
					"REVERB_APP_SECRET=s")
			}
		}
		c := loadConfig(env)
		if said := fmt.Sprint(c.Problems, c.Warnings, c.Notes); strings.Contains(said, "PA55") {
			t.Errorf("%s: a password shows in %s", s.Title, said)
		}
		next := func(lines *[]string) func(string) (got, want string) {
			return func(rest string) (got, want string) {
				if len(*lines) > 0 {
					got, *lines = strings.ReplaceAll((*lines)[0], dir, "DIR"), (*lines)[1:]
				}
				return got, rest
			}
		}
		var apps []string
		for _, a := range c.Apps {
			apps = append(apps, a.ID+" "+a.Key+" "+a.Secret)
		}
		s.Play(t, &conversation.Server{Verbs: conversation.Verbs{
			"problem": next(&c.Problems), "warning": next(&c.Warnings), "app": next(&apps)}})
		if len(c.Problems)+len(c.Warnings) > 0 && !t.Failed() {
			t.Errorf("%s: %s: said too: %q, %q", s.File, s.Title, c.Problems, c.Warnings)
		}
	})
}

// A call that has ended connects to nothing.
func TestAskerEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newAsker(&config.Redis{})(ctx, config.RedisAddress{}, "PING"); err != ctx.Err() {
		t.Errorf("%v", err)
	}
}

// TestSpare reserves descriptors for webhooks only where there are any.
func TestSpare(t *testing.T) {
	told := &config.Config{Apps: []*config.App{{}, {Webhooks: []*webhooks.Hook{{}}}}}
	if a, b := spare(&config.Config{Apps: []*config.App{{}}}), spare(told); a != 64 || b != 192 {
		t.Errorf("got %d and %d descriptors", a, b)
	}
}
