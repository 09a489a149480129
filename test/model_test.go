package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"reverb/internal/cluster/redismodel"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/resp"
)

const (
	manyEvents  = 2 // how many events a lane has in TestRedisModel when pairs are undone
	mostMembers = 2 // of how many members a script tells there before a channel that is vacated
)

// nodeScripts are the texts of the scripts that a node loads, with the keys clock:s and clock:us in
// place of Redis' clock, with manyEvents and mostMembers, and with the members of sets in order.
func nodeScripts(t *testing.T) []string {
	texts, clocks, lanes := scripts.New(false, true).Texts(), 0, 0
	for i, text := range texts {
		const many, most = "local many = 50000\n", "local most = 1000\n"
		lanes += min(strings.Count(text, many), strings.Count(text, most))
		text = strings.ReplaceAll(text, many, fmt.Sprintf("local many = %d\n", manyEvents))
		text = strings.ReplaceAll(text, most, fmt.Sprintf("local most = %d\n", mostMembers))
		clocks += strings.Count(text, "redis.call('TIME')")
		texts[i] = strings.ReplaceAll(text, "redis.call('TIME')",
			"{redis.call('GET', 'clock:s'), redis.call('GET', 'clock:us')}")
		texts[i] = strings.ReplaceAll(texts[i], "redis.call('SMEMBERS', KEYS[2])", "(function() "+
			"local all = redis.call('SMEMBERS', KEYS[2]) table.sort(all) return all end)()")
	}
	if clocks != 10 || lanes != 7 {
		t.Fatalf("%d scripts know the time, want 10, and %d put transitions, want 7", clocks, lanes)
	}
	return texts
}

// callMaker draws commands with few names, so that commands meet on the same keys.
type callMaker struct {
	rng    *rand.Rand
	hashes []string // SHA-1 of the scripts
	now    int64    // milliseconds
	model  *redismodel.Redis
	soon   [][]string // are the next commands
}

func (g *callMaker) one(of ...string) string { return of[g.rng.IntN(len(of))] }
func (g *callMaker) id() string              { return g.one("x-1", "x-2", "y-1", "y-2", "z") }
func (g *callMaker) user() string            { return g.one("u0", "u1", "u2", "u:3") }
func (g *callMaker) topic() string           { return g.one("a:t", "a:cache") }

func (g *callMaker) topicKeys(topic, id string) []string {
	t := "p:" + topic
	return []string{t + ":nodes", t + ":users:" + id, t + ":count", t + ":members", t + ":order",
		t + ":cached", "p:node:" + id + ":topics", "p:node:" + id + ":dead"}
}

func (g *callMaker) script(name string, keys []string, args ...string) []string {
	sha := g.hashes[slices.Index(redismodel.Scripts, name)]
	return slices.Concat([]string{"EVALSHA", sha, strconv.Itoa(len(keys))}, keys, args)
}

func (g *callMaker) about(name, topic, id string, args ...string) []string {
	keys := g.topicKeys(topic, id)
	args = append([]string{id, "p:" + topic, "p:node:" + id}, args...)
	if lanes := g.rng.IntN(3); lanes > 0 {
		wants := ""
		for i := range lanes {
			keys = append(keys, laneKeys(i)...)
			wants += g.one("ovar", "ovar", "oa", "o", "var", "r") + ","
		}
		args = append(args, wants, g.one("t", "t", "private-encrypted-t"),
			g.one("0", "0", "1", "4", "1000"))
	}
	return g.script(name, keys, args...)
}

// laneKeys are the keys of a lane.
func laneKeys(i int) []string {
	lane := "p:hooks:a:" + strconv.Itoa(i)
	return []string{lane + ":events", lane + ":leavings", lane + ":state", lane + ":waiting",
		lane + ":absent"}
}

