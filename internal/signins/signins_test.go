package signins

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reverb/internal/protocol"
	"reverb/internal/watchlists"
)

// stage plays the loop, the other nodes and the app of one client.
type stage struct {
	tasks []func()
	ready map[string]func() // of the users whose states nobody knows yet
	lists *watchlists.Lists[string, *client]
}

func (s *stage) Post(task func())                     { s.tasks = append(s.tasks, task) }
func (s *stage) After(time.Duration, func())          {}
func (s *stage) Now() time.Duration                   { return 0 }
func (s *stage) Grace(string) time.Duration           { return time.Second }
func (s *stage) Gathered(*client, []string, []string) {}

func (s *stage) Changed(_ int, _ string, v *watchlists.Change[string, *client]) {
	for {
		if _, _, done := v.Next(10); done {
			return
		}
	}
}

func (s *stage) Watch(_, user string, ready func()) { s.ready[user] = ready }
func (s *stage) Unwatch(_, user string)             { delete(s.ready, user) }

// run runs the tasks of the loop.
func (s *stage) run() {
	for len(s.tasks) > 0 {
		task := s.tasks[0]
		s.tasks = s.tasks[1:]
		task()
	}
}

// place is a place on the channel of a user.
type place struct{ member *protocol.Member }

func (p *place) Member() *protocol.Member { return p.member }

// client notes what is asked of it.
type client struct {
	*stage
	Identity[string, *client, *place]
	later bool   // the place comes with Entered
	asked *place // then
	told  []string
}

func (c *client) Watches() (*watchlists.Desk[string, *client], string) {
	return c.lists.Desk(0), "app"
}

func (c *client) TakePlace(m *protocol.Member) *place {
	c.note("take %s", m.ID)
	p := &place{m}
	if c.later {
		c.asked = p
		return nil
	}
	return p
}

func (c *client) LeavePlace(p *place) { c.note("leave %s", p.member.ID) }

func (c *client) Greet(u *protocol.User, online, offline []string) {
	c.note("greet %s%s %v %v", u.ID, u.Info, online, offline)
}

func (c *client) note(format string, args ...any) {
	c.told = append(c.told, fmt.Sprintf(format, args...))
}

// want compares what was asked of the client since it was last called.
func (c *client) want(t *testing.T, told ...string) {
	t.Helper()
	if got, want := strings.Join(c.told, "|"), strings.Join(told, "|"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.told = nil
}

func newClient(alone bool) *client {
	s := &stage{ready: map[string]func(){}}
	var peers watchlists.Peers[string]
	if !alone {
		peers = s
	}
	s.lists = watchlists.New[string, *client]([]watchlists.Loop{s}, s, peers)
	return &client{stage: s}
}

func user(id, info string, watchlist ...string) *protocol.User {
	return &protocol.User{Member: *protocol.NewMember(id, info), Watchlist: watchlist}
}

func TestSignIn(t *testing.T) {
	c := newClient(true)
	if c.Member() != nil || c.Only() != nil || c.Identity.Place() != nil {
		t.Error("the zero Identity is somebody")
	}
	c.SignIn(c, user("7", ""))
	c.want(t, "take 7", "greet 7 [] []")
	if m := c.Member(); m == nil || m.ID != "7" || c.Only() != m || c.Identity.Place().member != m {
		t.Errorf("%+v", c.Identity)
	}
	// Again, with other data: the place stays, and its member too.
	c.SignIn(c, user("7", `{"a":1}`, "8", "9"))
	c.want(t, `greet 7{"a":1} [] [8 9]`)
	if string(c.Member().Info) != `{"a":1}` || c.Identity.Place().member.Info != nil {
		t.Errorf("%s, %s", c.Member().Info, c.Identity.Place().member.Info)
	}
	c.lists.SignedIn("app", "8")
	c.run()
	c.SignIn(c, user("7", "", "8"))
	c.want(t, "greet 7 [8] []")
	if c.Member().Info != nil {
		t.Errorf("info %s", c.Member().Info)
	}
	c.SignOut(c)
	c.want(t, "leave 7")
	if c.Member() != nil || c.Only() != nil {
		t.Errorf("%+v", c.Identity)
	}
	var nobody *Identity[string, *client, *place]
	if nobody.Member() != nil || nobody.Only() != nil || nobody.Place() != nil {
		t.Error("nil is somebody")
	}
}

// A sign-in waits for the states of all watched users; a later one takes its place.
func TestSignInReplaced(t *testing.T) {
	c := newClient(false)
	c.SignIn(c, user("7", "", "8", "9"))
	c.ready["8"]()
	c.run()
	c.want(t)
	if c.Member() != nil || c.Only() == nil || c.Only().ID != "7" {
		t.Errorf("%+v", c.Identity)
	}
	last := c.ready["9"]
	c.SignIn(c, user("7", `"new"`, "8"))
	c.want(t)
	c.ready["8"]() // it was forgotten, and is asked for again
	c.run()
	c.want(t, "take 7", `greet 7"new" [] [8]`)
	last() // the answer comes too late
	c.run()
	c.want(t)
	if c.Only() != c.Member() {
		t.Error("a sign-in is not answered")
	}
}

// While the cluster is asked for the place, only the latest sign-in counts, and comes afterwards.
func TestSignInMeanwhile(t *testing.T) {
	c := newClient(true)
	c.later = true
	c.SignIn(c, user("7", "1"))
	c.SignIn(c, user("7", "2"))
	c.SignIn(c, user("7", "3"))
	c.want(t, "take 7")
	if c.Member() != nil || c.Only().ID != "7" {
		t.Errorf("%+v", c.Identity)
	}
	c.Entered(c, c.asked)
	c.want(t, "greet 71 [] []", "greet 73 [] []")
	if string(c.Member().Info) != "3" {
		t.Errorf("info %s", c.Member().Info)
	}
}

// The end of a connection ends what it has at that moment, and nothing else.
func TestSignOut(t *testing.T) {
	c := newClient(false)
	c.SignIn(c, user("7", "", "8"))
	ready := c.ready["8"]
	c.SignOut(c)
	ready()
	c.run()
	c.want(t)

	c = newClient(true)
	c.later = true
	c.SignIn(c, user("7", ""))
	c.want(t, "take 7")
	c.SignOut(c) // the engine grants the place to nobody
	c.want(t)
	if c.Only() != nil {
		t.Errorf("%+v", c.Identity)
	}
}
