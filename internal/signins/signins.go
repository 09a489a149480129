// Package signins has the user that a connection is signed in as, and the way to get there.
//
// A connection that is signed in has a place on the channel of its user, which it cannot give up.
// So what is sent to the user is delivered, put in order and counted as on any channel, and in a
// cluster the nodes learn from the places who is online. The connection asks first for the states
// of the users whom it watches, and then for the place, which is the moment of the sign-in:
//
//	SignIn ─▶ Desk.Begin ─▶ all are known ─▶ Client.TakePlace ─▶ Entered ─▶ Client.Greet
//
// A connection has one sign-in that is not answered. A later one of the same user replaces it, or,
// if the cluster is asked for the place already, comes after its answer.
//
// The package does not judge a sign-in, makes no message, and knows no loop: a P is a place on a
// channel, an A is an app, and it looks into neither but for the member. It reads no clock.
package signins

import (
	"bytes"

	"reverb/internal/protocol"
	"reverb/internal/watchlists"
)

// Client is a connection. Its loop calls the methods.
type Client[A comparable, C any, P Place] interface {
	// Watches is where the connection watches users, and for which app.
	Watches() (*watchlists.Desk[A, C], A)
	// TakePlace asks for a place on the channel of m. The zero P means that Entered follows.
	TakePlace(m *protocol.Member) P
	// LeavePlace gives up a place.
	LeavePlace(P)
	// Greet answers a sign-in. What is sent to the user from now on comes behind. online and
	// offline are the users whom the connection watches.
	Greet(u *protocol.User, online, offline []string)
}

// Place is a place on the channel of a user.
type Place interface {
	comparable
	Member() *protocol.Member
}

// Identity is the user that a connection is signed in as, or asks to be. The zero Identity is
// nobody, and a nil one may be asked who it is. The loop of the connection calls the methods; c is
// the connection.
type Identity[A comparable, C Client[A, C, P], P Place] struct {
	member *protocol.Member          // nil: the connection is not signed in yet
	place  P                         // on the user's channel; zero as above
	watch  *watchlists.Watcher[A, C] // nil: the connection watches nobody
	asked  *protocol.User            // the sign-in that is not answered yet; nil: there is none
	begun  *watchlists.Watcher[A, C] // of asked
	joins  bool                      // the cluster is asked for the place
	next   *protocol.User            // the latest sign-in that has come meanwhile; nil: none
}

// Member is the user that the connection is signed in as; nil: it is not signed in.
func (x *Identity[A, C, P]) Member() *protocol.Member {
	if x == nil {
		return nil
	}
	return x.member
}

// Only is the only user that the connection may sign in as: the one that it is signed in as, or
// asks to be; nil: any user.
func (x *Identity[A, C, P]) Only() *protocol.Member {
	switch {
	case x == nil:
		return nil
	case x.member == nil && x.asked != nil:
		return &x.asked.Member
	}
	return x.member
}

// Place is the place on the channel of the user; zero: there is none.
func (x *Identity[A, C, P]) Place() (p P) {
	if x != nil {
		p = x.place
	}
	return p
}

// SignIn begins a sign-in, which was judged: u is Only, or nobody was.
func (x *Identity[A, C, P]) SignIn(c C, u *protocol.User) {
	if x.joins {
		x.next = u
		return
	}
	x.endWatch(c, x.begun)
	if x.asked, x.begun = u, nil; len(u.Watchlist) > 0 {
		desk, app := c.Watches()
		known := false
		x.begun, known = desk.Begin(app, c, u.Watchlist, func() { x.known(c) })
		if !known {
			return
		}
	}
	x.known(c)
}

// endWatch ends a watcher; nil: there is none.
func (x *Identity[A, C, P]) endWatch(c C, w *watchlists.Watcher[A, C]) {
	if w != nil {
		desk, _ := c.Watches()
		desk.End(w)
	}
}

// known asks for the place on the user's channel, unless the connection has it. The states of all
// watched users are known.
func (x *Identity[A, C, P]) known(c C) {
	var none P
	if x.place != none {
		x.greet(c)
		return
	}
	x.joins = true
	m := x.asked.Member // without the rest of the sign-in
	if p := c.TakePlace(&m); p != none {
		x.Entered(c, p)
	}
}

// Entered takes the place on the user's channel.
func (x *Identity[A, C, P]) Entered(c C, p P) {
	x.place, x.member, x.joins = p, p.Member(), false
	x.greet(c)
}

// greet has the client answer, and goes on with the next sign-in.
func (x *Identity[A, C, P]) greet(c C) {
	u, online, offline := x.asked, []string(nil), []string(nil)
	if x.member != x.place.Member() || !bytes.Equal(x.member.Info, u.Info) {
		m := u.Member
		x.member = &m
	}
	x.endWatch(c, x.watch)
	if x.watch, x.begun, x.asked = x.begun, nil, nil; x.watch != nil {
		desk, _ := c.Watches()
		online, offline = desk.Start(x.watch, u.ID)
	}
	c.Greet(u, online, offline)
	if next := x.next; next != nil {
		x.next = nil
		x.SignIn(c, next)
	}
}

// Watched are the users whom the connection watches.
func (x *Identity[A, C, P]) Watched(c C) []string {
	if x == nil || x.watch == nil {
		return nil
	}
	desk, _ := c.Watches()
	return desk.Watched(x.watch)
}

// Restore signs c in as it was in another process: nobody is told. The states of users
// that are watched count from the call of the returned function, which comes when all others have
// signed in.
func (x *Identity[A, C, P]) Restore(c C, place P, watched []string) (watch func()) {
	x.member, x.place = place.Member(), place
	return func() {
		if len(watched) > 0 && x.place == place {
			desk, app := c.Watches()
			x.watch, _ = desk.Begin(app, c, watched, func() {})
			desk.Start(x.watch, place.Member().ID)
		}
	}
}

// SignOut ends all of it. The connection has closed.
func (x *Identity[A, C, P]) SignOut(c C) {
	x.endWatch(c, x.watch)
	x.endWatch(c, x.begun)
	var none P
	if x.place != none {
		c.LeavePlace(x.place)
	}
	*x = Identity[A, C, P]{}
}
