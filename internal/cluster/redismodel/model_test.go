package redismodel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/resp"
)

// TestModelKnowsScripts checks that the model knows the scripts in their order.
func TestModelKnowsScripts(t *testing.T) {
	var names []string
	for _, s := range scripts.New(false, true).All() {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, Scripts) {
		t.Errorf("the model knows the scripts %q, want %q", Scripts, names)
	}
}

// line writes a reply on one line.
func line(r resp.Reply) string {
	switch r.Kind {
	case resp.Array:
		var items []string
		for _, i := range r.Items {
			items = append(items, line(i))
		}
		return "[" + strings.Join(items, " ") + "]"
	case resp.Int:
		return fmt.Sprint(r.N)
	case resp.Null:
		return "nil"
	}
	return r.Text
}

// TestCommands gives the model the commands that nodes send, one after the other.
func TestCommands(t *testing.T) {
	var published []string
	m := New(scripts.New(false, true).Texts(), nil, func(channel, message string) int64 {
		published = append(published, channel+" "+message)
		return 2
	}, func(channel string) int64 { return int64(len(channel)) })
	m.Now = 1000
	for _, c := range []struct{ command, want string }{
		{"PUBLISH c hello", "2"},
		{"SPUBLISH c again", "2"},
		{"PUBSUB NUMSUB abc", "[abc 3]"},
		{"SET k v", "OK"},
		{"SET brief v EX 1", "OK"},
		{"GET k", "v"},
		{"GET none", "nil"},
		{"GET brief", "v"},
		{"HSET h f 1", "1"},
		{"HSET h g 2", "1"},
		{"HLEN h", "2"},
		{"HLEN none", "0"},
		{"HGETALL h", "[f 1 g 2]"},
		{"SADD s b", "1"},
		{"SADD s a", "1"},
		{"SADD s a", "0"},
		{"SADD r c", "1"},
		{"SMEMBERS s", "[a b]"},
		{"SMEMBERS none", "[]"},
		{"SUNION s r none", "[a b c]"},
		{"SREM r c", "1"},
		{"SREM s c", "0"},
		{"SREM none c", "0"},
		{"ZADD z 5 x", "1"},
		{"ZADD z -7 y", "1"},
		{"ZADD z 5 w", "1"},
		{"ZADD z 6 x", "0"},
		{"ZRANGE z 0 -1", "[y w x]"},
		{"ZRANGE none 0 -1", "[]"},
		{"HLEN s", string(wrongType)},
		{"EVALSHA 0 0", "NOSCRIPT No matching script. Please use EVAL."},
		{"DEL r k", "1"},
	} {
		if got := line(m.Do(strings.Fields(c.command)...)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.command, got, c.want)
		}
	}
	if want := []string{"c hello", "c again"}; !slices.Equal(published, want) {
		t.Errorf("published %q, want %q", published, want)
	}

	saved := m.Save()
	m.Now = 2000 // the end of brief
	want := []string{`h hash "f"="1" "g"="2"`, `s set "a"="" "b"=""`, `z zset "y"=-7 "w"=5 "x"=6`}
	if got := m.Dump(); !slices.Equal(got, want) {
		t.Errorf("got the keys %q, want %q", got, want)
	}
	m.Do("DEL", "h", "s", "z")
	m.Now = 1000
	if m.Load(saved); len(m.Dump()) != 4 {
		t.Errorf("the saved keys are %q, want 4", m.Dump())
	}
	if text, ok := m.Text("brief"); text != "v" || !ok || m.Hash("h")["f"] != "1" {
		t.Errorf("brief is %q, %v; h has %v", text, ok, m.Hash("h"))
	}
	if _, ok := m.Text("h"); ok || m.Hash("none") != nil {
		t.Error("a hash is a string, or a key that is not there a hash")
	}
}

// player runs scripts of a model.
type player struct {
	*Redis
	t    *testing.T
	hash map[string]string
}

func (p *player) run(name, want string, keys []string, args ...string) {
	p.t.Helper()
	command := append([]string{"EVALSHA", p.hash[name], fmt.Sprint(len(keys))}, keys...)
	if got := line(p.Do(append(command, args...)...)); got != want {
		p.t.Errorf("%s %q: got %s, want %s", name, args, got, want)
	}
}

// about runs a script about topic T for an incarnation.
func (p *player) about(name, want, id string, args ...string) {
	p.t.Helper()
	p.run(name, want, []string{"T:nodes", "T:users:" + id, "T:count", "T:members", "T:order",
		"T:cached",
		id + ":topics", id + ":dead"}, append([]string{id, "T", "P:" + id}, args...)...)
}

