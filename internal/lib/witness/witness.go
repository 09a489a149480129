// Package witness judges, in tests, what one client of a Pusher server hears of channels: that
// every event comes that was published while it was subscribed, once and in order, and nothing
// else. The test says what has happened, in the order in which the server has done it; the
// witness compares it with what the client reads, whenever that is.
//
// An event's data is its number in the course of its channel. On a presence channel the answer
// to a subscription is a list of members, and events after the moment of the list come behind
// it. On a cache channel the last event before that moment, or cache_miss, stands between.
// A client that asks again while it is subscribed is answered again.
package witness

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// Course is what was published on a channel: who does not hear each event, or nobody.
type Course []string

// Witness is one client.
type Witness struct {
	id     string             // as Course has it
	views  map[string][]*view // by channel, of each subscription; what comes is for the first
	within *view              // the answer to a subscription to a cache channel is half read
}

// view is what is known of a channel by one subscription.
type view struct {
	of              *Course
	presence, cache bool
	answers         int // given, and not read
	listed          bool
	left            bool
	next            int // event
	read            int // answers
	members         map[string]bool
}

// New is a witness of what the client called id hears.
func New(id string) *Witness { return &Witness{id: id, views: map[string][]*view{}} }

// Joins says that the client has subscribed to a channel that has this course.
func (w *Witness) Joins(channel string, c *Course) {
	v := &view{of: c, presence: strings.HasPrefix(channel, "presence-"),
		cache: strings.Contains(channel, "cache-")}
	w.views[channel] = append(w.views[channel], v)
}

// Answered says that the latest subscription is answered now: what comes later is for it.
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
	json.Unmarshal([]byte(data), &user) // else it is no object
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
		// A second list is ahead of what waits.
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

// Missing says what the client, which is subscribed to the channel and has read everything, has
// not heard. members are who is on the channel, none unless it is a presence channel.
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
