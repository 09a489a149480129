package history

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/protocol"
)

type event struct {
	name   int
	size   int
	except protocol.SocketID
	at     string
}

func (e *event) Size() int                 { return e.size }
func (e *event) Except() protocol.SocketID { return e.except }
func (e *event) Stamp(at Offset)           { e.at = string(at[:]) }

var start = time.Unix(1_800_000_000, 0)

func newTestApp(r *Rings[*event], id string) *App[*event] {
	a := r.App(id)
	a.Configure("secret of "+id, time.Minute, start)
	return a
}

func (r *Rings[E]) reason(f func()) (why reason) {
	var before [reasons]uint64
	for i := range before {
		before[i] = r.not[i].Load()
	}
	f()
	for i := range before {
		if r.not[i].Load() > before[i] {
			return reason(i)
		}
	}
	return recovered
}

// whole checks that the lists, counts and bytes of the rings fit together.
func whole(t *testing.T, r *Rings[*event], apps ...*App[*event]) {
	t.Helper()
	all := 0
	for _, a := range apps {
		bytes, entries := 0, 0
		for name, g := range a.rings {
			bytes += ringBytes + 2*len(name)
			n := 0
			for e := g.first; e != nil; e = e.next {
				if n++; e.number != g.last-uint64(g.count-n) || e.next == nil && g.end != e {
					t.Fatalf("%s: event %d is no %d of %d up to %d", name, e.number, n, g.count,
						g.last)
				}
				bytes += entryBytes + e.event.size
			}
			if entries += n + 1; n != g.count || n > r.limits.Events {
				t.Fatalf("%s: %d events, counted %d", name, n, g.count)
			}
		}
		last := int64(0)
		for e := a.oldest; e != nil; e = e.newer {
			if entries--; e.at < last || e.gone {
				t.Fatal("the order of an app is wrong")
			}
			last = e.at
		}
		if entries != 0 || bytes != a.bytes {
			t.Fatalf("%d entries too many, %d bytes, counted %d", entries, bytes, a.bytes)
		}
		all += bytes
	}
	if all != r.bytes || int64(r.bytes+r.pinned) > r.limits.Bytes && r.bytes > 0 || r.pinned < 0 {
		t.Fatalf("%d bytes, counted %d, pinned %d of %d", all, r.bytes, r.pinned, r.limits.Bytes)
	}
}

// A client gets exactly what it has missed, in order, or is told that it cannot, whatever happens
// meanwhile; and when there is room and time it gets it.
func TestExactly(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		roomy := seed%2 == 0
		limits := Limits{Events: 10, Bytes: 20_000}
		if roomy {
			limits = Limits{Events: 1 << 20, Bytes: 1 << 30}
		}
		r := New[*event](limits)
		apps := []*App[*event]{newTestApp(r, "a"), newTestApp(r, "b")}
		type channel struct {
			app  *App[*event]
			name string
			all  []*event
		}
		var channels []*channel
		for i := range 6 {
			channels = append(channels, &channel{app: apps[i%2], name: fmt.Sprint("c", i)})
		}
		type client struct {
			of            *channel
			epoch, offset string
			has           int // of all
			id            protocol.SocketID
		}
		var clients []*client
		var replays []*missed[*event]
		now, recovered := start, 0
		for range 2000 {
			if !roomy || random.IntN(1000) == 0 {
				now = now.Add(time.Duration(random.IntN(500)) * time.Millisecond)
			}
			ch := channels[random.IntN(len(channels))]
			switch k := random.IntN(10); {
			case k < 5:
				e := &event{name: len(ch.all), size: random.IntN(300)}
				if len(clients) > 0 && random.IntN(3) == 0 {
					e.except = clients[random.IntN(len(clients))].id
				}
				ch.app.Append(ch.name, e, true, now)
				ch.all = append(ch.all, e)
			case k == 5:
				ask := &asked{Mark: ch.app.Mark(ch.name, now)}
				var answer reply
				if r.reason(func() { answer, _ = ch.app.resume(ch.name, ask, now) }) != started {
					t.Fatal("a client that begins is not told so")
				}
				clients = append(clients, &client{ch, answer.Epoch, answer.Offset, len(ch.all),
					protocol.NewSocketID()})
			case k == 6 && len(clients) > 0: // it has got some more
				c := clients[random.IntN(len(clients))]
				if n := random.IntN(len(c.of.all) - c.has + 1); n > 0 {
					if epochOf(r, c.of.app, c.of.name) == c.epoch {
						c.has, c.offset = c.has+n, c.of.all[c.has+n-1].at
					}
				}
			case k == 7:
				ch.app.Vacant(ch.name, now)
			case k == 8 && len(replays) > 0: // a slow client goes on, or away
				i := random.IntN(len(replays))
				if random.IntN(2) == 0 {
					replays[i].close()
				} else if replays[i].next(200); !replays[i].done() {
					break
				}
				replays = slices.Delete(replays, i, i+1)
			case len(clients) > 0:
				c := clients[random.IntN(len(clients))]
				ask := &asked{Epoch: c.epoch, Offset: c.offset, Sockets: []protocol.SocketID{c.id},
					Mark: c.of.app.Mark(c.of.name, now)}
				answer, replay := c.of.app.resume(c.of.name, ask, now)
				if roomy && !answer.Recovered {
					t.Fatalf("seed %d: not recovered with room and time", seed)
				}
				if answer.Recovered {
					recovered++
					var want []*event
					for _, e := range c.of.all[c.has:] {
						if e.except != c.id {
							want = append(want, e)
						}
					}
					var got []*event
					if replay != nil {
						for _, n := range replay.left {
							got = append(got, n.event)
						}
					}
					if !slices.Equal(got, want) {
						t.Fatalf("seed %d: got %d events, want %d", seed, len(got), len(want))
					}
				}
				if replay != nil {
					replays = append(replays, replay)
				}
				c.epoch, c.offset, c.has = answer.Epoch, answer.Offset, len(c.of.all)
			}
			whole(t, r, apps...)
		}
		for _, v := range replays {
			v.close()
		}
		if r.pinned != 0 || recovered == 0 {
			t.Errorf("seed %d: %d bytes stay pinned, %d recovered", seed, r.pinned, recovered)
		}
		now = now.Add(time.Hour)
		for _, ch := range channels {
			ch.app.Vacant(ch.name, now.Add(-time.Minute))
		}
		r.expire(now)
		if r.Bytes() != 0 || r.heaviest.Len() != 0 {
			t.Errorf("seed %d: %d bytes stay for ever", seed, r.Bytes())
		}
	}
}