// lane draws a script about a lane.
func (g *callMaker) lane(id string) []string {
	k := laneKeys(g.rng.IntN(2))
	if g.rng.IntN(4) == 0 {
		room := []string{g.one("0", "3", "1000"), g.one("90", "1000"), g.one("20", "40")}
		if g.rng.IntN(2) == 0 {
			return g.script("tell", []string{k[0], k[2], k[0] + ":t"}, append(room, "k", "n", "c",
				"t", "n", g.one("1", "2"))...)
		}
		return g.script("tell", []string{k[0], k[2]}, append(room, "k", "m", "c",
			g.one("t", "private-encrypted-t"))...)
	}
	if g.rng.IntN(20) == 0 {
		return []string{"HSET", k[2], g.one("first", "last", "until", "owner"), "nonsense"}
	}
	state := g.model.Hash(k[2])
	if last := state["last"]; last != "" && g.model.Do("XLEN", k[0]).N == manyEvents {
		// one fewer changes much: the channel is occupied while it is noted as vacated
		g.soon = [][]string{{"HSET", k[3], "t ", "v" + last},
			g.about("sync", "a:t", id, "a:t", "1", "00000001", "0", "0")}
		return []string{"DEL", "p:a:t:nodes"}
	}
	switch g.rng.IntN(30) {
	case 0, 1:
		return []string{"HSET", k[3], g.one("t ", "t u0"), g.one("nonsense", "o1-1", "r1-1",
			"o"+state["last"], "v"+state["last"], "a"+state["last"])}
	case 2, 3, 4:
		return []string{"ZADD", k[1], strconv.FormatInt(g.now+int64(g.rng.IntN(9))-4, 10),
			g.one("v t ", "V t ", "r t u0", "R t u1", "strange")}
	case 5, 6, 7, 8, 9:
		return []string{"ZADD", k[4], "0", g.one("t u0", "t u1", "t u2")}
	}
	first := state["first"]
	return g.script("lane", append(k, "p:node:"+id+":dead"), id, "p:node:"+id,
		g.one("0", "3", "3", "1000"), g.one(first, first, "", "1-1"), g.one(first, ""),
		g.one("1", "1", "3", "50"), g.one("100", "250", "262144"), g.one("0", "3"))
}

// claim draws a step of a request with a key, or a foreign value under a key.
func (g *callMaker) claim(topic string) []string {
	key := g.one("p:claim:1", "p:claim:1", "p:claim:2")
	switch g.rng.IntN(30) {
	case 0:
		return []string{"DEL", key}
	case 1:
		return []string{"SADD", key, "foreign"}
	case 2:
		return []string{"SET", key, strings.Repeat("p", 48) + g.one("", "p", "dforeign")}
	}
	args := []string{strings.Repeat(g.one("p", "p", "p", "p", "q"), 32),
		strings.Repeat(g.one("a", "b", "c"), 16), g.one("p", "p", "d", "d{}", ""),
		"1800000", g.one("0", "900000")} // far from the real time that passes
	if g.rng.IntN(2) == 0 {
		if args = append(args, "p:"+topic, "envelope"); g.rng.IntN(2) == 0 {
			args = append(args, "event", "1800")
		}
	}
	return g.script("claim", []string{key, "p:" + topic + ":cached"}, args...)
}

// next draws a command.
func (g *callMaker) next() []string {
	if len(g.soon) > 0 {
		command := g.soon[0]
		g.soon = g.soon[1:]
		return command
	}
	topic, id, token := g.topic(), g.id(), fmt.Sprintf("%08d", g.rng.IntN(1000))
	if g.rng.IntN(5) == 0 {
		return g.lane(id)
	}
	switch k := g.rng.IntN(100); {
	case k < 12:
		args := []string{topic, strconv.Itoa(g.rng.IntN(9)), token, g.one("0", "1"),
			g.one("0", "1")}
		for _, u := range []string{"u0", "u1", "u2", "u:3"} {
			if g.rng.IntN(3) == 0 {
				args = append(args, u, "{"+u+"}")
			}
		}
		return g.about("sync", topic, id, args...)
	case k < 26:
		return g.about("present", topic, id, token, g.user(), g.one("", "{}", `{"a":1}`))
	case k < 36:
		return g.about("absent", topic, id, g.user())
	case k < 41:
		return g.about("leave", topic, id, topic, g.one("0", "1"))
	case k < 44:
		return g.about("subscriptions", topic, id, topic, strconv.Itoa(g.rng.IntN(9)),
			g.one("0", "1"))
	case k < 48:
		return g.about("bury", topic, id, topic, g.one("0", "1"))
	case k < 53:
		return g.script("cached", []string{"p:" + topic + ":cached"}, "p:"+topic, "envelope "+token,
			"event "+token, "1800")
	case k < 56:
		return g.claim(topic)
	case k < 68:
		return g.script("renew", []string{"p:nodes", "p:ready"}, id, g.one("1", "5", "100", "1000"),
			g.one("first", "first", "ready", "ready", ""), g.one("0", "1"), g.one("0", "2", "1000"),
			strconv.FormatInt(g.now-int64(g.rng.IntN(6))+2, 10), "p:all")
	case k < 70:
		return g.script("forget", []string{"p:nodes", "p:ready", "p:node:" + id + ":counts"}, id)
	case k < 82:
		return g.script("count", []string{"p:nodes", "p:node:" + id + ":counts"}, g.one("a", "b"),
			strconv.Itoa(g.rng.IntN(9)), id, "p:node:")
	case k < 83:
		return g.lane(id)
	case k < 84:
		return []string{"SET", "p:node:" + id + ":dead", "1", "EX", "86400"}
	case k < 87:
		return []string{"DEL", "p:node:" + id + ":dead"}
	case k < 92: // a foreign value
		key := g.one(append(g.topicKeys(topic, id)[:7], "p:nodes", "p:ready",
			"p:node:"+id+":counts", laneKeys(0)[g.rng.IntN(5)])...)
		switch g.rng.IntN(4) {
		case 0:
			return []string{"SET", key, g.one("foreign", "7")}
		case 1:
			if strings.HasSuffix(key, ":count") {
				// of a user it would end a loop over users, at which of them nobody knows
				return []string{"HSET", key, "strange", "nonsense"}
			}
			return []string{"HSET", key, g.one("u0", "strange", "a"), "nonsense"}
		case 2:
			return []string{"SADD", key, g.user()}
		}
		return []string{"ZADD", key, "5", "z"}
	case k < 96:
		return []string{"DEL", g.one(append(g.topicKeys(topic, id)[:7], "p:nodes", "p:ready",
			"p:node:"+id+":counts", laneKeys(0)[g.rng.IntN(5)])...)}
	}
	t := "p:" + topic
	return [][]string{{"HGETALL", t + ":nodes"}, {"HLEN", t + ":members"}, {"GET", t + ":cached"},
		{"SMEMBERS", "p:node:" + id + ":topics"}, {"ZRANGE", "p:nodes", "0", "-1"},
		{"SUNION", "p:node:x-1:topics", "p:node:y-1:topics"},
		{"SREM", "p:node:" + id + ":topics", topic}}[g.rng.IntN(7)]
}

