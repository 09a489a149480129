package cluster

// Users and watchlists in the simulation: a client that joins the topic of a user is signed in as
// the user, and watchers watch users. The way from the replica to a watcher is that of the root
// package: the engine tells the app who is online, internal/watchlists tells the loops, and a loop
// tells its watchers, in parts.

import (
	"slices"
	"strings"
	"time"

	"reverb/internal/protocol"
	"reverb/internal/watchlists"
)

// simGrace is the grace of the users of a world.
const simGrace = 3 * time.Second

// userTopic is the topic of a user of the app a.
func userTopic(id string) string { return "a:" + protocol.UserChannel(id).String() }

// userOf is whose topic it is; empty: nobody's.
func userOf(topic string) string {
	id, _ := strings.CutPrefix(topic, userTopic(""))
	if id == topic {
		return ""
	}
	return id
}

// simWatcher is a client that watches users.
type simWatcher struct {
	front    *simFront
	loop     int
	users    []string
	w        *watchlists.Watcher[*simApp, *simWatcher]
	believes map[string]bool // who is online; nil before it has started
}

func (f *simFront) openWatchlists() {
	var all []watchlists.Loop
	for _, l := range f.loops {
		all = append(all, l)
	}
	f.lists = watchlists.New[*simApp, *simWatcher](all, f, f)
}

func (f *simFront) Grace(*simApp) time.Duration { return simGrace }

func (f *simFront) Changed(loop int, _ *simApp, c *watchlists.Change[*simApp, *simWatcher]) {
	f.loops[loop].changes = append(f.loops[loop].changes, c)
}

// Watch and Unwatch are what the root asks of the node.
func (f *simFront) Watch(a *simApp, user string, ready func()) {
	s, topic := f.s, userTopic(user)
	f.watched[topic] = true
	s.asked++
	s.n.Join(topic, "", "", false, func() {
		if s.asked--; s.alive {
			ready()
		}
	})
}

func (f *simFront) Unwatch(a *simApp, user string) {
	delete(f.watched, userTopic(user))
	f.s.n.Leave(userTopic(user), "", false)
}

func (a *simApp) SignedIn(user string)  { a.front.s.fail("%s is counted on one node", user) }
func (a *simApp) SignedOut(user string) { a.front.s.fail("%s is counted on one node", user) }

func (a *simApp) Online(user string, online bool) { a.front.lists.Set(a, user, online) }

// watch begins a watcher on a loop, or ends one.
func (f *simFront) watch(by uint32) {
	w := f.s.w
	if n := len(f.watchers); n > 0 && by%3 == 0 {
		f.unwatch(f.watchers[int(by>>2)%n])
		return
	}
	v := &simWatcher{front: f, loop: int(by>>8) % len(f.loops)}
	for _, topic := range simTopics {
		if id := userOf(topic); id != "" && w.rng.IntN(2) == 0 {
			v.users = append(v.users, id)
		}
	}
	f.watchers = append(f.watchers, v)
	desk, known := f.lists.Desk(v.loop), false
	start := func() {
		v.believes = map[string]bool{}
		online, offline := desk.Start(v.w, "")
		for _, id := range online {
			v.believes[id] = true
		}
		for _, id := range offline {
			v.believes[id] = false
		}
	}
	if v.w, known = desk.Begin(f.apps["a"], v, v.users, start); known {
		start()
	} else {
		w.state("watcher: waits for the states of its users")
	}
}

func (f *simFront) unwatch(v *simWatcher) {
	f.lists.Desk(v.loop).End(v.w)
	f.watchers = slices.DeleteFunc(f.watchers, func(o *simWatcher) bool { return o == v })
}

// walk tells the next watchers of a change. Each is told once of each change.
func (l *simLoop) walk(by uint32) {
	c := l.changes[0]
	part, _, done := c.Next(1 + int(by%2))
	for _, v := range part {
		v.tell(c.User(), c.Online())
		l.front.s.w.state("watcher: is told")
	}
	if done {
		l.changes = l.changes[1:]
	}
}

// Gathered tells a watcher of several changes.
func (f *simFront) Gathered(v *simWatcher, online, offline []string) {
	for _, id := range online {
		v.tell(id, true)
	}
	for _, id := range offline {
		v.tell(id, false)
	}
	f.s.w.state("watcher: is told of what was gathered")
}

func (v *simWatcher) tell(id string, online bool) {
	if was, knows := v.believes[id]; !knows || was == online {
		v.front.s.fail("a watcher that believes %v is told that %s is online: %v", v.believes, id,
			online)
	}
	v.believes[id] = online
}

// noticeGone notes when the last of a user's connections has gone, as this node was told.
func (f *simFront) noticeGone(topic string) {
	if userOf(topic) != "" && len(f.s.view[topic]) == 0 {
		f.goneAt[topic] = f.s.w.now
	}
}

// checkWatchers checks that watchers believe what is true, but for users within their grace.
func (f *simFront) checkWatchers() {
	w := f.s.w
	for _, v := range f.watchers {
		if v.believes == nil {
			f.s.fail("a watcher of %v has not started", v.users)
		}
		for id, believed := range v.believes {
			online := w.pick(func(c *simClient) bool {
				return c.in && c.topic == userTopic(id)
			}, 0) != nil
			late := w.now.Sub(f.goneAt[userTopic(id)]) < simGrace+time.Second
			if believed != online && !(believed && late) {
				f.s.fail("a watcher believes that %s is online: %v", id, believed)
			}
		}
	}
}