func epochOf(r *Rings[*event], a *App[*event], channel string) string {
	if g := a.rings[channel]; g != nil {
		return epochText(g.epoch)
	}
	return ""
}

// Only a position that was given for this app, channel and epoch counts.
func TestForged(t *testing.T) {
	r := New[*event](Limits{Events: 3, Bytes: 1 << 20})
	a, b := newTestApp(r, "a"), newTestApp(r, "b")
	var all []*event
	for i := range 5 {
		all = append(all, &event{name: i})
		a.Append("x", all[i], true, start)
		a.Append("y", &event{}, true, start)
		b.Append("x", &event{}, true, start)
	}
	why := func(app *App[*event], channel, epoch, offset string) reason {
		ask := &asked{Epoch: epoch, Offset: offset, Mark: app.Mark(channel, start)}
		return r.reason(func() {
			if _, v := app.resume(channel, ask, start); v != nil {
				v.close()
			}
		})
	}
	x, y := epochOf(r, a, "x"), epochOf(r, a, "y")
	at := all[2].at
	flip := []byte(at)
	flip[20] ^= 1
	for name, v := range map[string]struct {
		app                    *App[*event]
		channel, epoch, offset string
		want                   reason
	}{
		"good":            {a, "x", x, at, recovered},
		"the last":        {a, "x", x, all[4].at, recovered},
		"just there":      {a, "x", x, all[1].at, recovered},
		"too old":         {a, "x", x, all[0].at, expired},
		"other channel":   {a, "y", y, at, forged},
		"other app":       {b, "x", epochOf(r, b, "x"), at, forged},
		"other epoch":     {a, "x", y, at, unknown},
		"one bit":         {a, "x", x, string(flip), forged},
		"short":           {a, "x", x, at[:23], forged},
		"empty":           {a, "x", x, "", forged},
		"zeros":           {a, "x", x, strings.Repeat("A", offsetBytes), forged},
		"not base64":      {a, "x", x, strings.Repeat("\n", offsetBytes), forged},
		"padded to begin": {a, "x", "", at, started},
	} {
		if got := why(v.app, v.channel, v.epoch, v.offset); got != v.want {
			t.Errorf("%s: reason %d, want %d", name, got, v.want)
		}
	}
	a.Configure("another secret", time.Minute, start)
	if got := why(a, "x", x, at); got != unknown {
		t.Errorf("a new secret: reason %d", got)
	}
}

