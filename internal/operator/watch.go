package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/protocol"
)

const (
	// watchInterval is how often a watch compares the members with those that it has told.
	// Larger: a member that comes to an empty channel, or leaves it empty, may be told later.
	// Smaller: a large channel costs more.
	watchInterval = time.Second
	// maxWatched bounds the members that a client takes of a server when a watch begins. Larger:
	// a wrong server costs more memory. Smaller: a very large channel cannot be watched.
	maxWatched = 1 << 20
)

// Heard is an event of a channel that is watched. Data is the content of the string when the data
// is a string, and else the JSON value. User is the sender of a client event.
type Heard struct {
	Name string `json:"event"`
	Data string `json:"data"`
	User string `json:"user_id,omitempty"`
}

// The names of two rows that are no events: a user that is a member when the watch begins, with
// user_info as data, and the end of that list.
const (
	heardMember = "member"
	heardAll    = "members"
)

// The names of the events about members.
const (
	memberAdded   = "pusher_internal:member_added"
	memberRemoved = "pusher_internal:member_removed"
)

// watch shows a presence channel as its members see it, and does not join it.
func (t *talk) watch() error {
	f := t.req.Filter
	if f.App == "" {
		return errors.New("watch needs an app")
	}
	one, err := t.Traces.begin(f, true)
	if err != nil {
		return err
	}
	defer t.logTrace("an operator watches a channel", "a watch has ended")()
	defer t.Traces.stop(one)
	t.writePatience = traceTime // a reader that stalls loses lines
	w := &watching{talk: t, members: map[string]bool{}}
	if w.name, err = protocol.ParseName(f.Channels[0]); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	return w.follow(one)
}

// watching is a watch that runs.
type watching struct {
	*talk
	name    protocol.Name
	members map[string]bool // that the client was told of
}

// begin tells who is on the channel.
func (w *watching) begin() error {
	if w.Nodes != nil {
		if err := w.say(line{Note: fmt.Sprintf("this is one of several nodes; it hears %s only "+
			"while a member is connected to it; --join joins, and hears all", w.name)}); err != nil {
			return err
		}
	}
	for _, m := range w.now() {
		w.members[m.ID] = true
		if err := w.row(&Heard{heardMember, string(m.Info), m.ID}); err != nil {
			return err
		}
	}
	return w.row(&Heard{Name: heardAll})
}

// now are the members as this node knows them.
func (w *watching) now() (all []*protocol.Member) {
	w.source.Members(w.req.Filter.App, w.name, func(_ string, members []*protocol.Member) {
		all = members
	})
	return all
}

// follow tells of the events until the client closes the stream. While the reader stalls, it drops
// lines.
func (w *watching) follow(one *trace) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if len(one.lines) == 0 {
			if err := w.out.Flush(); err != nil {
				return err
			}
		}
		var err error
		select {
		case e := <-one.lines:
			one.waiting.Add(-int64(len(e.Message)))
			err = w.tell(&e)
		case <-tick.C:
			if err = w.tellDropped(one); err == nil {
				err = w.compare()
			}
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// tell tells of one event. The first member and the last cause no event, since nobody is there to
// hear it; so the members are looked at then.
func (w *watching) tell(e *tracedEvent) error {
	switch {
	case e.What == "subscribed" && len(w.members) == 0,
		e.What == "unsubscribed" && len(w.members) == 1:
		return w.compare()
	case e.What == "event" && e.Message == nil:
		return w.say(line{Note: "an event is left out, since it is too long: " + e.Note})
	case e.What == "event":
		return w.hear(e.Message)
	}
	return nil
}

// hear tells of an event, unless the client knows of it.
func (w *watching) hear(message []byte) error {
	e, err := protocol.ParseEvent(message)
	if err != nil {
		return fmt.Errorf("read an event of this server: %w", err)
	}
	h := Heard{Name: string(e.Name), Data: string(e.Data)}
	if s, quoted := jsonraw.String(e.Data); quoted {
		h.Data = s
	}
	id := func(object []byte) (id string) {
		jsonraw.Object(object, func(key, value []byte) { // another text has none
			if string(key) == "user_id" {
				id, _ = jsonraw.Scalar(value)
			}
		})
		return id
	}
	h.User = id(message)
	if user := id([]byte(h.Data)); h.Name == memberAdded || h.Name == memberRemoved {
		if come := h.Name == memberAdded; w.members[user] == come {
			return nil
		} else if come {
			w.members[user] = true
		} else {
			delete(w.members, user)
		}
	}
	return w.row(&h)
}

// compare tells of members that have come and gone without an event.
func (w *watching) compare() error {
	now, here := w.now(), map[string]bool{}
	for _, m := range now {
		if here[m.ID] = true; w.members[m.ID] {
			continue
		}
		if err := w.hear(protocol.EncodeMemberAdded(w.name.String(), m)); err != nil {
			return err
		}
	}
	if len(here) == 0 && len(w.members) > 0 && w.Nodes != nil {
		clear(w.members)
		return w.say(line{Note: fmt.Sprintf("no member of %s is connected to this node any more, "+
			"so it hears nothing until one comes", w.name)})
	}
	for user := range w.members {
		if !here[user] {
			if err := w.hear(protocol.EncodeMemberRemoved(w.name.String(), user)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Watch watches a presence channel of an app until ctx ends, without joining it. It gives heard
// what a member would hear: first the list of members, with the name listed, then events.
func (c *Tool) Watch(ctx context.Context, app, channel, listed string,
	heard func(Heard) error) error {
	p := &watcher{heard: heard, listed: listed}
	_, err := c.ask(ctx, request{Command: "watch", Filter: Filter{App: app,
		Channels: []string{channel}}}, p)
	return err
}

// watcher is the printer of Watch.
type watcher struct {
	heard     func(Heard) error
	listed    string
	ids, hash []byte // of the members, as JSON without brackets
	members   int
	complete  bool // the list
}

func (w *watcher) print(row []byte) error {
	var h Heard
	if json.Unmarshal(row, &h) != nil {
		return errRow
	}
	switch {
	case w.complete:
		return w.heard(h)
	case h.Name == heardMember && w.members < maxWatched:
		if w.members++; w.members > 1 {
			w.ids, w.hash = append(w.ids, ','), append(w.hash, ',')
		}
		w.ids = jsonraw.AppendString(w.ids, h.User)
		w.hash = append(jsonraw.AppendString(w.hash, h.User), ':')
		if info := []byte(h.Data); jsonraw.Check(info) == nil {
			w.hash = append(w.hash, info...)
		} else {
			w.hash = append(w.hash, "null"...)
		}
		return nil
	case h.Name == heardAll:
		w.complete = true
		b := append([]byte(`{"presence":{"count":`), strconv.Itoa(w.members)...)
		b = append(append(b, `,"ids":[`...), w.ids...)
		b = append(append(b, `],"hash":{`...), w.hash...)
		w.ids, w.hash = nil, nil
		return w.heard(Heard{Name: w.listed, Data: string(append(b, "}}}"...))})
	}
	return errRow
}

func (w *watcher) finish() error { return nil }