// claims takes every branch of the script claim.
func (p *player) claims() {
	p.t.Helper()
	print, other := strings.Repeat("p", 32), strings.Repeat("o", 32)
	a, b := strings.Repeat("a", 16), strings.Repeat("b", 16)
	step := func(want, print, owner, state string, event ...string) {
		p.t.Helper()
		p.run("claim", want, []string{"K", "T:cached"},
			append([]string{print, owner, state, "1000", "100"}, event...)...)
	}
	one := []string{"T", "_\x01e12345678one"}
	p.Do("SADD", "K", "foreign")
	step("1", print, a, "d{}", one...)
	step("1", print, a, "d{}", one...) // sent again
	step("d{}", print, b, "d{}", one...)
	step("x", other, b, "d{}", one...)
	p.Now += 1000
	step("1", print, a, "p", "T", "_\x01e12345678two", "two", "10")
	step("p", print, b, "p")
	step("k", print, a, "p")
	p.Now += 99
	step("p", print, b, "")
	p.Now++
	step("k", print, b, "")
	step("d", print, b, "p", one...)
	step("k", print, b, "p")
	step("k", print, b, "d{1}")
	step("d{1}", print, a, "d{2}")
	step("k", print, b, "")
	step("k", print, a, "")
	if text, _ := p.Text("T:cached"); text != "two" || p.keys["K"] != nil {
		p.t.Errorf("the cached event is %q, and the claim %v", text, p.keys["K"])
	}
	// A request for two channels fails behind the first: its claim goes, the note of the channel
	// stays, for the same request alone.
	note := func(want, print, owner string) {
		p.t.Helper()
		p.run("claim", want, []string{"K:1", "T:cached"},
			append([]string{print, owner, "d", "1000", "100"}, one...)...)
	}
	step("k", print, a, "p")
	note("1", print, a)
	step("k", print, a, "")
	step("k", other, b, "p")
	note("x", other, b)
	step("k", other, b, "")
	note("d", print, b)
	p.Do("DEL", "T:cached", "K:1")
}