// Positions of one epoch differ by app, channel and secret, however the names are cut.
func TestMarks(t *testing.T) {
	seen := map[Offset]string{}
	for _, v := range [][3]string{{"a", "s", "x"}, {"a", "s", "y"}, {"b", "s", "x"},
		{"a", "z", "x"}, {"a", "s", "xy"}, {"as", "s", "x"}, {"ax", "s", "y"}, {"", "s", "ax"}} {
		k := newKeys(v[0], v[1])
		mark := k.mark(v[2], 7)
		at := k.offset(mark, 1)
		if n, ok := k.number(mark, string(at[:])); n != 1 || !ok {
			t.Errorf("%q: got %d, %v", v, n, ok)
		}
		if other := seen[at]; other != "" {
			t.Errorf("%q has an offset of %s", v, other)
		}
		seen[at] = fmt.Sprintf("%q", v)
	}
}

// A replay ends at the mark: what comes after it is live. This holds also if the ring has lost what
// was at the mark.
func TestMark(t *testing.T) {
	r := New[*event](Limits{Events: 3, Bytes: 1 << 20})
	a := newTestApp(r, "a")
	var all []*event
	more := func() {
		e := &event{name: len(all)}
		all = append(all, e)
		a.Append("x", e, true, start)
	}
	more()
	more()
	ask := &asked{Epoch: epochOf(r, a, "x"), Offset: all[0].at, Mark: a.Mark("x", start)}
	more()
	answer, replay := a.resume("x", ask, start)
	if !answer.Recovered || answer.Offset != all[1].at || replay == nil ||
		len(replay.left) != 1 || replay.left[0].event != all[1] {
		t.Errorf("got %+v, %+v", answer, replay)
	}
	for range 3 {
		more()
	}
	if r.pinned == 0 {
		t.Error("an event that is on its way does not count")
	}
	if replay.close(); r.pinned != 0 {
		t.Errorf("%d bytes stay pinned", r.pinned)
	}
	if answer, _ = a.resume("x", ask, start); answer.Recovered {
		t.Error("what is gone was recovered")
	}
	ask.Offset = all[1].at
	if answer, replay = a.resume("x", ask, start); !answer.Recovered || replay != nil {
		t.Errorf("nothing was missed, got %+v, %+v", answer, replay)
	}
}

// What slow clients have still to get is bounded.
func TestCrowded(t *testing.T) {
	r := New[*event](Limits{Events: 100, Bytes: 10_000})
	a := newTestApp(r, "a")
	refused := 0
	for range 50 {
		first := &event{size: 100}
		a.Append("x", first, true, start)
		for range 9 {
			a.Append("x", &event{size: 500}, true, start)
		}
		ask := &asked{Epoch: epochOf(r, a, "x"), Offset: first.at, Mark: a.Mark("x", start)}
		if r.reason(func() { a.resume("x", ask, start) }) == crowded {
			refused++
		}
		whole(t, r, a)
	}
	if refused == 0 || r.Bytes() > 10_000 {
		t.Errorf("%d refused, %d bytes", refused, r.Bytes())
	}
}

// An app that fills the rings pushes out its own events.
func TestFair(t *testing.T) {
	r := New[*event](Limits{Events: 1000, Bytes: 50_000})
	a, b := newTestApp(r, "a"), newTestApp(r, "b")
	for range 10 {
		a.Append("quiet", &event{size: 100}, true, start)
	}
	for i := range 5000 {
		b.Append(fmt.Sprint("loud", i%50), &event{size: 100}, true, start)
	}
	if g := a.rings["quiet"]; g == nil || g.count != 10 {
		t.Error("the quiet app has lost events")
	}
	whole(t, r, a, b)
}

func FuzzParseAsk(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"epoch":"a","offset":"b","sockets":["1.2","3.4"]}`))
	f.Add([]byte(`{"epoch":1}`))
	f.Add([]byte(`{"sockets":[1]}`))
	r := New[*event](Limits{Events: 10, Bytes: 1 << 20})
	a := newTestApp(r, "a")
	a.Append("x", &event{}, true, start)
	f.Fuzz(func(t *testing.T, b []byte) {
		ask := parseAsk(b)
		if ask == nil {
			return
		}
		ask.Mark = a.Mark("x", start)
		if answer, v := a.resume("x", ask, start); answer.Recovered || v != nil {
			t.Fatal("something was recovered")
		}
	})
}

// A message with an offset is the message again without it.
func TestStamp(t *testing.T) {
	const message = `{"event":"a","data":"{}"}`
	b := Room([]byte(message))
	if !json.Valid(b) { // an app that keeps nothing since a moment ago stamps nothing
		t.Errorf("not stamped: %q", b)
	}
	var at Offset
	copy(at[:], strings.Repeat("x", offsetBytes))
	Stamp(b, at)
	if want := `{"event":"a","data":"{}","offset":"` + string(at[:]) + `"}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	if len(b) != len(message)+StampBytes {
		t.Errorf("%d bytes more, not %d", len(b)-len(message), StampBytes)
	}
	if got := Bare(b); string(got) != message {
		t.Errorf("bare: %s", got)
	}
}

