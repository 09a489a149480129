package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"

	"reverb/internal/handover"
	"reverb/internal/lib/unixsock"
	"reverb/internal/supervise"
)

// Heritage is what a process gets from its predecessor. The Heritage of a process without one has
// no listeners.
type Heritage struct {
	Listeners map[string]net.Listener // by role
	Began     time.Time               // of the loops, see handover.Offer
	Role      *supervise.Role         // nil: this process has none

	taker *handover.Taker // nil: there is no predecessor
	of    *Upgrades       // of the server that has taken; nil: none has
}

// Inherit takes the predecessor's offer, if there is a predecessor. role may be nil.
func Inherit(role *supervise.Role) (h *Heritage, err error) {
	h = &Heritage{Began: time.Now(), Role: role}
	if role == nil || role.Predecessor() == nil {
		return h, nil
	}
	var offer handover.Offer
	h.taker, offer, err = handover.Join(role.Predecessor(), time.Now().Add(patience))
	if err != nil {
		return h, err
	}
	h.Listeners, h.Began = make(map[string]net.Listener), offer.Began
	for _, l := range offer.Listeners {
		f := os.NewFile(uintptr(l.FD), l.Role)
		ln, bad := net.FileListener(f)
		f.Close() // the listener has a copy
		if bad != nil {
			err = fmt.Errorf("a listener of the predecessor: %w", bad)
			continue
		}
		h.Listeners[l.Role] = unixsock.Adopt(ln)
	}
	return h, err
}

// Heir says whether there is a predecessor.
func (h *Heritage) Heir() bool { return h.taker != nil }

// Refuse tells a predecessor why this process cannot serve.
func (h *Heritage) Refuse(err error) {
	if h.taker != nil {
		_, stop := errors.AsType[changed](err)
		h.taker.Refuse(handover.Refusal{Why: err.Error(), Stop: stop})
	}
}

// Take takes what the predecessor has, if there is one, for the server of u. orphan is as in
// handover.Taker.Take.
func (h *Heritage) Take(u *Upgrades, by Heir) (orphan bool, err error) {
	if h.taker == nil {
		return false, nil
	}
	// what is read becomes what is served, so there is nothing to collect
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	t := terms{by.Keep, by.Version, by.Apps}
	all := &receiver{Heir: by, of: u, leaving: newLeaving(t)}
	if orphan, err = h.taker.Take(all, t.append(nil)); err == nil {
		h.Role.Settle()
		all.count()
		h.of, u.late = u, make(chan struct{})
	}
	if orphan {
		u.log.Warn("the process before this one has ended while it handed over; this one serves " +
			"what it has got")
	}
	return orphan, err
}

// Heir is the server that takes.
type Heir struct {
	Version  string        // of the program
	Keep     time.Duration // how long relays stand
	Apps     []string      // the IDs of all apps
	Sections Sections
	// Inherit takes a session that the server shares with others. The predecessor's has descriptors
	// and comes first; nothing else has descriptors. nil: the server has no such session.
	Inherit func(state []byte, fds []int) error
	// Restore takes connection number n, from 0, and its descriptor, also if it returns an error.
	Restore func(n int, c *handover.Connection, fd int) error
}

// receiver takes the state of this package, and passes on what else comes.
type receiver struct {
	Heir
	of       *Upgrades
	begun    bool
	restored int
	leaving  *leaving
	figured  time.Time // when the figures came
}

// Section is part of handover.Receiver.
func (r *receiver) Section(name string, state []byte, fds []int) error {
	first := !r.begun
	r.begun = true
	if (len(fds) > 0) != (first && r.Inherit != nil) {
		for _, fd := range fds {
			os.NewFile(uintptr(fd), name).Close()
		}
		return changed{errors.New("REVERB_SCALING_ENABLED has changed: stop and start instead")}
	}
	switch {
	case len(fds) > 0:
		return r.Inherit(state, fds)
	case name == sectionRelays:
		return r.of.drains.setState(state, time.Now())
	case name == sectionFigures:
		r.figured = time.Now()
		return setFigures(&r.of.figures, state)
	}
	return r.Sections.Take(name, state)
}

// Connection is part of handover.Receiver.
func (r *receiver) Connection(c *handover.Connection, fd int) error {
	r.restored++
	r.leaving.add(c.App, c.Relay)
	return r.Restore(r.restored-1, c, fd)
}

// Told is part of handover.Receiver.
func (r *receiver) Told() (all, relayed int) {
	d, now := &r.of.drains, time.Now()
	return r.leaving.told(d.due(now, r.leaving.keep), d.before, now)
}

// count counts the connections that are told to reconnect at once, which the predecessor has
// counted as moved, and the time since it has counted. It logs the connections of apps that are
// configured no more.
func (r *receiver) count() {
	told, _ := r.Told()
	f := &r.of.figures
	n := min(uint64(told), f.Moved)
	f.Moved, f.Told = f.Moved-n, f.Told+n
	if !r.figured.IsZero() {
		since := time.Since(r.figured)
		f.Took, f.Silent = f.Took+since, f.Silent+since
	}
	for app, n := range r.leaving.strangers {
		r.of.log.Warn("closed (4001): the connections of an app that is configured no more",
			"app", app, "connections", n)
	}
}

// Serving tells a predecessor that this process serves, and serves the HTTP connections that come
// then. It returns when there are no more, or at the end of ctx.
func (h *Heritage) Serving(ctx context.Context, now string) {
	if h.of == nil {
		return
	}
	defer close(h.of.late)
	if err := h.taker.Serving(ctx, now, h.of.takeLate); err != nil {
		h.of.log.Info("HTTP connections of the process before this one are closed", "why", err)
	}
}
