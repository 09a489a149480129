package redismodel

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// entry is an entry of a stream.
type entry struct {
	id     [2]int64 // milliseconds and number
	fields []string
}

func (e *entry) name() string {
	return strconv.FormatInt(e.id[0], 10) + "-" + strconv.FormatInt(e.id[1], 10)
}

// of is the value of a field; empty: there is none.
func (e *entry) of(field string) string {
	for i := 0; i+1 < len(e.fields); i += 2 {
		if e.fields[i] == field {
			return e.fields[i+1]
		}
	}
	return ""
}

// --- Commands ---

func (m *Redis) xlen(key string) int {
	if v := m.find(key, "stream"); v != nil {
		return len(v.entries)
	}
	return 0
}

// xadd adds an entry with an ID of the present time.
func (m *Redis) xadd(key string, fields ...string) {
	v := m.make(key, "stream")
	id := [2]int64{m.Now, 0}
	if id[0] <= v.last[0] {
		id = [2]int64{v.last[0], v.last[1] + 1}
	}
	v.last = id
	v.entries = append(v.entries, entry{id, fields})
}

// xrange lists the entries from one ID to another.
func (m *Redis) xrange(key, first, last string) (found []entry) {
	v := m.find(key, "stream")
	if v == nil {
		return nil
	}
	from, to := idOf(first), idOf(last)
	for _, e := range v.entries {
		if slices.Compare(e.id[:], from[:]) >= 0 && slices.Compare(e.id[:], to[:]) <= 0 {
			found = append(found, e)
		}
	}
	return found
}

func idOf(text string) (id [2]int64) {
	switch text {
	case "-":
		return id
	case "+":
		return [2]int64{math.MaxInt64, math.MaxInt64}
	}
	ms, number, _ := strings.Cut(text, "-")
	id[0], _ = strconv.ParseInt(ms, 10, 64)
	id[1], _ = strconv.ParseInt(number, 10, 64)
	return id
}

// isID says whether a text is an ID.
func isID(text string) bool {
	ms, number, ok := strings.Cut(text, "-")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return ok && digits(ms) && digits(number)
}

func (m *Redis) xdel(key string, some []entry) (deleted int) {
	if v := m.find(key, "stream"); v != nil {
		deleted = len(v.entries)
		v.entries = slices.DeleteFunc(slices.Clone(v.entries), func(e entry) bool {
			return slices.ContainsFunc(some, func(o entry) bool { return o.id == e.id })
		})
		deleted -= len(v.entries)
	}
	return deleted
}

func entries(list []entry) resp.Reply {
	r := resp.Reply{Kind: resp.Array}
	for i := range list {
		e := &list[i]
		fields := make([]resp.Reply, len(e.fields))
		for k, f := range e.fields {
			fields[k] = text(f)
		}
		r.Items = append(r.Items, resp.Reply{Kind: resp.Array, Items: []resp.Reply{text(e.name()),
			{Kind: resp.Array, Items: fields}}})
	}
	return r
}

func (m *Redis) expire(key string) {
	if v := m.find(key, ""); v != nil {
		v.until = m.Now + 604_800_000
	}
}

// field is a field of a hash; empty: there is none.
func (m *Redis) field(key, name string) string {
	if v := m.find(key, "hash"); v != nil {
		return v.hash[name]
	}
	return ""
}

// try is redis.pcall: ok is false if a command fails.
func (m *Redis) try(run func()) (ok bool) {
	defer func() {
		if _, failed := recover().(failure); failed {
			m.take("try: failed")
			ok = false
		}
	}()
	run()
	return true
}

// --- Scripts ---

const maxLane = 100_000

// put is put.lua. It tells -1 if the event is refused.
func (m *Redis) put(events, state string, limit int, fields ...string) (length int) {
	done := m.try(func() { length = m.xlen(events) }) && length < limit &&
		m.try(func() { m.xadd(events, fields...) })
	if !done {
		m.take("put: refused")
		name := "untold"
		if fields[0] == "s" {
			name = "lost"
		}
		m.try(func() { m.hincrby(state, name, 1) })
		return -1
	}
	if length == 0 {
		m.take("put: first")
		m.expire(events)
	} else {
		m.take("put: more")
	}
	if m.Told != nil {
		m.Told(events, fields)
	}
	return length
}

// wake is of put.lua, too.
func (m *Redis) wake(events, state string, milliseconds int64) {
	owner := ""
	m.try(func() { owner = m.field(state, "wake") })
	if owner == "" {
		m.take("wake: no owner")
		return
	}
	m.take("wake: owner")
	m.publish(owner, "h", netstring(events)+netstring(strconv.FormatInt(milliseconds, 10)))
}