// plain is a reply as text. It sorts lists that Redis gives in no order, and cuts off what Redis 7
// appends to an error about the script.
func plain(v any, err error, sorted bool) string {
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), " script: ")
		return "error " + text
	}
	switch v := v.(type) {
	case nil:
		return "null"
	case int64:
		return strconv.FormatInt(v, 10)
	case []byte:
		return strconv.Quote(string(v))
	case string:
		return strconv.Quote(v)
	case []any:
		var parts []string
		for _, i := range v {
			parts = append(parts, plain(i, nil, false))
		}
		if sorted {
			slices.Sort(parts)
		}
		return fmt.Sprint(parts)
	}
	return fmt.Sprintf("%T", v)
}

func plainReply(r resp.Reply, sorted bool) string {
	switch r.Kind {
	case resp.Error:
		return "error " + r.Text
	case resp.Int:
		return strconv.FormatInt(r.N, 10)
	case resp.Array:
		var parts []string
		for _, i := range r.Items {
			parts = append(parts, plainReply(i, false))
		}
		if sorted {
			slices.Sort(parts)
		}
		return fmt.Sprint(parts)
	case resp.Null:
		return "null"
	}
	return strconv.Quote(r.Text)
}

// plainMessage is a published message without its sum, the order of members, and the remaining time
// of a cached event.
func plainMessage(channel, message string) string {
	if len(message) < 18 || message[:2] != "\x01s" {
		return channel + " " + strconv.Quote(message)
	}
	var parts []string
	for rest := message[18:]; rest != ""; {
		digits, after, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(digits)
		if err != nil || n > len(after) {
			return channel + " not netstrings: " + strconv.Quote(message)
		}
		parts, rest = append(parts, strconv.Quote(after[:n])), after[n:]
	}
	life, event, _ := strings.Cut(parts[0], ":")
	if ms, err := strconv.Atoi(life[1:]); err == nil && ms > 1_700_000 && ms <= 1_800_000 {
		parts[0] = "1800 s:" + event
	}
	pairs := parts[1:]
	var members []string
	for i := 0; i+1 < len(pairs); i += 2 {
		members = append(members, pairs[i]+"="+pairs[i+1])
	}
	slices.Sort(members)
	return channel + " snapshot " + message[10:18] + " " + parts[0] + " " + fmt.Sprint(members)
}

