package redismodel

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// Branches lists all branches of the scripts: the keys of Redis.Taken.
var Branches = []string{
	"naming: foreign", "naming: other error", "fence: dead", "fence: alive",
	"present: known", "present: first", "present: again",
	"absent: unknown", "absent: last", "absent: not last",
	"leave: last node", "leave: not last node", "leave: with users",
	"sync: user gone", "sync: cached", "sync: nothing cached", "sync: no cache",
	"renew: first", "renew: fenced", "renew: granted", "renew: ready first", "renew: ready again",
	"renew: takes nobody", "renew: takes the dead", "renew: takes over", "renew: leaves to another",
	"total: not wanted", "total: told", "total: nobody", "total: former incarnation",
	"total: stranger",
	"count: fenced", "count: counted", "count: former incarnation", "count: stranger",
	"claim: other", "claim: done", "claim: in progress", "claim: no answer",
	"claim: lease is over", "claim: freed",
	"claim: not free", "claim: made", "claim: stays", "claim: kept", "claim: published",
	"claim: cached",
	"try: failed", "put: refused", "put: first", "put: more", "wake: no owner", "wake: owner",
	"tell: back", "tell: grace", "tell: quiet", "tell: vacated at once", "tell: vacated later",
	"tell: not wanted", "tell: o", "tell: v", "tell: a", "tell: r",
	"say: strange note", "say: member comes again", "say: not there", "say: equal", "say: undone",
	"say: noted", "say: fewer than many", "settle: fewer than many",
	"vacate: told", "vacate: not told",
	"other: too many bytes", "other: told already", "other: put", "lane: dead", "lane: settled",
	"lane: another's", "lane: given up", "lane: owner is dead", "lane: holds", "lane: due",
	"due: taken", "due: more", "due: strange", "due: quiet",
	"lane: batch", "lane: no batch, or known",
	"batch: apart", "batch: no room", "batch: none", "batch: all", "batch: was noted",
}

// take notes that a branch was taken.
func (m *Redis) take(branch string) { m.Taken[branch]++ }

// topicKinds are the kinds of the keys of scripts about a topic.
var topicKinds = []string{"hash", "set", "hash", "hash", "string", "string", "set"}

var fenced = resp.Reply{Kind: resp.Error, Text: "FENCED the lease of this node has run out"}

// script runs a script. k and a are the KEYS and ARGV of the Lua scripts
// (internal/envelopes/scripts), counted from 0.
func (m *Redis) script(name string, k, a []string) resp.Reply {
	m.most = m.Most
	switch name {
	case "cached":
		seconds, _ := strconv.ParseInt(a[3], 10, 64)
		m.keys[k[0]] = &value{kind: "string", text: a[2], until: m.Now + 1000*seconds}
		return integer(m.send(a[0], a[1]))
	case "forget":
		delete(m.keys, k[2])
		m.zrem(k[1], a[0])
		return integer(m.zrem(k[0], a[0]))
	case "renew":
		return m.naming([]string{"zset", "zset"}, k, func() resp.Reply { return m.renew(k, a) })
	case "claim":
		return m.claim(k, a)
	case "count":
		return m.naming([]string{"zset", "hash"}, k, func() resp.Reply { return m.count(k, a) })
	case "tell":
		return m.naming([]string{"stream", "hash"}, k,
			func() resp.Reply { return m.tellOther(k, a) })
	case "lane":
		return m.naming([]string{"stream", "zset", "hash", "hash", "zset"}, k,
			func() resp.Reply { return m.lane(k, a) })
	}
	a = m.readHooks(k, a)
	return m.naming(topicKinds, k, func() resp.Reply { return m.topic(name, k, a) })
}

// naming is naming.lua: an error of run names a key whose kind is wrong.
func (m *Redis) naming(kinds, k []string, run func() resp.Reply) (reply resp.Reply) {
	defer func() {
		f, ok := recover().(failure)
		if !ok {
			return
		}
		reply = resp.Reply{Kind: resp.Error, Text: string(f)}
		for i, kind := range kinds {
			if v := m.find(k[i], ""); v != nil && v.kind != kind {
				m.take("naming: foreign")
				reply.Text = "WRONGTYPE the key " + k[i] + " is a " + v.kind + ", not a " + kind
				return
			}
		}
		m.take("naming: other error")
	}()
	return run()
}

// topic runs a script about a topic.
func (m *Redis) topic(name string, k, a []string) resp.Reply {
	if name != "subscriptions" {
		m.hlen(k[0])
		m.hlen(k[3])
	}
	if name != "bury" {
		if m.find(k[7], "") != nil {
			m.take("fence: dead")
			return fenced
		}
		m.take("fence: alive")
	}
	switch name {
	case "sync":
		m.sync(k, a)
	case "present":
		m.present(k, a, a[4], a[5])
		m.publish(a[2], "m", a[3])
	case "absent":
		m.absent(k, a, a[3])
	case "leave", "bury":
		m.leave(k, a)
		m.total(k, a, a[4])
	case "subscriptions":
		m.sadd(k[6], a[3])
		m.occupy(k)
		m.hset(k[0], a[0], a[4])
		m.total(k, a, a[5])
	default:
		panic("redismodel: script " + name)
	}
	return integer(1)
}