// outbox takes every branch of the scripts about lanes, and of hooks.lua.
func (p *player) outbox() {
	p.t.Helper()
	lane := []string{"L:events", "L:leavings", "L:state", "L:waiting", "L:absent"}
	about := func(name, id string, grace string, args ...string) {
		p.t.Helper()
		keys := append([]string{"H:nodes", "H:users:" + id, "H:count", "H:members", "H:order",
			"H:cached", id + ":topics", id + ":dead"}, lane...)
		args = append([]string{id, "H", "P:" + id}, args...)
		p.run(name, "1", keys, append(args, "ovar,", "presence-h", grace)...)
	}
	ask := func(want, id, lease, settled, has string, limits ...string) {
		p.t.Helper()
		if limits == nil {
			limits = []string{"50", "300", "0"}
		}
		p.run("lane", want, append(lane[:5:5], id+":dead"),
			append([]string{id, "P:" + id, lease, settled, has}, limits...)...)
	}
	other := func(want string, args ...string) {
		p.t.Helper()
		p.run("tell", want, []string{lane[0], lane[2]}, args...)
	}
	p.Now = 1000
	about("sync", "a-1", "0", "t", "1", "tok", "0", "0", "u", "{}")
	ask("[1 1000-0 -1 0 0 0 2 0 [[1000-0 [k o c presence-h u ]] [1000-1 [k a c presence-h u u]]]]",
		"a-1", "10", "", "")
	ask("[0 10]", "b-1", "10", "", "")
	other("1", "9", "100", "20", "k", "m", "c", "presence-h")
	other("0", "9", "30", "20", "k", "m", "c", "presence-h")
	ask("[1 1000-0 -1 1 0 0 3 0 []]", "a-1", "10", "", "1000-0")
	about("leave", "a-1", "5", "t", "0") // both are in their grace
	about("subscriptions", "a-1", "5", "t", "1", "0")
	ask("[1 1000-2 5 0 0 0 1 1 [[1000-2 [s 20 k m c presence-h]]]]", "a-1", "10", "1000-0", "")
	p.Now = 1006 // the channel is back, the member is not
	ask("[1 1000-2 -1 0 0 0 2 0 []]", "a-1", "10", "", "1000-2")
	ask("[0 0]", "a-1", "0", "1000-2", "")
	ask("[1 1006-0 -1 0 0 0 1 0 [[1006-0 [k r c presence-h u u]]]]", "b-1", "10", "", "")
	about("leave", "a-1", "5", "t", "0")
	p.Now = 2000 // nobody was here for long
	ask("[1 1006-0 30 0 0 0 1 1 []]", "a-2", "100", "", "1006-0", "50", "300", "30")
	ask("[0 10]", "a-1", "10", "", "")
	p.Now = 2030
	ask("[1 2030-0 -1 0 0 0 1 0 [[2030-0 [k v c presence-h u ]]]]", "a-2", "100", "1006-0", "")
	for range 2 { // no room, and then apart
		other("1", "9", "900", "200", "k", "m", "c", "private-encrypted-x")
	}
	other("1", "9", "900", "20", "k", "m", "c", "x")
	ask("[1 2030-1 -1 0 0 0 3 0 [[2030-1 [s 200 k m c private-encrypted-x]]]]", "a-2", "100",
		"2030-0", "")
	ask("[1 2030-2 -1 0 0 0 2 0 []]", "a-2", "100", "2030-1", "2030-2")
	other("0", "0", "900", "20", "k", "m", "c", "x")
	p.Do("SADD", "foreign", "x")
	lane[0] = "foreign"
	about("sync", "a-2", "0", "t", "1", "tok", "0", "0")
	ask("WRONGTYPE the key foreign is a set, not a stream", "a-2", "100", "", "")
	lane[0] = "L:events"
	about("present", "a-2", "0", "tok", "u", "{}")
	about("leave", "a-2", "0", "t", "0")
	ask("[1 2030-3 -1 1 1 0 4 0 []]", "a-2", "100", "2030-2", "2030-3")
	ask("[1 2030-6 -1 0 0 0 1 0 []]", "a-2", "100", "2030-3", "2030-6")
	ask("[1  -1 0 0 0 0 0 []]", "a-2", "100", "2030-6", "")
	if got := p.keys[lane[2]].hash["bytes"]; got != "0" {
		p.t.Errorf("%s bytes are left", got)
	}
	for range 2 {
		p.run("tell", "1", []string{lane[0], lane[2], "count"}, "9", "900", "20", "k", "n", "c",
			"x", "n", "5")
	}
	ask("[1 2030-7 -1 0 0 0 1 0 [[2030-7 [s 20 k n c x n 5]]]]", "a-2", "100", "", "")
	// A stranger has written which batch is under way.
	for range 1000 {
		other("1", "9999", "99999", "20", "k", "m", "c", "x")
	}
	p.Do("HSET", lane[2], "last", "9999-0")
	ask("[1 2030-1007 -1 0 0 0 1 0 [[2030-1007 [s 20 k m c x]]]]", "a-2", "100", "2030-7", "")
	large := "99999999999999999999-0" // no ID: 64 bits
	p.Do("HSET", lane[2], "first", large)
	ask("[1 "+large+" -1 0 0 0 1 0 []]", "a-2", "100", "", "")
	ask("[1 2030-1007 -1 0 0 0 1 0 []]", "a-2", "100", large, "2030-1007")
	p.Do("SET", "a-2:dead", "1")
	ask(fenced.Text, "a-2", "10", "", "")
	ask("[1  -1 0 0 0 0 0 []]", "b-1", "10", "2030-1007", "")
	p.Do("DEL", "foreign", "a-2:dead", "count")
}

// stage has a lane for the scripts about channels, of node n-1. Its events are said as "o c".
type stage struct {
	*player
	lane         []string
	wants, grace string
	settled      string
}

func (s *stage) about(name, channel string, args ...string) {
	s.t.Helper()
	t := "S:" + channel
	keys := append([]string{t + ":nodes", t + ":users", t + ":count", t + ":members", t + ":order",
		t + ":cached", "n-1:topics", "n-1:dead"}, s.lane...)
	s.run(name, "1", keys, append(append([]string{"n-1", t, "P:n-1"}, args...), s.wants+",",
		channel, s.grace)...)
}

func (s *stage) join(channel string) {
	s.t.Helper()
	s.about("subscriptions", channel, channel, "1", "0")
}

func (s *stage) leave(channel string) {
	s.t.Helper()
	s.about("leave", channel, channel, "0")
}

func (s *stage) present(channel, user string) {
	s.t.Helper()
	s.about("present", channel, "tok", user, "{}")
}

