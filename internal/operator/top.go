package operator

import (
	"cmp"
	"slices"
	"time"

	"reverb/internal/protocol"
)

const (
	// topFirst is the time that the first picture measures, topInterval the time of each other.
	// Larger: a picture comes later. Smaller: rates jump more, and the server looks at its
	// connections more often.
	topFirst    = 400 * time.Millisecond
	topInterval = 2 * time.Second
	// topRows is how many channels and connections a picture has. Larger: it does not fit a
	// terminal. Smaller: it hides busy ones.
	topRows = 10
	// maxSampled bounds the channels, and the connections, that are compared. If there are more,
	// the busiest of those that were looked at are shown. Larger: top takes more memory. Smaller:
	// top misses busy ones on a large server.
	maxSampled = 200_000
	// maxTopBytes is the length at which the texts of connections are cut. Larger: rows are longer
	// than a line of a terminal. Smaller: texts are harder to recognize.
	maxTopBytes = 100
)

// picture is one picture of top. Rates are per second.
type picture struct {
	Node string `json:"node,omitempty"` // of an answer about all nodes
	figures
	Seconds   float64       `json:"seconds"` // that the rates were measured over
	Published float64       `json:"published_per_second"`
	Events    float64       `json:"client_events_per_second"`
	Received  float64       `json:"received_per_second"`
	Sent      float64       `json:"sent_per_second"`
	BytesIn   float64       `json:"bytes_in_per_second"`
	BytesOut  float64       `json:"bytes_out_per_second"`
	Channels  []*busy       `json:"busiest_channels"`
	Busiest   []*busyClient `json:"busiest_connections"`
}

// busy is a channel with much traffic.
type busy struct {
	Channel
	Rate       float64 `json:"events_per_second"`
	Deliveries float64 `json:"deliveries_per_second"`
}

// busyClient is a connection with much traffic.
type busyClient struct {
	Connection
	InRate  float64 `json:"bytes_in_per_second"`
	OutRate float64 `json:"bytes_out_per_second"`
}

// sample has the counters at one moment; two of them make a picture.
type sample struct {
	figures
	channels map[[2]string]uint64           // by app and name: events
	clients  map[protocol.SocketID][2]int64 // bytes in and out
}

// top shows the busiest channels and connections again and again, until the client closes the
// stream.
func (t *talk) top() error {
	last, err := t.sample()
	if err != nil {
		return err
	}
	for wait := topFirst; ; wait = topInterval {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.ctx.Done():
			timer.Stop()
			return t.ctx.Err()
		}
		now, err := t.sample()
		if err != nil {
			return err
		}
		p, err := t.compare(last, now)
		if err != nil {
			return err
		}
		if err := t.row(p); err != nil || t.req.Once {
			return err
		}
		if err := t.out.Flush(); err != nil {
			return err
		}
		last = now
	}
}

func (t *talk) sample() (*sample, error) {
	s := &sample{figures: t.figures(time.Now()), channels: map[[2]string]uint64{},
		clients: map[protocol.SocketID][2]int64{}}
	t.occupied("", "", func(c Channel) bool {
		s.channels[[2]string{c.App, c.Name}] = c.Events
		return len(s.channels) < maxSampled && t.ctx.Err() == nil
	})
	type meter struct {
		id    protocol.SocketID
		bytes [2]int64
	}
	err := collect(t.ctx, t.Server, func(p Peer) (*meter, bool) {
		m := new(meter)
		m.id = p.ID()
		m.bytes[0], m.bytes[1] = p.Bytes()
		return m, m.bytes[0] >= 0
	}, func(all []*meter) error {
		for _, m := range all {
			if len(s.clients) < maxSampled {
				s.clients[m.id] = m.bytes
			}
		}
		return nil
	})
	return s, err
}

// compare makes a picture of two samples.
func (t *talk) compare(was, now *sample) (*picture, error) {
	p := &picture{figures: now.figures, Seconds: max(now.Now.Sub(was.Now).Seconds(), 0.001)}
	p.totals(was.Apps, now.Apps)
	p.Apps = nil
	t.occupied("", "", func(c Channel) bool {
		key := [2]string{c.App, c.Name}
		before, known := was.channels[key]
		after := now.channels[key]
		if known && after > before { // else it was vacated, and the count has begun anew
			rate := float64(after-before) / p.Seconds
			p.Channels = append(p.Channels, &busy{c, rate, rate * float64(c.Subscriptions)})
		}
		if len(p.Channels) > 4*topRows {
			p.rank()
		}
		return t.ctx.Err() == nil
	})
	p.rank()
	return p, t.findBusiest(p, was, now)
}

// totals adds up the rates of all apps.
func (p *picture) totals(was, now []appRow) {
	before := map[string]appRow{}
	for _, a := range was {
		before[a.ID] = a
	}
	for _, a := range now {
		b := before[a.ID]
		for _, r := range []struct {
			rate    *float64
			is, was uint64
		}{
			{&p.Published, a.Published, b.Published}, {&p.Events, a.Events, b.Events},
			{&p.Received, a.Received, b.Received}, {&p.Sent, a.Sent, b.Sent},
			{&p.BytesIn, a.BytesIn, b.BytesIn}, {&p.BytesOut, a.BytesOut, b.BytesOut},
		} {
			*r.rate += float64(r.is-min(r.was, r.is)) / p.Seconds
		}
	}
}

// rank keeps the busiest channels.
func (p *picture) rank() {
	slices.SortFunc(p.Channels, func(a, b *busy) int {
		return cmp.Or(cmp.Compare(b.Deliveries, a.Deliveries), cmp.Compare(b.Rate, a.Rate),
			cmp.Compare(a.Name, b.Name))
	})
	p.Channels = p.Channels[:min(len(p.Channels), topRows)]
}

// findBusiest finds the connections with the most bytes, and describes them.
func (t *talk) findBusiest(p *picture, was, now *sample) error {
	type moved struct {
		id      protocol.SocketID
		in, out int64
	}
	var all []*moved
	for id, b := range now.clients {
		a, known := was.clients[id]
		if m := (&moved{id, b[0] - a[0], b[1] - a[1]}); known && m.in+m.out > 0 {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *moved) int {
		return cmp.Or(cmp.Compare(b.in+b.out, a.in+a.out),
			cmp.Compare(a.id.Number(), b.id.Number()))
	})
	wanted := map[protocol.SocketID]*moved{}
	for _, m := range all[:min(len(all), topRows)] {
		wanted[m.id] = m
	}
	if len(wanted) == 0 {
		return nil
	}
	err := collect(t.ctx, t.Server, func(peer Peer) (*busyClient, bool) {
		m := wanted[peer.ID()]
		if m == nil {
			return nil, false
		}
		in, out := float64(m.in)/p.Seconds, float64(m.out)/p.Seconds
		return &busyClient{peer.Describe(), in, out}, true
	}, func(all []*busyClient) error {
		for _, b := range all {
			b.cut(maxTopBytes)
		}
		p.Busiest = append(p.Busiest, all...)
		return nil
	})
	slices.SortFunc(p.Busiest, func(a, b *busyClient) int {
		return cmp.Or(cmp.Compare(b.InRate+b.OutRate, a.InRate+a.OutRate),
			cmp.Compare(a.Socket, b.Socket))
	})
	return err
}
