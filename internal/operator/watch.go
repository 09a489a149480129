package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/protocol"
)

// maxWatched bounds the members that a client takes of a server when a watch begins. Larger: a
// wrong server costs more memory. Smaller: a very large channel cannot be watched.
const maxWatched = 1 << 20

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
	w := &watching{talk: t, members: map[string]bool{}}
	if w.name, err = protocol.ParseName(f.Channels[0]); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	return w.follow(one, math.MaxInt64, w.tell, w.compare)
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
		note := fmt.Sprintf("this is one of several nodes; it hears %s only while a member is "+
			"connected to it; --join joins, and hears all", w.name)
		if err := w.say(line{Note: note}); err != nil {
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
	h := heardOf(&e, string(e.Name))
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

func heardOf(e *protocol.Event, name string) Heard {
	if s, quoted := jsonraw.String(e.Data); quoted {
		return Heard{Name: name, Data: s}
	}
	return Heard{Name: name, Data: string(e.Data)}
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
	silent
	heard   func(Heard) error
	listed  string
	members []*protocol.Member // until the list is complete
	begun   bool               // it is
}

func (w *watcher) print(row []byte) error {
	var h Heard
	switch err := json.Unmarshal(row, &h); {
	case err != nil:
		return errRow
	case w.begun:
		return w.heard(h)
	case h.Name == heardMember && len(w.members) < maxWatched && (h.Data == "" ||
		jsonraw.Check([]byte(h.Data)) == nil):
		w.members = append(w.members, protocol.NewMember(h.User, h.Data))
		return nil
	case h.Name != heardAll:
		return errRow
	}
	w.begun = true
	e, err := protocol.ParseEvent(protocol.AppendMembers(nil, "", w.members))
	if err != nil {
		return errRow
	}
	w.members = nil
	return w.heard(heardOf(&e, w.listed))
}