func (s *stage) absent(channel, user string) {
	s.t.Helper()
	s.about("absent", channel, user)
}

// ask settles the last batch, and takes one of at most so many events.
func (s *stage) ask(events, undone int) {
	s.t.Helper()
	command := append(append([]string{"EVALSHA", s.hash["lane"], "6"}, s.lane...), "n-1:dead",
		"n-1", "P:n-1", "100", s.settled, "", fmt.Sprint(events), "9999", "0")
	r := s.Do(command...)
	if len(r.Items) != 9 || r.Items[5].N != int64(undone) {
		s.t.Errorf("the lane says %s, want %d that are undone", line(r), undone)
		return
	}
	s.settled = r.Items[1].Text
}

// has compares the events of the lane, their notes, and the leavings.
func (s *stage) has(events, notes, leavings string) {
	s.t.Helper()
	var got [3][]string
	if v := s.keys[s.lane[0]]; v != nil {
		for _, e := range v.entries {
			got[0] = append(got[0], strings.TrimSpace(e.of("k")+" "+e.of("c")+" "+e.of("u")))
		}
	}
	for name, note := range s.Hash(s.lane[3]) {
		got[1] = append(got[1], note[:1]+" "+strings.TrimSpace(name))
	}
	if v := s.keys[s.lane[1]]; v != nil {
		for name := range v.score {
			got[2] = append(got[2], strings.TrimSpace(name))
		}
	}
	slices.Sort(got[1])
	slices.Sort(got[2])
	for i, want := range []string{events, notes, leavings} {
		if text := strings.Join(got[i], ", "); text != want {
			s.t.Errorf("%s: got %q, want %q", []string{"events", "notes", "leavings"}[i], text,
				want)
		}
	}
	if absent := s.keys[s.lane[4]]; absent != nil {
		for name := range absent.score {
			if !strings.Contains(strings.ToLower(leavings), "r "+name) {
				s.t.Errorf("%q is absent, and not in the leavings %q", name, leavings)
			}
		}
	}
}