// publish publishes an envelope.
func (m *Redis) publish(channel, kind, body string) {
	sum := sha1.Sum([]byte(body))
	m.send(channel, "\x01"+kind+hex.EncodeToString(sum[:4])+body)
}

func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s }

func (m *Redis) present(k, a []string, user, info string) {
	if m.sismember(k[1], user) {
		m.take("present: known")
		return
	}
	order := m.incr(k[4])
	if m.hincrby(k[2], user, 1) == 1 {
		m.take("present: first")
		m.hset(k[3], user, order+":"+info)
		m.publish(a[1], "+", netstring(user)+netstring(info))
		m.tell("a", user)
	} else {
		m.take("present: again")
	}
	m.sadd(k[1], user)
}

func (m *Redis) absent(k, a []string, user string) {
	if !m.sismember(k[1], user) {
		m.take("absent: unknown")
		return
	}
	if m.hincrby(k[2], user, -1) <= 0 {
		m.take("absent: last")
		m.hdel(k[2], user)
		m.hdel(k[3], user)
		m.publish(a[1], "-", netstring(user))
		m.tell("r", user)
	} else {
		m.take("absent: not last")
	}
	m.srem(k[1], user)
}

func (m *Redis) leave(k, a []string) {
	for _, user := range m.members(k[1], "set") {
		m.take("leave: with users")
		m.absent(k, a, user)
	}
	occupied := m.hlen(k[0]) > 0
	m.hdel(k[0], a[0])
	m.srem(k[6], a[3])
	if m.hlen(k[0]) == 0 {
		m.take("leave: last node")
		for _, i := range []int{0, 2, 3, 4} {
			delete(m.keys, k[i])
		}
		if occupied {
			m.tell("v", "")
		}
	} else {
		m.take("leave: not last node")
	}
}

func (m *Redis) sync(k, a []string) {
	m.sadd(k[6], a[3])
	m.occupy(k)
	m.hset(k[0], a[0], a[4])
	for _, user := range m.members(k[1], "set") {
		if !isUser(a[8:], user) {
			m.take("sync: user gone")
			m.absent(k, a, user)
		}
	}
	for i := 8; i+1 < len(a); i += 2 {
		m.present(k, a, a[i], a[i+1])
	}
	cached := "0:"
	switch {
	case a[6] != "1":
		m.take("sync: no cache")
	case m.find(k[5], "string") == nil:
		m.take("sync: nothing cached")
	default:
		m.take("sync: cached")
		v, left := m.keys[k[5]], int64(-1)
		if v.until != 0 {
			left = v.until - m.Now
		}
		cached = strconv.FormatInt(left, 10) + ":" + v.text
	}
	var out strings.Builder
	out.WriteString(a[5] + netstring(cached))
	for _, s := range m.pairs(k[3]) {
		out.WriteString(netstring(s))
	}
	m.publish(a[2], "s", out.String())
	m.total(k, a, a[7])
}

// total is total.lua.
func (m *Redis) total(k, a []string, wanted string) {
	if wanted != "1" {
		m.take("total: not wanted")
		return
	}
	latest, numbers, sum := map[string]int64{}, map[string]int64{}, int64(0)
	for pair := range slices.Chunk(m.pairs(k[0]), 2) {
		i := strings.LastIndexByte(pair[0], '-')
		incarnation, bad := strconv.ParseInt(pair[0][i+1:], 10, 64)
		number, worse := strconv.ParseInt(pair[1], 10, 64)
		if i < 0 || bad != nil || worse != nil {
			m.take("total: stranger")
			continue
		}
		process := pair[0][:i]
		if _, again := numbers[process]; again {
			m.take("total: former incarnation")
		}
		if incarnation >= latest[process] {
			latest[process], numbers[process] = incarnation, number
		}
	}
	for _, number := range numbers {
		sum += number
	}
	if sum <= 0 {
		m.take("total: nobody")
		return
	}
	m.take("total: told")
	m.publish(a[1], "c", netstring(strconv.FormatInt(sum, 10)))
}

// occupy tells that a topic is occupied, if it was not.
func (m *Redis) occupy(k []string) {
	if len(k) > 8 && m.hlen(k[0]) == 0 {
		m.tell("o", "")
	}
}

// isUser says whether users, each followed by its info, contains a user.
func isUser(users []string, user string) bool {
	for i := 0; i < len(users); i += 2 {
		if users[i] == user {
			return true
		}
	}
	return false
}