// An event that nobody can miss takes no room: nobody has been subscribed to its channel.
func TestUnheard(t *testing.T) {
	r := New[*event](Limits{Events: 10, Bytes: 1 << 20})
	a := newTestApp(r, "a")
	e := &event{}
	if a.Append("x", e, false, start); r.Bytes() != 0 || e.at != "" {
		t.Errorf("%d bytes for nobody, at %q", r.Bytes(), e.at)
	}
	a.Mark("x", start)
	a.Vacant("x", start)
	if a.Append("x", e, false, start.Add(time.Second)); e.at == "" {
		t.Error("an event that somebody can miss is not kept")
	}
	r.expire(start.Add(time.Hour))
	if a.Append("x", e, false, start.Add(time.Hour)); r.Bytes() != 0 {
		t.Error("an event after the time is kept")
	}
}

// An app whose clients do not read keeps no other app from recovering, and loses these clients when
// they have had their time.
func TestSlow(t *testing.T) {
	r := New[*event](Limits{Events: 100, Bytes: 100_000})
	a, b := newTestApp(r, "a"), newTestApp(r, "b")
	now, slow := start, 0
	miss := func(app *App[*event]) (reason, *missed[*event]) {
		first := &event{size: 100}
		app.Append("x", first, true, now)
		for range 9 {
			app.Append("x", &event{size: 1000}, true, now)
		}
		ask := &asked{Epoch: epochOf(r, app, "x"), Offset: first.at, Mark: app.Mark("x", now)}
		var v *missed[*event]
		why := r.reason(func() { _, v = app.resume("x", ask, now) })
		if v != nil {
			v.waits(func() { slow++ })
		}
		return why, v
	}
	var all []*missed[*event]
	for range 30 {
		now = now.Add(time.Second / 2)
		if _, v := miss(a); v != nil {
			all = append(all, v)
		}
	}
	if why, _ := miss(a); why != crowded || slow > 0 {
		t.Errorf("reason %d, %d were too slow", why, slow)
	}
	if why, v := miss(b); why != recovered {
		t.Errorf("another app does not recover: reason %d", why)
	} else {
		v.close()
	}
	now = now.Add(slowTime)
	if miss(a); slow != len(all) {
		t.Errorf("%d of %d were too slow", slow, len(all))
	}
	for _, v := range all {
		v.close()
	}
	if r.pinned != 0 || r.held != 0 || a.held != 0 || len(a.replays) != 0 {
		t.Errorf("%d bytes stay, %d are held, %d replays", r.pinned, r.held, len(a.replays))
	}
}

// What a client was excluded from under its present name stays excluded, too.
func TestOwn(t *testing.T) {
	r := New[*event](Limits{Events: 10, Bytes: 1 << 20})
	a := newTestApp(r, "a")
	first, own := &event{}, protocol.NewSocketID()
	a.Append("x", first, true, start)
	a.Append("x", &event{name: 1, except: own}, true, start)
	a.Append("x", &event{name: 2}, true, start)
	position := fmt.Appendf(nil, `{"epoch":%q,"offset":%q}`, epochOf(r, a, "x"), first.at)
	w := a.Wish("x", position, own)
	w.Moment(start)
	w.Answer([]byte("{}"), start)
	if !w.Recovered || len(w.replay.left) != 1 || w.replay.left[0].event.name != 2 {
		t.Errorf("recovered %v, %d events", w.Recovered, len(w.replay.left))
	}
}

// An app that stopped to keep events meanwhile answers as if the client did not resume.
func TestStopped(t *testing.T) {
	r := New[*event](Limits{Events: 10, Bytes: 1 << 20})
	a := newTestApp(r, "a")
	w := a.Wish("x", []byte("{}"), protocol.NewSocketID())
	w.Moment(start)
	a.Configure("secret of a", 0, start)
	if got := string(w.Answer([]byte(`{"a":1}`), start)); got != `{"a":1}` || w.Recovered {
		t.Errorf("got %s", got)
	}
}
