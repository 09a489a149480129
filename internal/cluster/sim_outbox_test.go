package cluster

// What the application is told, in the simulation: each process has the real outbox (package
// outbox), and receivers get its batches. While faults strike, receivers fail, and answers are
// lost.
//
// What holds: a receiver that drops repeats by ID hears of each channel occupied and vacated in
// turn, and of each user added and removed. It hears of vacated only when it believes in no user
// of the channel, so it may forget them. A batch is the same each time. At rest its idea is the
// truth, but for what is in its grace. Nothing is vacated while somebody is in, as long as nothing
// is wrong. If Redis forgets, a receiver may be told again, and its idea is put right when
// the faults are over.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/envelopes/keys"
	"reverb/internal/outbox"
	"reverb/internal/protocol"
	"reverb/internal/webhooks"
)

// simHookGrace is the grace of the hooks of app a. Those of app b have none.
const simHookGrace = 3 * time.Second

// simURLs are the receivers of each app.
var simURLs = map[string][]*webhooks.Hook{
	"a": {simHook("a1", webhooks.Kinds(0x7f), ""),
		simHook("a2", webhooks.KindsOf(webhooks.MemberAdded, webhooks.MemberRemoved), "presence-"),
		simHook("a3", webhooks.KindsOf(webhooks.ChannelVacated, webhooks.MemberAdded,
			webhooks.MemberRemoved), "presence-"),
		simHook("a4", webhooks.KindsOf(webhooks.ChannelOccupied, webhooks.MemberAdded), ""),
	},
	"b": {simHook("b1", webhooks.Kinds(0x7f), "")},
}

func simHook(host string, kinds webhooks.Kinds, prefix string) *webhooks.Hook {
	return &webhooks.Hook{URL: &url.URL{Scheme: "http", Host: host}, Kinds: kinds, Prefix: prefix}
}

// simReceiver is what one URL has heard.
type simReceiver struct {
	batches map[string]string // content by ID
	there   map[string]bool   // channels that are occupied, and users on them
	heard   map[string]int    // client events
}

// simPost is a batch on its way to a receiver.
type simPost struct {
	*webhooks.Batch
	url string
	at  time.Time // of the next attempt
}

func newReceivers() map[string]*simReceiver {
	all := map[string]*simReceiver{}
	for _, hooks := range simURLs {
		for _, h := range hooks {
			all[h.URL.String()] = &simReceiver{batches: map[string]string{},
				there: map[string]bool{}, heard: map[string]int{}}
		}
	}
	return all
}

// openOutbox gives a process its outbox, in some worlds.
func (s *simNode) openOutbox() Outbox {
	if !s.w.hooked {
		return nil
	}
	s.box = outbox.New(func() time.Time { return s.w.now },
		slog.New(stateLog{s.w}))
	return s.box
}

// simCourier delivers what an app of a process is told.
type simCourier struct {
	s   *simNode
	app string
}

func (c simCourier) Deliver(url string, b *webhooks.Batch) bool {
	c.s.posts = append(c.s.posts, &simPost{b, url, c.s.w.now})
	return true
}
func (c simCourier) Refused(_ string, others, transitions, undone int) {
	if c.s.w.state("outbox: transitions are undone"); others+transitions > 0 {
		c.s.fail("events are refused")
	}
}
func (c simCourier) Untold(string, int) {
	c.s.w.state("outbox: an event while Redis is away")
}
func (c simCourier) Waiting(string, int, int, time.Time) {}

func (s *simNode) configureOutbox() {
	if s.box == nil {
		return
	}
	outbox.Attach(s.box, s.n)
	for _, app := range slices.Sorted(maps.Keys(simURLs)) {
		grace := simHookGrace
		if app == "b" {
			grace = 0
		}
		s.box.Configure(app, simURLs[app], grace, simCourier{s, app})
	}
}

// post lets one batch of a process move on.
func (s *simNode) post(by uint32) bool {
	w := s.w
	if !s.alive || w.now.Before(s.frozen) {
		return false
	}
	i := slices.IndexFunc(s.posts, func(p *simPost) bool { return w.strict || !w.now.Before(p.at) })
	if i < 0 {
		return false
	}
	p := s.posts[i]
	end := func(settled bool) {
		s.posts = slices.Delete(s.posts, i, i+1)
		p.Done(settled)
		s.turn(nil)
	}
	switch {
	case !p.Held():
		w.state("outbox: a batch is another node's")
		end(false)
	case !w.strict && !w.settled && by%4 == 0:
		w.state("outbox: a receiver fails")
		p.at = w.now.Add(time.Duration(by>>2%5000) * time.Millisecond)
	case !w.strict && !w.settled && by%4 == 1:
		w.state("outbox: an answer is lost")
		w.receive(s, p)
		p.at = w.now.Add(time.Duration(by>>2%5000) * time.Millisecond)
	case by%64 == 2 && !w.strict && !w.settled:
		w.state("outbox: a batch is given up by its sender")
		end(false)
	default:
		w.receive(s, p)
		end(true)
	}
	return true
}

