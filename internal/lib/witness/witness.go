// Package witness judges, in tests, the messages that one client of a Pusher server reads: every
// event that was published while the client was subscribed must come, once and in order, and
// nothing else. The test tells what has happened, in the order of the server. The witness compares
// that with the messages of the client, whenever the client reads them.
//
// The data of an event is its number in the course of its channel. On a presence channel the answer
// to a subscription is a list of members; events after the moment of the list follow it. On a cache
// channel the last event before that moment, or cache_miss, comes in between. A client that
// subscribes again gets an answer again.
package witness

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// Course has the events of a channel: for each, the client that must not hear it, or nothing.
type Course []string

// Witness is one client.
type Witness struct {
	id     string             // as Course has it
	views  map[string][]*view // the subscriptions to each channel; a message is for the first one
	within *view              // the answer to a subscription to a cache channel is half read
}

// view is the state of one subscription to a channel.
type view struct {
	of              *Course
	presence, cache bool
	answers         int // answers that were given and are not read yet
	listed          bool
	left            bool
	next            int // event
	read            int // answers
	members         map[string]bool
}

// New makes a witness for the client called id.
func New(id string) *Witness { return &Witness{id: id, views: map[string][]*view{}} }

// Joins says that the client has subscribed to a channel with this course.
func (w *Witness) Joins(channel string, c *Course) {
	v := &view{of: c, presence: strings.HasPrefix(channel, "presence-"),
		cache: strings.Contains(channel, "cache-")}
	w.views[channel] = append(w.views[channel], v)
}

// Answered says that the latest subscription is answered now: later events are for it.
func (w *Witness) Answered(channel string) {
	all := w.views[channel]
	v := all[len(all)-1]
	if v.answers++; !v.listed {
		v.listed, v.next = true, len(*v.of)
	}
}

// Left says that the client has unsubscribed and has read everything before.
func (w *Witness) Left(channel string) {
	if all := w.views[channel]; len(all) > 0 {
		all[len(all)-1].left = true
	}
}

// Hear judges a message that the client has read.
func (w *Witness) Hear(message string) error {
	var e struct {
		Event, Channel string
		Data           any
	}
	var user struct {
		ID       string `json:"user_id"`
		Presence struct{ IDs []string }
	}
	if err := json.Unmarshal([]byte(message), &e); err != nil {
		return fmt.Errorf("%s got %s: %w", w.id, message, err)
	}
	data, _ := e.Data.(string)
	json.Unmarshal([]byte(data), &user) // an error means that it is not an object
	answer := e.Event == "pusher_internal:subscription_succeeded"
	all := w.views[e.Channel]
	for answer && len(all) > 0 && all[0].answers == 0 {
		all = all[1:]
	}
	w.views[e.Channel] = all
	switch {
	case len(all) == 0, !answer && all[0].read == 0, w.within != nil && w.within != all[0]:
		return fmt.Errorf("%s got %s, which is for no subscription", w.id, message)
	case !w.fits(all[0], e.Event, user.ID, user.Presence.IDs, e.Data):
		return fmt.Errorf("%s got %s\nafter %+v", w.id, message, all[0])
	}
	return nil
}

func (w *Witness) fits(v *view, event, user string, users []string, data any) bool {
	behind := w.within != nil // an answer
	switch w.within = nil; event {
	case "pusher_internal:subscription_succeeded":
		v.answers, v.read, v.members = v.answers-1, v.read+1, map[string]bool{}
		for _, id := range users {
			v.members[id] = true
		}
		if v.cache {
			w.within = v
		}
		return !behind && v.presence == (len(v.members) > 0)
	case "pusher:cache_miss":
		return behind && (v.next == 0 || v.read > 1)
	case "pusher_internal:member_added", "pusher_internal:member_removed":
		known := v.members[user]
		if delete(v.members, user); event == "pusher_internal:member_added" {
			v.members[user] = true
		}
		// A second list comes before the waiting events.
		return !behind && (known != v.members[user] || v.read > 1)
	}
	number, ok := data.(float64)
	n := int(number)
	if behind {
		return ok && (n == v.next-1 || v.read > 1)
	}
	v.skip(w.id)
	v.next++
	return ok && n == v.next-1 && !v.left
}

// skip goes on to the next event that is for id.
func (v *view) skip(id string) {
	for v.next < len(*v.of) && (*v.of)[v.next] == id {
		v.next++
	}
}

// Missing says what the client, which is subscribed to the channel and has read everything, has not
// heard. members are the members of a presence channel; other channels have none.
func (w *Witness) Missing(channel string, members map[string]bool) error {
	all := w.views[channel]
	if len(all) != 1 || all[0].answers > 0 {
		return fmt.Errorf("%s has not read all answers on %s", w.id, channel)
	}
	v := all[0]
	if v.skip(w.id); v.next != len(*v.of) || !maps.Equal(v.members, members) {
		return fmt.Errorf("%s on %s is at %d of %d events, and knows %v of %v", w.id, channel,
			v.next, len(*v.of), v.members, members)
	}
	return nil
}