// say is of transitions.lua. lane has the five keys of a lane.
func (m *Redis) say(lane []string, kind, channel, user string) (before int) {
	events, state, waiting := lane[0], lane[2], lane[3]
	name, length, note := channel+" "+user, 0, ""
	noting := m.try(func() { length = m.xlen(events) }) && length >= m.Many
	if noting {
		m.try(func() { note = m.field(waiting, name) })
	}
	if note != "" {
		m.hdel(waiting, name)
		was, id := note[:1], note[1:]
		switch {
		case !letter(was) || !isID(id):
			m.take("say: strange note")
		case was == "r" && kind == "a":
			m.take("say: member comes again")
		case m.xdel(events, m.xrange(events, id, id)) == 0:
			m.take("say: not there")
		case was == kind:
			m.take("say: equal")
			m.try(func() { m.hincrby(state, "undone", 1) })
		default:
			m.take("say: undone")
			m.try(func() { m.hincrby(state, "undone", 2) })
			if length == m.Many {
				m.take("say: fewer than many")
				delete(m.keys, waiting)
			}
			return -1
		}
	}
	before = m.put(events, state, maxLane, "k", kind, "c", channel, "u", user)
	if before >= 0 && noting {
		m.take("say: noted")
		list := m.keys[events].entries
		m.try(func() { m.hset(waiting, name, kind+list[len(list)-1].name()) })
		m.expire(waiting)
	}
	return before
}

// vacate is of transitions.lua, too.
func (m *Redis) vacate(lane []string, channel string) (empty, more bool) {
	var names []string
	m.try(func() {
		if v := m.find(lane[4], "zset"); v != nil {
			names = m.byScore(v, -1<<62, 1<<62)
		}
	})
	for _, name := range names {
		user, of := strings.CutPrefix(name, channel+" ")
		if !of || m.most == 0 {
			continue
		}
		m.most--
		m.zrem(lane[4], name)
		was := int64(0)
		m.try(func() { was = m.zrem(lane[1], "r "+name) })
		if was == 0 {
			m.take("vacate: not told")
			m.try(func() { m.zrem(lane[1], "R "+name) })
			continue
		}
		m.take("vacate: told")
		if m.say(lane, "r", channel, user) == 0 {
			empty = true
		}
	}
	return empty, m.most == 0
}

// letter says whether a text is one.
func letter(s string) bool {
	return len(s) == 1 && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z')
}

// hooks is what hooks.lua makes of KEYS and ARGV.
type hooks struct {
	lanes   []string // which kinds each wants
	keys    []string // five for each lane
	channel string
	grace   int64
}

// readHooks returns the arguments without those of hooks.
func (m *Redis) readHooks(k, a []string) []string {
	m.hooks = hooks{}
	if len(k) <= 8 {
		return a
	}
	n := len(a) - 3
	m.hooks.keys = k[8:]
	m.hooks.lanes = strings.Split(strings.TrimSuffix(a[n], ","), ",")
	m.hooks.channel = a[n+1]
	m.hooks.grace, _ = strconv.ParseInt(a[n+2], 10, 64)
	return a[:n]
}

// tell is of hooks.lua.
func (m *Redis) tell(kind, user string) {
	for i, wants := range m.hooks.lanes {
		m.tellLane(m.hooks.keys[5*i:5*i+5], wants, kind, user)
	}
}

func (m *Redis) tellLane(lane []string, wants, kind, user string) {
	h, events, leavings, state := &m.hooks, lane[0], lane[1], lane[2]
	reverse := map[string]string{"o": "v", "v": "o", "a": "r", "r": "a"}[kind]
	wanted, wakeNow := strings.Contains(wants, kind), false
	name := h.channel + " " + user
	switch {
	case kind == "o" || kind == "a":
		back := int64(0)
		m.try(func() { back = m.zrem(leavings, reverse+" "+name) })
		m.try(func() { back += m.zrem(leavings, strings.ToUpper(reverse)+" "+name) })
		if back > 0 {
			m.take("tell: back")
			if kind == "a" {
				m.try(func() { m.zrem(lane[4], name) })
			}
			wanted = false
		}
	case wanted || strings.Contains(wants, reverse):
		waiting := maxLane
		if h.grace > 0 {
			m.try(func() {
				if v := m.find(leavings, "zset"); v == nil {
					waiting = 0
				} else {
					waiting = len(v.score)
				}
			})
		}
		if waiting < maxLane {
			m.grace(lane, kind, name, wanted, waiting)
			wanted = false
		} else if kind == "v" {
			m.take("tell: vacated at once")
			more := false
			if wakeNow, more = m.vacate(lane, h.channel); more {
				m.take("tell: vacated later")
				m.later(leavings, wanted, name)
				wanted, wakeNow = false, true
			}
		}
	}
	if wanted {
		m.take("tell: " + kind)
		wakeNow = m.say(lane, kind, h.channel, user) == 0 || wakeNow
	} else {
		m.take("tell: not wanted")
	}
	if wakeNow {
		m.wake(events, state, 0)
	}
}