func (m *Redis) renew(k, a []string) resp.Reply {
	switch {
	case a[2] == "first":
		m.take("renew: first")
	case m.zscore(k[0], a[0]) <= m.Now:
		m.take("renew: fenced")
		return fenced
	default:
		m.take("renew: granted")
	}
	lease, _ := strconv.ParseInt(a[1], 10, 64)
	m.zadd(k[0], a[0], m.Now+lease)
	if a[2] == "ready" {
		if m.zadd(k[1], a[0], m.Now) == 1 {
			m.take("renew: ready first")
			m.publish(a[6], "n", netstring(a[0]))
		} else {
			m.take("renew: ready again")
		}
	}
	var dead []string
	if a[3] != "1" {
		m.take("renew: takes nobody")
	} else {
		limit, _ := strconv.ParseInt(a[4], 10, 64)
		for _, id := range m.zrange(k[0], -1<<62, m.Now) {
			switch taken := m.zscore(k[0], id); {
			case taken >= 0:
				m.take("renew: takes the dead")
			case m.Now+taken > limit:
				m.take("renew: takes over")
			default:
				m.take("renew: leaves to another")
				continue
			}
			m.zadd(k[0], id, -m.Now)
			dead = append(dead, id)
		}
	}
	since, _ := strconv.ParseInt(a[5], 10, 64)
	return resp.Reply{Kind: resp.Array, Items: []resp.Reply{list(dead),
		list(m.zrange(k[1], since, 1<<62)), integer(m.Now)}}
}

func (m *Redis) count(k, a []string) resp.Reply {
	if m.zscore(k[0], a[2]) <= m.Now {
		m.take("count: fenced")
		return fenced
	}
	m.hset(k[1], a[0], a[1])
	latest, numbers := map[string]int64{}, map[string]int64{}
	for _, id := range m.zrange(k[0], m.Now+1, 1<<62) {
		i := strings.LastIndexByte(id, '-')
		if i < 0 {
			m.take("count: stranger")
			continue
		}
		incarnation, err := strconv.ParseInt(id[i+1:], 10, 64)
		v := m.keys[a[3]+id+":counts"]
		if err != nil || v == nil || v.kind != "hash" {
			m.take("count: stranger")
			continue
		}
		number, err := strconv.ParseInt(v.hash[a[0]], 10, 64)
		switch {
		case err != nil:
			m.take("count: stranger")
		case incarnation < latest[id[:i]]:
			m.take("count: former incarnation")
		default:
			m.take("count: counted")
			latest[id[:i]], numbers[id[:i]] = incarnation, number
		}
	}
	sum := int64(0)
	for _, n := range numbers {
		sum += n
	}
	return integer(sum)
}

func (m *Redis) claim(k, a []string) resp.Reply {
	v, was := m.find(k[0], ""), ""
	if v != nil && v.kind == "string" && len(v.text) > 48 {
		was = v.text
	}
	if was != "" && was[:32] != a[0] {
		m.take("claim: other")
		return text("x")
	}
	own := was != "" && was[32:48] == a[1]
	keep, _ := strconv.ParseInt(a[3], 10, 64)
	lease, _ := strconv.ParseInt(a[4], 10, 64)
	if was != "" && !own {
		if was[48] == 'd' {
			m.take("claim: done")
			return text(was[48:])
		}
		left := int64(-1)
		if v.until != 0 {
			left = v.until - m.Now
		}
		if left > keep-lease {
			m.take("claim: in progress")
			return text("p")
		}
		if len(a) >= 6 {
			m.take("claim: no answer")
			return text("d")
		}
		m.take("claim: lease is over")
	}
	switch {
	case a[2] == "" && own:
		m.take("claim: freed")
		delete(m.keys, k[0])
	case a[2] == "":
		m.take("claim: not free")
	case !own || a[2][0] == 'd':
		m.take("claim: made")
		m.keys[k[0]] = &value{kind: "string", text: a[0] + a[1] + a[2], until: m.Now + keep}
	default:
		m.take("claim: stays")
	}
	switch {
	case len(a) < 6:
		m.take("claim: kept")
		return text("k")
	case len(a) > 7:
		m.take("claim: cached")
		seconds, _ := strconv.ParseInt(a[8], 10, 64)
		m.keys[k[1]] = &value{kind: "string", text: a[7], until: m.Now + 1000*seconds}
	default:
		m.take("claim: published")
	}
	return integer(m.send(a[5], a[6]))
}

// Missing lists the branches that were not taken.
func (m *Redis) Missing() (missing []string) {
	for _, b := range Branches {
		if m.Taken[b] == 0 {
			missing = append(missing, b)
		}
	}
	slices.Sort(missing)
	return missing
}