// undone takes every branch of transitions.lua.
func (p *player) undone() {
	p.t.Helper()
	s := &stage{player: p, wants: "ovar", grace: "0",
		lane: strings.Fields("U:events U:leavings U:state U:waiting U:absent")}
	p.Now, p.Many = 3000, 2
	s.join("a")
	s.join("b")
	s.leave("b") // few wait, so all is told
	s.has("o a, o b, v b", "v b", "")
	s.join("b")
	s.has("o a, o b", "", "")
	s.leave("b")
	s.join("c")
	s.present("c", "u")
	s.has("o a, o b, v b, o c, a c u", "a c u, o c, v b", "")
	s.absent("c", "u")
	s.present("c", "u")
	s.has("o a, o b, v b, o c, a c u", "a c u, o c, v b", "")
	s.ask(4, 4) // what is part of a batch is not undone
	s.has("o a, o b, v b, o c, a c u", "a c u", "")
	s.leave("c")
	s.has("o a, o b, v b, o c, v c", "v c", "")
	s.join("c")
	s.ask(1, 4)
	s.has("", "", "")

	// A member that goes and comes is told.
	s.join("d")
	s.present("c", "u")
	s.absent("c", "u")
	s.present("c", "u")
	s.has("o d, a c u, r c u, a c u", "a c u", "")
	s.absent("c", "u")
	s.has("o d, a c u, r c u", "", "")
	s.ask(50, 2)
	s.ask(50, 0)

	// Of equal ones the older one goes, if it is there.
	s.wants, p.Many = "vr", 0
	for range 3 {
		s.leave("c")
		s.leave("d")
		s.join("c")
	}
	s.has("v d, v c", "v c, v d", "")
	p.Do("HSET", s.lane[3], "c ", "v1-1")
	s.leave("c")
	s.join("c")
	p.Do("HSET", s.lane[3], "c ", "strange")
	s.leave("c")
	s.has("v d, v c, v c, v c", "v c, v d", "")
	s.ask(50, 2)
	s.ask(50, 0)

	// No note counts any more when there are fewer.
	s.wants, p.Many = "ov", 3
	for _, channel := range []string{"f", "g", "h", "i", "j"} {
		s.join(channel)
	}
	s.has("o f, o g, o h, o i, o j", "o i, o j", "")
	for range 3 {
		s.ask(1, 0)
	}
	s.has("o h, o i, o j", "o i, o j", "")
	s.leave("j")
	s.has("o h, o i", "", "")
	s.leave("i")
	for _, channel := range []string{"i", "k", "l"} {
		s.join(channel)
	}
	s.has("o h, o i, v i, o i, o k, o l", "o i, o k, o l", "")
	s.ask(3, 2)
	s.has("o i, v i, o i, o k, o l", "o k, o l", "")
	s.ask(1, 0)
	s.has("o k, o l", "", "")
	s.ask(50, 0)
	s.ask(50, 0)
	p.Many = 50_000

	// A channel that is vacated ends the grace of its members: they are told before.
	members := func(wants string) {
		s.wants, s.grace = "", "0"
		s.join("e")
		for _, user := range []string{"u", "v", "w"} {
			s.present("e", user)
		}
		s.wants, s.grace = wants, "5"
		s.absent("e", "v")
		s.absent("e", "u")
		s.grace = "0"
		s.absent("e", "w")
	}
	members("ovar")
	s.has("r e w", "", "r e u, r e v")
	s.present("e", "v") // back in time
	s.absent("e", "v")
	s.has("r e w, r e v", "", "r e u")
	s.leave("e")
	s.has("r e w, r e v, r e u, v e", "", "")
	s.join("e")
	s.present("e", "u")
	s.has("r e w, r e v, r e u, v e, o e, a e u", "", "")
	s.grace = "5"
	s.leave("e")
	s.ask(50, 0)
	p.Now += 5
	s.ask(50, 0) // both are due
	s.has("r e u, v e", "", "")
	s.ask(50, 0)

	// Who wants only those that come does not hear of who was away for a moment, but of who is
	// back when the channel was vacated.
	members("oa")
	s.has("", "", "R e u, R e v")
	s.present("e", "u")
	s.has("", "", "R e v")
	s.grace = "5"
	s.leave("e")
	s.has("", "", "R e u, R e v, V e")
	s.join("e")
	s.has("", "", "R e u, R e v")
	s.grace = "0"
	s.leave("e")
	s.has("", "", "")
	s.join("e")
	s.present("e", "v")
	s.has("o e, a e v", "", "")
	s.ask(50, 0)
	s.ask(50, 0)
	// A grace that was longer ends with that of the channel.
	s.grace = "9"
	s.absent("e", "v")
	s.grace = "5"
	s.leave("e")
	p.Now += 5
	s.ask(50, 0)
	s.has("", "", "")
	s.wants = "v"
	s.join("e")
	p.Do("ZADD", s.lane[1], "1", "strange")
	s.leave("e")
	p.Now += 5
	s.ask(50, 0)
	s.has("v e", "", "")
	s.ask(50, 0)
	// Who wants neither of a channel does not lose the grace of its members.
	members("ar")
	s.leave("e")
	s.has("r e w", "", "r e u, r e v")
	p.Now += 5
	s.ask(50, 0)
	s.ask(50, 0)
	// A script tells of few members; then the owner goes on, and the channel comes behind all.
	p.Most = 2
	members("ovar")
	s.leave("e")
	s.has("r e w, r e u, r e v", "", "v e")
	s.ask(50, 0)
	s.has("r e w, r e u, r e v, v e", "", "")
	s.ask(50, 0)
	members("oar")
	s.present("e", "w")
	s.grace = "5"
	s.absent("e", "w")
	s.grace = "0"
	s.leave("e")
	s.has("r e w, a e w, r e u, r e v", "", "V e, r e w")
	p.Most = 1
	s.ask(50, 0)
	s.has("r e w, a e w, r e u, r e v, r e w", "", "V e")
	p.Most = 1000
	s.ask(50, 0)
	s.has("", "", "")
	// Both are due in one turn, the channel first.
	members("ovar")
	s.has("r e w", "", "r e u, r e v")
	s.grace = "2"
	s.leave("e")
	p.Now += 5
	s.ask(50, 0)
	s.has("r e w, r e u, r e v, v e", "", "")
	s.ask(50, 0)
	s.has("", "", "")
}

