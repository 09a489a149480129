// Package scripts has the Lua scripts with which the nodes of a cluster change their common keys in
// Redis. The comment of package cluster describes the keys. Each .lua file says what its KEYS and
// ARGV are.
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
	OfTopic         bool // it works on one topic: a foreign key fails only for that topic
}

// Set has all scripts. In a Redis Cluster they publish on sharded channels.
type Set struct {
	Sync, Present, Absent, Leave, Subscriptions, Bury, Cached, Renew, Forget, Count, Claim Script
}

// All lists the scripts, always in this order.
func (s *Set) All() []*Script {
	return []*Script{&s.Sync, &s.Present, &s.Absent, &s.Leave, &s.Subscriptions, &s.Bury,
		&s.Cached, &s.Renew, &s.Forget, &s.Count, &s.Claim}
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

// New makes the scripts, for a Redis Cluster or for one master.
func New(sharded bool) *Set {
	made := func(name, text string) Script {
		if sharded {
			text = strings.ReplaceAll(text, "'PUBLISH'", "'SPUBLISH'")
		}
		sum := sha1.Sum([]byte(text))
		return Script{Name: name, Text: text, SHA: hex.EncodeToString(sum[:])}
	}
	// about makes a script about one topic from shared parts and from its own file.
	about := func(name string, shared ...string) Script {
		s := made(name, naming(topicKinds, parts(append(shared, name)...)))
		s.OfTopic = true
		return s
	}
	return &Set{
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
}