// later lets the owner of a lane tell of a vacated channel.
func (m *Redis) later(leavings string, wanted bool, name string) {
	kind := "V "
	if wanted {
		kind = "v "
	}
	m.try(func() { m.zadd(leavings, kind+name, 0) })
	m.try(func() { m.expire(leavings) })
}

// grace puts what has gone into the leavings, of which there are some.
func (m *Redis) grace(lane []string, kind, name string, wanted bool, some int) {
	goes := kind
	if m.take("tell: grace"); !wanted {
		m.take("tell: quiet")
		goes = strings.ToUpper(kind)
	}
	m.zadd(lane[1], goes+" "+name, m.Now+m.hooks.grace)
	if kind == "r" {
		m.try(func() { m.zadd(lane[4], name, 0) })
		m.expire(lane[4])
	}
	if some == 0 {
		m.expire(lane[1])
		m.wake(lane[0], lane[2], m.hooks.grace)
	}
}

// tellOther is tell.lua.
func (m *Redis) tellOther(k, a []string) resp.Reply {
	if len(k) > 2 {
		n := a[len(a)-1]
		if was := m.find(k[2], ""); was != nil && was.kind == "string" && was.text == n {
			m.take("other: told already")
			return integer(1)
		}
		m.keys[k[2]] = &value{kind: "string", text: n, until: m.Now + 10_000}
	}
	known, _ := strconv.ParseInt(m.field(k[1], "bytes"), 10, 64)
	if m.xlen(k[0]) == 0 {
		known = 0
	}
	limit, _ := strconv.Atoi(a[0])
	most, _ := strconv.ParseInt(a[1], 10, 64)
	size, _ := strconv.ParseInt(a[2], 10, 64)
	if known+size > most {
		m.take("other: too many bytes")
		m.hincrby(k[1], "lost", 1)
		return integer(0)
	}
	m.take("other: put")
	length := m.put(k[0], k[1], limit, append([]string{"s", a[2]}, a[3:]...)...)
	if length < 0 {
		return integer(0)
	}
	m.hset(k[1], "bytes", strconv.FormatInt(known+size, 10))
	if length == 0 {
		m.wake(k[0], k[1], 0)
	}
	return integer(1)
}

// lane is lane.lua.
func (m *Redis) lane(k, a []string) resp.Reply {
	if m.find(k[5], "") != nil {
		m.take("lane: dead")
		return fenced
	}
	m.xlen(k[0])
	m.find(k[1], "zset")
	m.find(k[3], "hash")
	m.find(k[4], "zset")
	owner, first, last := m.field(k[2], "owner"), m.field(k[2], "first"), m.field(k[2], "last")
	till, _ := strconv.ParseInt(m.field(k[2], "until"), 10, 64)
	if !isID(first) || !isID(last) {
		first = ""
	}
	if first != "" && first == a[3] {
		m.take("lane: settled")
		m.settle(k, first, last)
		first = ""
	}
	process, nth := cut(a[0])
	other, session := cut(owner)
	lease, _ := strconv.ParseInt(a[2], 10, 64)
	if other != "" && m.find(strings.TrimSuffix(k[5], a[0]+":dead")+owner+":dead", "") != nil {
		m.take("lane: owner is dead")
		till = 0
	}
	if lease > 0 {
		till = min(till, m.Now+lease)
	}
	if other != "" && till > m.Now && (other != process || session > nth) {
		m.take("lane: another's")
		return resp.Reply{Kind: resp.Array, Items: []resp.Reply{integer(0), integer(till - m.Now)}}
	}
	if lease == 0 {
		if m.take("lane: given up"); other != "" && other == process {
			m.hdel(k[2], "owner")
			m.hdel(k[2], "wake")
			m.hset(k[2], "until", strconv.FormatInt(m.Now, 10))
		}
		return resp.Reply{Kind: resp.Array, Items: []resp.Reply{integer(0), integer(0)}}
	}
	m.hset(k[2], "owner", a[0])
	m.hset(k[2], "wake", a[1])
	m.hset(k[2], "until", strconv.FormatInt(m.Now+lease, 10))
	for _, key := range k[:5] {
		m.expire(key)
	}
	hold, _ := strconv.ParseInt(a[7], 10, 64)
	latest := m.Now
	if hold > 0 {
		latest = 0
		m.take("lane: holds")
	}
	due := m.zrange(k[1], -1<<62, latest)
	for _, leaving := range due[:min(len(due), 100)] {
		if !m.due(k, leaving) {
			m.take("due: more")
			break
		}
	}
	if first == "" {
		if first, last = m.batch(k, a); first != "" {
			m.hset(k[2], "first", first)
			m.hset(k[2], "last", last)
		}
	}
	return m.answer(k, first, last, a[4], hold)
}

