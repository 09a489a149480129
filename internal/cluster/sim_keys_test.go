package cluster

// Requests with keys in the simulation. A request is sent again and again, to any node, as by
// clients that had no answer. Each process has its own table of claims, as the HTTP API has.
//
// What holds: while Redis keeps its state, one node alone publishes an event of a request through
// Redis. So a node gets such an event once, and once more for each time that the node itself took
// the request while Redis was away. In the end every event has been published.

import (
	"errors"
	"strconv"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/lib/retries"
)

// simRequest is a request with a key: an event for each of its channels.
type simRequest struct {
	key    string
	info   bool // its answer is known only after its events were published
	events []*simEvent
	begun  bool // it was published once
	mixed  bool // two requests have its key
}

// keyed is what a simEvent has if its request has a key.
type keyed struct {
	by      map[[2]uint64]bool // node and number: who has published it through Redis
	excused bool               // Redis has forgotten, or the event was given up
	tried   map[*simNode]bool
	away    map[*simNode]int // how often a process took the request while Redis was away
	doubled map[*simNode]int // how often it came to a process again
}

// newRequest makes a request for one channel, or for several.
func (w *world) newRequest(by uint32) *simRequest {
	r := &simRequest{key: "key-" + strconv.Itoa(len(w.requests)), info: by%3 == 0,
		mixed: len(w.requests)%8 == 7}
	count := 1
	if by>>2%2 == 0 {
		count = 2 + int(by>>3%2)
	}
	for i := range count {
		topic := simTopics[int(by>>4+uint32(i)*5)%min(w.topics, 5)] // those of the app a
		e := &simEvent{id: len(w.events), topic: topic, at: w.now, cache: isCache(topic),
			keyed: &keyed{by: map[[2]uint64]bool{}, tried: map[*simNode]bool{},
				away: map[*simNode]int{}, doubled: map[*simNode]int{}}}
		r.events = append(r.events, e)
		w.events = append(w.events, e)
	}
	w.requests = append(w.requests, r)
	return r
}

// pickRequest picks one of the latest requests, or makes one.
func (w *world) pickRequest(by uint32) *simRequest {
	if n := len(w.requests); n > 0 && by%5 > 0 {
		return w.requests[max(0, n-4)+int(by>>4)%min(n, 4)]
	}
	return w.newRequest(by >> 8)
}

// request sends a request to a node, as package httpapi does.
func (w *world) request(s *simNode, r *simRequest, by uint32) {
	of := retries.Request{App: "a", Key: r.key, Channels: len(r.events),
		PerChannel: s.n.PerChannel()}
	if r.mixed && by%2 == 0 {
		of.Path = "other"
	}
	if of.Channels == 1 {
		of.Channel = r.events[0].topic[2:]
	}
	c, _, err := s.keys.Begin(of, time.Hour, w.now)
	if c == nil {
		w.state("request: known to its node")
		if errors.Is(err, retries.ErrOther) && !r.mixed {
			s.fail("the request %s is taken for another", r.key)
		}
		return
	}
	s.asked++
	if !r.info {
		c.Settle([]byte("{}"))
	}
	if !c.Several() {
		w.publishRequest(s, r, c)
		return
	}
	s.n.Claim("a:"+c.Take().Home(), c.Take(), func(err error) {
		_, stored := c.Earlier()
		switch {
		case stored || denied(err):
			w.state("request: claimed by another node")
			s.endRequest(c, !stored)
		case by>>3%8 == 0 && !w.settled:
			w.state("request: fails before it publishes")
			s.n.Claim("a:"+c.Free().Home(), c.Free(), func(error) { s.endRequest(c, true) })
		default:
			w.publishRequest(s, r, c)
		}
	})
}

// denied says that a request must not take effect. Other errors say that Redis is away.
func denied(err error) bool {
	return errors.Is(err, retries.ErrBusy) || errors.Is(err, retries.ErrOther)
}

func (s *simNode) endRequest(c *retries.Claim, failed bool) {
	s.asked--
	s.keys.End(c, failed, s.w.now)
}

// publishRequest publishes the events of a request that has its claim on a node.
func (w *world) publishRequest(s *simNode, r *simRequest, c *retries.Claim) {
	link, live, left, failed := s.n.link, s.n.Counters.Live.Load(), len(r.events), false
	w.tell("node %d publishes the request %s", s.slot, r.key)
	for _, e := range r.events {
		if e.tried[s] = true; !r.begun {
			e.by = s
			e.needs = w.needs(s, e.topic)
		}
		s.front.Publish(e.topic, strconv.Itoa(e.id), 0, e.cache, c.Publish(), func(err error) {
			switch {
			case errors.Is(err, retries.ErrBusy), r.mixed && denied(err):
				failed = true
			case err != nil:
				s.fail("event %d of the request %s: %v", e.id, r.key, err)
			}
			if !live || s.n.link != link || !s.n.Counters.Live.Load() {
				e.away[s]++
			}
			if left--; left > 0 {
				return
			}
			_, stored := c.Earlier()
			if stored {
				w.state("request: claimed by another node's event")
			}
			if failed || stored || !r.info && !c.Several() || !c.Shared() {
				s.endRequest(c, failed)
				return
			}
			c.Settle([]byte("{}"))
			s.n.Claim("a:"+c.Store().Home(), c.Store(), func(error) { s.endRequest(c, false) })
		})
	}
	r.begun = true
}

// published notes who has published an event through Redis.
func (w *world) published(e *simEvent, of *envelopes.Envelope) {
	e.keyed.by[[2]uint64{of.Node, of.Number}] = true
	if len(e.keyed.by) > 1 && !e.excused {
		w.fail("event %d of %s, whose request has a key, is published twice: %v", e.id, e.topic,
			e.keyed.by)
	}
}

// again notes that an event has come to a node again.
func (s *simNode) again(e *simEvent) {
	if e.keyed == nil {
		s.fail("event %d of %s comes twice", e.id, e.topic)
	}
	e.doubled[s]++
	s.w.state("request: an event comes twice, because Redis was away")
}

// excuseRequests excuses the events of requests that Redis may have forgotten, or that a node has
// given up.
func (w *world) excuseRequests(which func(*simEvent) bool) {
	for _, e := range w.events {
		if e.keyed != nil && which(e) {
			e.excused, e.needs = true, 0
		}
	}
}

// checkRequests checks that events came twice only where Redis was away.
func (w *world) checkRequests() {
	for _, e := range w.events {
		if e.keyed == nil || e.excused {
			continue
		}
		for s, n := range e.doubled {
			if n > e.away[s] {
				s.fail("event %d of %s came %d times, and the node took its request %d times "+
					"while Redis was away", e.id, e.topic, n+1, e.away[s])
			}
		}
	}
}

// repeatRequests sends every request once more, and checks that each event was published.
func (w *world) repeatRequests(by func() uint32) {
	for round := range uint32(2) {
		for _, r := range w.requests {
			s := one(w.nodes, by())
			w.request(s, r, round)
			s.turn(nil)
		}
		w.pass(1200*time.Millisecond, 200*time.Millisecond)
	}
	for _, r := range w.requests {
		for _, e := range r.events {
			if len(e.keyed.by) == 0 && !e.excused {
				w.fail("event %d of %s, of the request %s, was never published", e.id, e.topic,
					r.key)
			}
		}
	}
}
