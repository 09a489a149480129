// Package redismodel has a model of Redis as a value, only for tests. It knows the commands that
// the nodes of internal/cluster use. The test sets the clock, and decides the order of elements
// that have no order in Redis.
//
// The scripts are written as Go, branch for branch. A test runs the same random calls here and on
// the real Redis, and compares the results (test/model_test.go). Published messages go to a
// function of the test. A Redis is not safe for use by several goroutines.
//
// Files: redismodel.go has the commands, scripts.go the scripts, outbox.go what the application is
// told, with streams.
package redismodel

import (
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// Scripts lists the names of the scripts, in the order in which a cluster.Dialer gets their texts.
var Scripts = []string{"sync", "present", "absent", "leave", "subscriptions", "bury", "cached",
	"renew", "forget", "count", "claim", "tell", "lane"}

// Redis is one server: keys and a clock.
type Redis struct {
	Now int64 // Unix time in milliseconds; the test sets it
	// Taken counts how often each branch of the scripts was taken, see Branches.
	Taken map[string]int
	send  func(channel, message string) int64    // publishes, and tells how many heard
	heard func(channel string) (listeners int64) // for PUBSUB NUMSUB
	// order is that of lists that Redis gives in no order; nil: sorted.
	order *rand.Rand
	names map[string]string // of scripts, by SHA-1
	keys  map[string]*value
	hooks hooks // of the script that runs
	most  int   // of whom it may still tell, see Most
	// Many is how many events a lane has when pairs of its transitions are undone; New sets 50,000.
	Many int
	// Most is of how many members one script tells before a channel that is vacated; New sets
	// 1,000.
	Most int
	// Told is called for each event that a script puts into a lane; nil: it is not.
	Told func(events string, fields []string)
}

// value is the value of a key. Its kind says which of the fields count.
type value struct {
	kind  string            // as TYPE tells it
	text  string            // string
	until int64             // when it expires; 0: never
	hash  map[string]string // hash; a set has its members as keys
	score map[string]int64  // zset
	// stream
	entries []entry
	last    [2]int64 // the last ID that was given out
}

// failure is the error of a command. It ends a script, as in Lua.
type failure string

const wrongType = failure("WRONGTYPE Operation against a key holding the wrong kind of value")

// New makes an empty Redis that knows scripts, in the order of Scripts. publish delivers a message
// and returns how many connections have heard it.
func New(scripts []string, order *rand.Rand, publish func(channel, message string) int64,
	listeners func(channel string) int64) *Redis {
	m := &Redis{Taken: map[string]int{}, send: publish, heard: listeners, order: order,
		Many: 50_000, Most: 1000, names: map[string]string{}, keys: map[string]*value{}}
	for i, text := range scripts {
		sum := sha1.Sum([]byte(text))
		m.names[hex.EncodeToString(sum[:])] = Scripts[i]
	}
	return m
}

// State is all keys of a Redis at one moment.
type State map[string]*value

// Save returns the state of m; Load restores it.
func (m *Redis) Save() State {
	s := make(State, len(m.keys))
	for k, v := range m.keys {
		c := *v
		c.hash, c.score = maps.Clone(v.hash), maps.Clone(v.score)
		c.entries = slices.Clone(v.entries)
		s[k] = &c
	}
	return s
}

func (m *Redis) Load(s State) { m.keys = (&Redis{keys: s}).Save() }

// Dump lists all keys with their values, sorted.
func (m *Redis) Dump() (lines []string) {
	for _, k := range slices.Sorted(maps.Keys(m.keys)) {
		v := m.find(k, "")
		if v == nil {
			continue
		}
		line := k + " " + v.kind
		switch v.kind {
		case "string":
			line += " " + strconv.Quote(v.text)
		case "zset":
			for _, f := range m.byScore(v, -1<<62, 1<<62) {
				line += " " + strconv.Quote(f) + "=" + strconv.FormatInt(v.score[f], 10)
			}
		case "stream":
			for _, e := range v.entries {
				line += " " + e.name() + "=" + strconv.Quote(strings.Join(e.fields, " "))
			}
		default:
			for _, f := range slices.Sorted(maps.Keys(v.hash)) {
				line += " " + strconv.Quote(f) + "=" + strconv.Quote(v.hash[f])
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// Hash returns the fields of a hash or the members of a set; nil: the key does not exist.
func (m *Redis) Hash(key string) map[string]string {
	if v := m.keys[key]; v != nil {
		return v.hash
	}
	return nil
}

// Text returns a string; ok is false if the key does not hold a string.
func (m *Redis) Text(key string) (text string, ok bool) {
	if v := m.find(key, ""); v != nil && v.kind == "string" {
		return v.text, true
	}
	return "", false
}

// --- Commands ---

// Do executes one command.
func (m *Redis) Do(args ...string) (reply resp.Reply) {
	defer func() {
		if f, ok := recover().(failure); ok {
			reply = resp.Reply{Kind: resp.Error, Text: string(f)}
		}
	}()
	switch args[0] {
	case "EVALSHA":
		n, _ := strconv.Atoi(args[2])
		name, ok := m.names[args[1]]
		if !ok {
			return resp.Reply{Kind: resp.Error, Text: "NOSCRIPT No matching script. Please " +
				"use EVAL."}
		}
		return m.script(name, args[3:3+n], args[3+n:])
	case "PUBLISH", "SPUBLISH":
		return integer(m.send(args[1], args[2]))
	case "SET":
		v := &value{kind: "string", text: args[2]}
		if len(args) == 5 {
			seconds, _ := strconv.ParseInt(args[4], 10, 64)
			v.until = m.Now + 1000*seconds
		}
		m.keys[args[1]] = v
		return resp.Reply{Kind: resp.Text, Text: "OK"}
	case "DEL":
		n := int64(0)
		for _, k := range args[1:] {
			if m.find(k, "") != nil {
				delete(m.keys, k)
				n++
			}
		}
		return integer(n)
	case "GET":
		return m.get(args[1])
	case "HSET":
		m.hset(args[1], args[2], args[3])
		return integer(1)
	case "SADD":
		return integer(m.sadd(args[1], args[2]))
	case "ZADD":
		score, _ := strconv.ParseInt(args[2], 10, 64)
		return integer(m.zadd(args[1], args[3], score))
	case "SMEMBERS":
		return list(m.members(args[1], "set"))
	case "SREM":
		return integer(m.srem(args[1], args[2]))
	case "HLEN":
		return integer(m.hlen(args[1]))
	case "XLEN":
		return integer(int64(m.xlen(args[1])))
	case "XADD":
		m.xadd(args[1], args[3:]...)
		return text(m.keys[args[1]].entries[len(m.keys[args[1]].entries)-1].name())
	case "HGETALL":
		return list(m.pairs(args[1]))
	case "ZRANGE":
		if v := m.find(args[1], "zset"); v != nil {
			return list(m.byScore(v, -1<<62, 1<<62))
		}
		return list(nil)
	case "SUNION":
		all := map[string]string{}
		for _, k := range args[1:] {
			if v := m.find(k, "set"); v != nil {
				maps.Copy(all, v.hash)
			}
		}
		return list(m.any(all))
	case "PUBSUB":
		return resp.Reply{Kind: resp.Array,
			Items: []resp.Reply{text(args[2]), integer(m.heard(args[2]))}}
	}
	panic("redismodel: " + args[0])
}

func text(s string) resp.Reply   { return resp.Reply{Kind: resp.Text, Text: s} }
func integer(n int64) resp.Reply { return resp.Reply{Kind: resp.Int, N: n} }

func list(s []string) resp.Reply {
	r := resp.Reply{Kind: resp.Array, Items: make([]resp.Reply, len(s))}
	for i, t := range s {
		r.Items[i] = text(t)
	}
	return r
}

// find returns the value of a key; nil: the key does not exist. A kind other than wanted is an
// error.
func (m *Redis) find(key, wanted string) *value {
	v := m.keys[key]
	if v == nil {
		return nil
	}
	if v.until != 0 && m.Now >= v.until {
		delete(m.keys, key)
		return nil
	}
	if wanted != "" && v.kind != wanted {
		panic(wrongType)
	}
	return v
}

// make is find for a key that is to be written.
func (m *Redis) make(key, wanted string) *value {
	v := m.find(key, wanted)
	if v == nil {
		v = &value{kind: wanted}
		if wanted == "zset" {
			v.score = map[string]int64{}
		} else {
			v.hash = map[string]string{}
		}
		m.keys[key] = v
	}
	return v
}

// any lists the keys of a map in some order.
func (m *Redis) any(of map[string]string) []string {
	keys := make([]string, 0, len(of))
	for k := range of {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if m.order != nil {
		m.order.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	}
	return keys
}

func (m *Redis) members(key, kind string) []string {
	if v := m.find(key, kind); v != nil {
		return m.any(v.hash)
	}
	return nil
}

func (m *Redis) pairs(key string) (out []string) {
	for _, f := range m.members(key, "hash") {
		out = append(out, f, m.keys[key].hash[f])
	}
	return out
}

func (m *Redis) get(key string) resp.Reply {
	if v := m.find(key, "string"); v != nil {
		return text(v.text)
	}
	return resp.Reply{Kind: resp.Null}
}

func (m *Redis) hset(key, field, s string) { m.make(key, "hash").hash[field] = s }

func (m *Redis) hlen(key string) int64 {
	if v := m.find(key, "hash"); v != nil {
		return int64(len(v.hash))
	}
	return 0
}

func (m *Redis) hdel(key, field string) { m.remove(key, "hash", field) }

func (m *Redis) srem(key, member string) int64 { return m.remove(key, "set", member) }

func (m *Redis) remove(key, kind, field string) int64 {
	v := m.find(key, kind)
	if v == nil {
		return 0
	}
	_, had := v.hash[field]
	if delete(v.hash, field); len(v.hash) == 0 {
		delete(m.keys, key)
	}
	if had {
		return 1
	}
	return 0
}

func (m *Redis) sadd(key, member string) int64 {
	v := m.make(key, "set")
	if _, had := v.hash[member]; had {
		return 0
	}
	v.hash[member] = ""
	return 1
}

func (m *Redis) sismember(key, member string) bool {
	v := m.find(key, "set")
	if v == nil {
		return false
	}
	_, is := v.hash[member]
	return is
}

func (m *Redis) hincrby(key, field string, by int64) int64 {
	v := m.make(key, "hash")
	n, err := int64(0), error(nil)
	if s, ok := v.hash[field]; ok {
		n, err = strconv.ParseInt(s, 10, 64)
	}
	if err != nil {
		panic(failure("ERR hash value is not an integer"))
	}
	v.hash[field] = strconv.FormatInt(n+by, 10)
	return n + by
}

func (m *Redis) incr(key string) string {
	v := m.find(key, "string")
	if v == nil {
		v = &value{kind: "string", text: "0"}
		m.keys[key] = v
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil {
		panic(failure("ERR value is not an integer or out of range"))
	}
	v.text = strconv.FormatInt(n+1, 10)
	return v.text
}

func (m *Redis) zadd(key, member string, score int64) int64 {
	v := m.make(key, "zset")
	_, had := v.score[member]
	v.score[member] = score
	if had {
		return 0
	}
	return 1
}

// zscore is the score of a member; 0 if there is none.
func (m *Redis) zscore(key, member string) int64 {
	if v := m.find(key, "zset"); v != nil {
		return v.score[member]
	}
	return 0
}

func (m *Redis) zrem(key, member string) int64 {
	v := m.find(key, "zset")
	if v == nil {
		return 0
	}
	_, had := v.score[member]
	if delete(v.score, member); len(v.score) == 0 {
		delete(m.keys, key)
	}
	if had {
		return 1
	}
	return 0
}

// zrange lists members by score, from lowest to highest.
func (m *Redis) zrange(key string, lowest, highest int64) []string {
	if v := m.find(key, "zset"); v != nil {
		return m.byScore(v, lowest, highest)
	}
	return nil
}

func (m *Redis) byScore(v *value, lowest, highest int64) (found []string) {
	for f, s := range v.score {
		if s >= lowest && s <= highest {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		if d := v.score[a] - v.score[b]; d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(a, b)
	})
	return found
}