// due tells a leaving. It says false if it has to wait for members.
func (m *Redis) due(k []string, leaving string) bool {
	f := strings.SplitN(leaving, " ", 3)
	ok := len(f) == 3 && letter(f[0])
	kind := strings.ToLower(f[0])
	if ok && kind == "v" {
		if _, more := m.vacate(k, f[1]); more {
			return false
		}
	}
	if m.zrem(k[1], leaving) == 0 {
		m.take("due: taken")
		return true
	}
	if !ok {
		m.take("due: strange")
		return true
	}
	if m.take("lane: due"); kind == "r" {
		m.zrem(k[4], f[1]+" "+f[2])
	}
	if kind != f[0] {
		m.take("due: quiet")
		return true
	}
	m.say(k, kind, f[1], f[2])
	return true
}

// settle removes a batch from a lane.
func (m *Redis) settle(k []string, first, last string) {
	list, bytes := m.entries(k, first, last), int64(0)
	for i := range list {
		size, _ := strconv.ParseInt(list[i].of("s"), 10, 64)
		bytes += size
	}
	m.xdel(k[0], list)
	if bytes > 0 {
		m.hincrby(k[2], "bytes", -bytes)
	}
	m.hdel(k[2], "first")
	m.hdel(k[2], "last")
	if m.find(k[3], "hash") != nil && m.xlen(k[0]) < m.Many {
		m.take("settle: fewer than many")
		delete(m.keys, k[3])
	}
}

// entries are what is there of a batch.
func (m *Redis) entries(k []string, first, last string) []entry {
	list := m.xrange(k[0], first, last)
	return list[:min(len(list), 1000)]
}

// batch chooses the next batch of a lane.
func (m *Redis) batch(k, a []string) (first, last string) {
	most, _ := strconv.Atoi(a[5])
	room, _ := strconv.Atoi(a[6])
	bytes, apart := 0, false
	list := m.xrange(k[0], "-", "+")
	for i := range list[:min(len(list), most)] {
		e := &list[i]
		encrypted := strings.HasPrefix(e.of("c"), "private-encrypted-")
		size, err := strconv.Atoi(e.of("s"))
		if err != nil {
			size = 80 + len(e.of("c")) + 6*len(e.of("u"))
		}
		bytes += size
		switch {
		case i > 0 && encrypted != apart:
			m.take("batch: apart")
			return first, last
		case i > 0 && bytes > room:
			m.take("batch: no room")
			return first, last
		}
		first, last, apart = cmp.Or(first, e.name()), e.name(), encrypted
		if note := e.of("c") + " " + e.of("u"); m.field(k[3], note) == e.of("k")+e.name() {
			m.take("batch: was noted")
			m.hdel(k[3], note)
		}
	}
	if first == "" {
		m.take("batch: none")
	} else {
		m.take("batch: all")
	}
	return first, last
}

// answer is the answer to the owner of a lane.
func (m *Redis) answer(k []string, first, last, has string, hold int64) resp.Reply {
	due, leavings := int64(-1), 0
	if v := m.find(k[1], "zset"); v != nil {
		leavings = len(v.score)
		due = max(hold, v.score[m.byScore(v, -1<<62, 1<<62)[0]]-m.Now)
	}
	lost, _ := strconv.ParseInt(m.field(k[2], "lost"), 10, 64)
	untold, _ := strconv.ParseInt(m.field(k[2], "untold"), 10, 64)
	undone, _ := strconv.ParseInt(m.field(k[2], "undone"), 10, 64)
	m.hdel(k[2], "lost")
	m.hdel(k[2], "untold")
	m.hdel(k[2], "undone")
	batch := resp.Reply{Kind: resp.Array}
	if first != "" && first != has {
		m.take("lane: batch")
		batch = entries(m.entries(k, first, last))
	} else {
		m.take("lane: no batch, or known")
	}
	return resp.Reply{Kind: resp.Array, Items: []resp.Reply{integer(1), text(first), integer(due),
		integer(lost), integer(untold), integer(undone), integer(int64(m.xlen(k[0]))),
		integer(int64(leavings)), batch}}
}

// cut cuts an incarnation; process is empty if it is none.
func cut(id string) (process string, nth int64) {
	i := strings.LastIndexByte(id, '-')
	if i < 0 {
		return "", 0
	}
	nth, err := strconv.ParseInt(id[i+1:], 10, 64)
	if err != nil {
		return "", 0
	}
	return id[:i], nth
}
