// Package scripts has what the nodes of internal/cluster let Redis do at once, in Lua. The keys
// are described there.
package scripts

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"strings"
)

// Script is a Lua script that Redis runs as one command.
type Script struct {
	Name, Text, SHA string
	OfTopic         bool // it works on one topic: what is wrong with that one's keys costs no other
}

// Set is all of them. In a Redis Cluster they publish on sharded channels.
type Set struct {
	Sync, Present, Absent, Leave, Subscriptions, Bury, Cached, Renew, Forget, Count Script
}

// All lists them, always in this order.
func (s *Set) All() []*Script {
	return []*Script{&s.Sync, &s.Present, &s.Absent, &s.Leave, &s.Subscriptions, &s.Bury, &s.Cached, &s.Renew, &s.Forget, &s.Count}
}

// Texts are what a node loads, in the order of All.
func (s *Set) Texts() (texts []string) {
	for _, one := range s.All() {
		texts = append(texts, one.Text)
	}
	return texts
}

// files are the scripts and what they share: each says what its KEYS and ARGV are.
//
//go:embed *.lua
var files embed.FS

// parts joins files.
func parts(names ...string) (text string) {
	for _, name := range names {
		b, err := files.ReadFile(name + ".lua")
		if err != nil {
			panic(err) // the file was there when the program was built
		}
		text += "\n" + string(b)
	}
	return text
}

// naming is body, as a script that names what is wrong. When a command fails because
// something else has written one of the first keys, the error names that key: kinds are the
// types, quoted, that this program gives them.
func naming(kinds, body string) string {
	return `
local ok, done = pcall(function()` + body + `
end)
if ok then return done end
for i, kind in ipairs({` + kinds + `}) do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. kind)
  end
end
if type(done) == 'table' then return done end
return redis.error_reply(string.match(done, '^%u+ .*') or 'ERR ' .. done)`
}

// topicKinds are the types of topicKeys, as naming wants them.
const topicKinds = `'hash', 'set', 'hash', 'hash', 'string', 'string', 'set'`

// New makes the scripts for one server or, sharded, for a cluster.
func New(sharded bool) *Set {
	made := func(name, text string) Script {
		if sharded {
			text = strings.ReplaceAll(text, "'PUBLISH'", "'SPUBLISH'")
		}
		sum := sha1.Sum([]byte(text))
		return Script{Name: name, Text: text, SHA: hex.EncodeToString(sum[:])}
	}
	// about makes a script about one topic, of shared parts and its own file.
	about := func(name string, shared ...string) Script {
		s := made(name, naming(topicKinds, parts(append(shared, name)...)))
		s.OfTopic = true
		return s
	}
	return &Set{
		Sync:          about("sync", "publish", "topic", "fenced", "fence"),
		Present:       about("present", "publish", "topic", "fenced", "fence"),
		Absent:        about("absent", "publish", "topic", "fenced", "fence"),
		Leave:         about("leave", "publish", "topic", "fenced", "fence"),
		Subscriptions: about("subscriptions", "fenced", "fence"),
		Bury:          about("bury", "publish", "topic"),
		Cached:        made("cached", parts("cached")),
		Renew:         made("renew", naming(`'zset', 'zset'`, parts("publish", "now", "fenced", "renew"))),
		Forget:        made("forget", parts("forget")),
		Count:         made("count", naming(`'zset', 'hash'`, parts("now", "fenced", "count"))),
	}
}
