// Package scripts has the Lua scripts with which the nodes of a cluster change their common keys in
// Redis. The comment of package cluster describes the keys. Each .lua file says what its KEYS and
// ARGV are.
package scripts

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Script is a Lua script that Redis runs as one command.
type Script struct {
	Name, Text, SHA string
	OfTopic         bool // it works on one topic or lane: a foreign key fails only for that one
}

// Set has all scripts. In a Redis Cluster they publish on sharded channels. Only nodes that tell
// the application of transitions have Tell and Lane.
type Set struct {
	Sync, Present, Absent, Leave, Subscriptions, Bury, Cached, Renew, Forget, Count, Claim Script
	Tell, Lane                                                                             Script

	sharded bool
}

// Verb gives a command that publishes or subscribes its form for a Redis Cluster.
func (s *Set) Verb(verb string) string {
	if s.sharded {
		return "S" + verb
	}
	return verb
}

// All lists the scripts, always in this order.
func (s *Set) All() []*Script {
	all := []*Script{&s.Sync, &s.Present, &s.Absent, &s.Leave, &s.Subscriptions, &s.Bury,
		&s.Cached, &s.Renew, &s.Forget, &s.Count, &s.Claim}
	if s.Lane.Text != "" {
		all = append(all, &s.Tell, &s.Lane)
	}
	return all
}

// Texts lists the texts that a node loads into Redis, in the order of All.
func (s *Set) Texts() (texts []string) {
	for _, one := range s.All() {
		texts = append(texts, one.Text)
	}
	return texts
}

// YesNo is a truth value as a script takes it.
func YesNo(set bool) string {
	if set {
		return "1"
	}
	return "0"
}

// Milliseconds is a duration as a script takes it.
func Milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

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

// naming wraps a script in naming.lua. kinds are the types of its first keys, quoted.
func naming(kinds, body string) string {
	return strings.NewReplacer("$KINDS", kinds, "$BODY", body).Replace(parts("naming"))
}

// topicKinds are the types of the keys of a script about a topic.
const topicKinds = `'hash', 'set', 'hash', 'hash', 'string', 'string', 'set'`

// ofHooks begins a line that only nodes that tell of transitions have in a script.
const ofHooks = "--@ "

// New makes the scripts, for a Redis Cluster or for one master. telling says that scripts about a
// topic tell the application of transitions, see hooks.lua; without it they have no word of that.
func New(sharded, telling bool) *Set {
	made := func(name, text string) Script {
		if sharded {
			text = strings.ReplaceAll(text, "'PUBLISH'", "'SPUBLISH'")
		}
		sum := sha1.Sum([]byte(text))
		return Script{Name: name, Text: text, SHA: hex.EncodeToString(sum[:])}
	}
	// about makes a script about one topic from shared parts and from its own file.
	about := func(name string, shared ...string) Script {
		if telling {
			shared = append([]string{"publish", "now", "put", "transitions", "hooks"},
				shared[1:]...)
		}
		text, lines := "", strings.Lines(parts(append(shared, name)...))
		for line := range lines {
			if rest, is := strings.CutPrefix(line, ofHooks); !is {
				text += line
			} else if telling {
				text += rest
			}
		}
		s := made(name, naming(topicKinds, text))
		s.OfTopic = true
		return s
	}
	set := &Set{sharded: sharded,
		Sync:          about("sync", "publish", "topic", "total", "fenced", "fence"),
		Present:       about("present", "publish", "topic", "fenced", "fence"),
		Absent:        about("absent", "publish", "topic", "fenced", "fence"),
		Leave:         about("leave", "publish", "topic", "total", "fenced", "fence"),
		Subscriptions: about("subscriptions", "publish", "total", "fenced", "fence"),
		Bury:          about("bury", "publish", "topic", "total"),
		Cached:        made("cached", parts("cached")),
		Renew: made("renew", naming(`'zset', 'zset'`,
			parts("publish", "now", "fenced", "renew"))),
		Forget: made("forget", parts("forget")),
		Count:  made("count", naming(`'zset', 'hash'`, parts("now", "fenced", "count"))),
		Claim:  made("claim", parts("claim")),
	}
	if telling {
		set.Tell = made("tell", naming(`'stream', 'hash'`,
			parts("publish", "now", "put", "tell")))
		set.Lane = made("lane", naming(`'stream', 'zset', 'hash', 'hash', 'zset'`,
			parts("publish", "now", "put", "transitions", "fenced", "lane")))
		set.Tell.OfTopic, set.Lane.OfTopic = true, true
	}
	return set
}