// receive lets a receiver hear a batch.
func (w *world) receive(s *simNode, p *simPost) {
	r := w.receivers[p.url]
	content := fmt.Sprint(p.Events)
	w.tell("node %d: %s hears %s %s", s.slot, p.url, p.ID, content)
	if len(p.Events) > 50 {
		s.fail("a batch has %d events", len(p.Events))
	}
	if was, again := r.batches[p.ID]; again {
		if w.state("outbox: a batch comes again"); was != content {
			s.fail("batch %s is %s, and was %s", p.ID, content, was)
		}
		return
	}
	r.batches[p.ID] = content
	for i := range p.Events {
		r.hear(w, s, p.url, &p.Events[i])
	}
}

// hear checks that an event is the reverse of the last about the same.
func (r *simReceiver) hear(w *world, s *simNode, url string, e *webhooks.Event) {
	of := strings.TrimSpace(url[len("http://"):][:1] + " " + e.Channel.String() + " " + e.User)
	come := e.Kind == webhooks.ChannelOccupied || e.Kind == webhooks.MemberAdded
	switch e.Kind {
	case webhooks.ClientEvent:
		r.heard[string(e.Data)]++
		if n := r.heard[string(e.Data)]; n > 1 && !w.forgot {
			s.fail("%s hears the client event %s %d times", url, e.Data, n)
		}
		return
	case webhooks.CacheMiss, webhooks.SubscriptionCount:
		s.fail("%s hears what nobody has told: %v", url, e)
	}
	w.state("outbox: " + e.Kind.String())
	// a3 does not hear of occupied channels, and a4 of nobody who goes
	deaf := e.User == "" && strings.HasSuffix(url, "a3") || strings.HasSuffix(url, "a4")
	if was := r.there[of]; was == come && !w.forgot && !deaf {
		s.fail("%s hears %v of %s, and knows it", url, e.Kind, of)
	}
	for key := range r.there {
		if e.Kind == webhooks.ChannelVacated && strings.HasPrefix(key, of+" ") && !w.forgot {
			s.fail("%s hears %v of %s, and believes in %s", url, e.Kind, of, key)
		}
	}
	if come {
		r.there[of] = true
	} else {
		delete(r.there, of)
	}
}

// written checks what the scripts write: nothing is vacated while somebody is in.
func (w *world) written(lane string, fields []string) {
	_, rest, _ := strings.Cut(lane, ":hooks:")
	topic := rest[:1] + ":" + fields[3]
	if fields[1] == "v" && w.strict && w.in(topic) > 0 {
		w.fail("%s is vacated, and %d clients are in", topic, w.in(topic))
	}
}

// say puts a client event into the outbox of a process.
func (s *simNode) say(topic string) {
	app, channel := s.front.channel(topic)
	if s.box == nil || channel.Kind().User {
		return
	}
	s.w.ids++
	s.w.said++
	s.box.Put(app.id, simURLs[app.id][0], &webhooks.Event{Kind: webhooks.ClientEvent,
		Channel: channel, Event: "client-x", Data: []byte(strconv.FormatUint(s.w.ids, 10)),
		Socket: protocol.SocketIDOf(7)})
}

// checkTold checks, at rest, that the receivers know the truth, but for what is in its grace.
func (w *world) checkTold() {
	if !w.hooked {
		return
	}
	heard := 0
	for _, app := range slices.Sorted(maps.Keys(simURLs)) {
		for _, h := range simURLs[app] {
			r := w.receivers[h.URL.String()]
			for _, n := range r.heard {
				heard += n
			}
			truth := w.truth(app, h)
			if !h.Kinds.Has(webhooks.MemberRemoved) { // it cannot know who has gone
				maps.Copy(truth, r.there)
			}
			if w.forgot {
				r.there = truth // put right
			} else if !maps.Equal(r.there, truth) {
				w.fail("%s believes in %v, and the truth is %v", h.URL,
					slices.Sorted(maps.Keys(r.there)), slices.Sorted(maps.Keys(truth)))
			}
		}
	}
	if w.strict && heard-w.heard != w.said {
		w.fail("%d client events are heard, and %d were told", heard-w.heard, w.said)
	}
	w.forgot, w.heard, w.said = false, heard, 0
}

// truth is what the receiver of a hook should believe in.
func (w *world) truth(app string, h *webhooks.Hook) map[string]bool {
	there := map[string]bool{}
	for _, c := range w.clients {
		channel, ours := strings.CutPrefix(c.topic, app+":")
		if !c.in || !ours || userOf(c.topic) != "" || !strings.HasPrefix(channel, h.Prefix) {
			continue
		}
		if h.Kinds.Has(webhooks.ChannelOccupied) {
			there[app+" "+channel] = true
		}
		if c.user != "" {
			there[app+" "+channel+" "+c.user] = true
		}
	}
	sum := sha256.Sum256([]byte(h.URL.String()))
	n := w.nodes[0].n
	for b, base := range n.Names("") {
		lane := keys.OfLane(base, app, hex.EncodeToString(sum[:8]))
		redis := w.servers[b%len(w.servers)].redis
		redis.Now = w.now.UnixMilli()
		if left := redis.Do("XLEN", lane[0]).N; left > 0 {
			w.fail("at rest %d events are left in %s", left, lane[0])
		}
		for _, r := range redis.Do("ZRANGE", lane[1], "0", "-1").Items {
			f := strings.SplitN(r.Text, " ", 3)
			if f[2] == "" && !h.Kinds.Has(webhooks.ChannelOccupied) {
				continue
			}
			there[strings.TrimSpace(app+" "+f[1]+" "+f[2])] = true
			w.state("outbox: in its grace at rest")
		}
	}
	return there
}