// TestScripts lets two nodes live and die, and takes every branch of the scripts.
func TestScripts(t *testing.T) {
	all, hash := scripts.New(false, true).All(), map[string]string{}
	var texts, published []string
	for _, s := range all {
		texts, hash[s.Name] = append(texts, s.Text), s.SHA
	}
	publish := func(channel, message string) int64 {
		published = append(published, channel+" "+message[:2]+message[min(10, len(message)):])
		return 1
	}
	p := &player{New(texts, nil, publish, nil), t, hash}
	p.Now = 100
	nodes := []string{"nodes", "ready"}
	fencedText := fenced.Text
	p.run("renew", "[[] [] 100]", nodes, "x-1", "50", "first", "0", "10", "0", "all")
	p.run("renew", fencedText, nodes, "y-1", "50", "", "0", "10", "0", "all")
	p.run("renew", "[[] [x-1] 100]", nodes, "x-1", "50", "ready", "0", "10", "0", "all")
	p.run("renew", "[[] [x-1] 100]", nodes, "x-1", "50", "ready", "0", "10", "0", "all")
	p.run("renew", "[[] [x-1] 100]", nodes, "y-1", "500", "first", "0", "10", "0", "all")

	p.about("sync", "1", "x-1", "t", "1", "tok", "1", "0", "u1", "i1")
	p.about("present", "1", "x-1", "tok", "u1", "i1")
	p.about("present", "1", "y-1", "tok", "u1", "i1")
	p.about("absent", "1", "y-1", "u1")
	p.about("absent", "1", "y-1", "u1")
	p.about("subscriptions", "1", "y-1", "t", "3", "1")
	p.about("subscriptions", "1", "y-0", "t", "9", "1")
	p.about("subscriptions", "1", "stranger", "t", "9", "1")
	p.run("cached", "1", []string{"T:cached"}, "T", "_\x01e12345678sun", "sun", "10")
	p.about("sync", "1", "x-1", "t", "2", "tok", "1", "1", "u2", "i2")
	p.about("sync", "1", "y-1", "t", "1", "tok", "0", "0")
	p.about("leave", "1", "y-0", "t", "0")
	p.about("leave", "1", "stranger", "t", "0")
	counts := func(id string) []string { return []string{"nodes", "node:" + id + ":counts"} }
	p.run("count", "7", counts("x-1"), "a", "7", "x-1", "node:")
	p.Do("ZADD", "nodes", "500", "x-0")
	p.Do("HSET", "node:x-0:counts", "a", "5")
	p.Do("ZADD", "nodes", "501", "stranger")
	p.run("count", "9", counts("y-1"), "a", "2", "y-1", "node:")
	p.run("count", fencedText, counts("z-1"), "a", "2", "z-1", "node:")

	p.Now = 200 // the lease of x-1 is over
	p.run("renew", "[[x-1] [] 200]", nodes, "y-1", "500", "", "1", "10", "150", "all")
	p.run("renew", "[[] [] 200]", nodes, "y-1", "500", "", "1", "10", "150", "all")
	p.Now = 220
	p.run("renew", "[[x-1] [] 220]", nodes, "y-1", "500", "", "1", "10", "150", "all")
	p.Do("SET", "x-1:dead", "1")
	p.about("present", fencedText, "x-1", "tok", "u3", "")
	p.about("bury", "1", "x-1", "t", "1")
	p.run("forget", "1", []string{"nodes", "ready", "x-1:counts"}, "x-1")
	p.about("leave", "1", "y-1", "t", "1")
	p.Do("SET", "T:members", "foreign")
	p.about("leave", "WRONGTYPE the key T:members is a string, not a hash", "y-1", "t", "1")
	p.Do("DEL", "T:members")
	p.Do("SET", "T:order", "no number")
	p.about("present", "ERR value is not an integer or out of range", "y-1", "tok", "u1", "")

	p.claims()
	events := len(published)
	p.outbox()
	p.undone()
	published = published[:events]
	if missing := p.Missing(); len(missing) > 0 {
		t.Errorf("branches that were not taken: %q", missing)
	}
	want := []string{"all \x01n3:x-1",
		"T \x01+2:u12:i1", "P:x-1 \x01stok2:0:2:u14:1:i1", "P:x-1 \x01mtok", "P:y-1 \x01mtok",
		"T \x01c1:4", "T \x01c1:4", "T \x01c1:4", "T _\x018sun",
		"T \x01-2:u1", "T \x01+2:u22:i2", "P:x-1 \x01stok9:10000:sun2:u24:3:i2",
		"T \x01c1:5",
		"P:y-1 \x01stok2:0:2:u24:3:i2",
		"T \x01-2:u2", "T \x01c1:1",
		"T _\x018one", "T _\x018one", "T _\x018two", "T _\x018one"}
	if !slices.Equal(published, want) {
		t.Errorf("published %q,\nwant %q", published, want)
	}
}