// dumpRedis is Dump of the real Redis.
func dumpRedis(t *testing.T, c redis.Conn) (lines []string) {
	keys, err := redis.Strings(c.Do("KEYS", "*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if strings.HasPrefix(k, "clock:") {
			continue
		}
		kind, _ := redis.String(c.Do("TYPE", k))
		line := k + " " + kind
		switch kind {
		case "string":
			s, _ := redis.String(c.Do("GET", k))
			line += " " + strconv.Quote(s)
		case "hash":
			m, _ := redis.StringMap(c.Do("HGETALL", k))
			var parts []string
			for f, s := range m {
				parts = append(parts, strconv.Quote(f)+"="+strconv.Quote(s))
			}
			slices.Sort(parts)
			line += " " + strings.Join(parts, " ")
		case "set":
			members, _ := redis.Strings(c.Do("SMEMBERS", k))
			slices.Sort(members)
			for _, m := range members {
				line += " " + strconv.Quote(m) + `=""`
			}
		case "zset":
			pairs, _ := redis.Strings(c.Do("ZRANGE", k, "0", "-1", "WITHSCORES"))
			for i := 0; i+1 < len(pairs); i += 2 {
				line += " " + strconv.Quote(pairs[i]) + "=" + pairs[i+1]
			}
		case "stream":
			entries, _ := redis.Values(c.Do("XRANGE", k, "-", "+"))
			for _, e := range entries {
				e := e.([]any)
				fields, _ := redis.Strings(e[1], nil)
				line += " " + string(e[0].([]byte)) + "=" +
					strconv.Quote(strings.Join(fields, " "))
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// unordered says that a command's reply is a list in no order.
func unordered(command []string) bool {
	return slices.Contains([]string{"SMEMBERS", "HGETALL", "SUNION"}, command[0])
}

// messagesUntilEnd are the messages that one call has published, sorted.
func messagesUntilEnd(t *testing.T, c redis.Conn) (messages []string) {
	for {
		v, err := redis.Values(c.Receive())
		if err != nil {
			t.Fatal(err)
		}
		channel, message := string(v[2].([]byte)), string(v[3].([]byte))
		if channel == "end" {
			slices.Sort(messages)
			return messages
		}
		messages = append(messages, plainMessage(channel, message))
	}
}

// TestRedisModel gives the same random commands to the real Redis and to the model of the
// simulation: 40,000, or 1,000,000 with REVERB_TEST_LONG=1. REVERB_TEST_SEED repeats a run.
func TestRedisModel(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	calls, seed := 40_000, uint64(time.Now().UnixNano())
	if os.Getenv("REVERB_TEST_LONG") == "1" {
		calls = 1_000_000
	}
	if s := os.Getenv("REVERB_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("REVERB_TEST_SEED=%d", seed)
	dial := func() redis.Conn {
		c, err := server.connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, heard := dial(), dial()
	texts := nodeScripts(t)
	g := &callMaker{rng: rand.New(rand.NewPCG(seed, 1)), now: 1_000_000_000_000}
	for _, text := range texts {
		sha, err := redis.String(c.Do("SCRIPT", "LOAD", text))
		if err != nil {
			t.Fatal(err)
		}
		g.hashes = append(g.hashes, sha)
	}
	if _, err := heard.Do("PSUBSCRIBE", "*"); err != nil {
		t.Fatal(err)
	}
	var told []string
	model := redismodel.New(texts, nil, func(channel, message string) int64 {
		told = append(told, plainMessage(channel, message))
		return 1
	}, nil)
	model.Many, model.Most, g.model = manyEvents, mostMembers, model
	const batch, world = 100, 5 // of 100 calls; then all keys are deleted
	for done := 0; done < calls; done += batch {
		if done/batch%world == 0 {
			model.Load(nil)
			c.Send("FLUSHDB")
		} else {
			c.Send("PING")
		}
		var commands, wants [][]string
		for range batch {
			g.now += int64(g.rng.IntN(3))
			command := g.next()
			commands = append(commands, command)
			c.Send("MSET", "clock:s", g.now/1000, "clock:us", g.now%1000*1000)
			args := make([]any, len(command)-1)
			for i, a := range command[1:] {
				args[i] = a
			}
			c.Send(command[0], args...)
			c.Send("PUBLISH", "end", "")
			told, model.Now = nil, g.now
			reply := plainReply(model.Do(command...), unordered(command))
			slices.Sort(told)
			wants = append(wants, append(told, "reply "+reply))
		}
		c.Flush()
		c.Receive()
		for i, command := range commands {
			c.Receive()
			v, err := c.Receive()
			c.Receive()
			got := append(messagesUntilEnd(t, heard), "reply "+plain(v, err, unordered(command)))
			if command[0] == "HSET" && err == nil {
				got[len(got)-1] = "reply 1"
			}
			if !slices.Equal(got, wants[i]) {
				name := command[0]
				if k := slices.Index(g.hashes, command[1]); k >= 0 {
					name = redismodel.Scripts[k]
				}
				t.Fatalf("call %d, %s %q:\nRedis %q\nmodel %q", done+i, name, command, got,
					wants[i])
			}
		}
		if got, want := dumpRedis(t, c), model.Dump(); !slices.Equal(got, want) {
			differ := func(a, b []string) []string {
				return slices.DeleteFunc(slices.Clone(a),
					func(line string) bool { return slices.Contains(b, line) })
			}
			t.Fatalf("after %d calls, the last %d of them new:\nRedis alone has %q\nmodel "+
				"alone has %q", done+batch, batch, differ(got, want), differ(want, got))
		}
	}
	if missing := model.Missing(); len(missing) > 0 {
		t.Errorf("the calls take none of the branches %q", missing)
	}
}
