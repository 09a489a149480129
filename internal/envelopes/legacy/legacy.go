// Package legacy has what a node leaves to the process that takes its place, as plain data and as
// bytes. The node is in step with Redis, nothing of it is under way, and its session goes on: it is
// the same incarnation in both processes, see package cluster.
//
// The bytes begin with a number, the version. What Parse returns fits together, whoever wrote the
// bytes, and takes a small multiple of the memory of the bytes.
package legacy

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/lib/recordlog"
)

// version is that of the bytes. Another one cannot be read.
const version = 1

// maxCount bounds numbers of members and of users' orders. Larger: they do not fit.
const maxCount = math.MaxInt32

// Node is a node.
type Node struct {
	Prefix               string        // of all names in Redis
	Process, Incarnation uint64        // the number of the process, and which session of it this is
	Tokens               uint64        // the token that was given out last
	RedisTime, UpAtRedis uint64        // milliseconds: at the last renewal, and the first
	Age                  time.Duration // of the session
	Strangers            bool          // the log has told of strangers
	Counters             []uint64
	Apps                 []string // that have had connections
	Peers, Back          []string // processes that were ready, see package cluster
	Numbers              []uint64 // the last event of the node, by bucket
	Seen                 envelopes.Seen
	Recent               []Event // that may have to be sent again, in the order of their numbers
	Topics               []Topic
}

// Event is an event that Redis has accepted.
type Event struct {
	Topic, Payload string
	Except, Number uint64
	Remember       bool
	Age            time.Duration // since it was sent
}

// Topic is a topic in which the node has members, or which lingers.
type Topic struct {
	Name    string
	Cache   bool
	Members int           // of this node, as Redis knows them; 0: it lingers
	Lingers time.Duration // for so long
	Total   int           // members on all nodes; 0: not known
	Users   []User        // of this node
	View    []*envelopes.Member
}

// User is a user of a node in a topic.
type User struct{ ID, Info string }

var errSense = errors.New("the state of the node makes no sense")

func flag(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

func numbers(b []byte, all ...uint64) []byte {
	for _, n := range all {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func texts(b []byte, all ...string) []byte {
	for _, s := range all {
		b = recordlog.AppendField(b, s)
	}
	return b
}

// Append appends the bytes of n. A list begins with its length.
func (n *Node) Append(b []byte) []byte {
	b = texts(numbers(b, version), n.Prefix)
	b = numbers(b, n.Process, n.Incarnation, n.Tokens, n.RedisTime, n.UpAtRedis, uint64(n.Age),
		flag(n.Strangers))
	for _, list := range [][]uint64{n.Counters, n.Numbers} {
		b = numbers(numbers(b, uint64(len(list))), list...)
	}
	for _, list := range [][]string{n.Apps, n.Peers, n.Back} {
		b = texts(numbers(b, uint64(len(list))), list...)
	}
	b = recordlog.AppendField(b, n.Seen.Append(nil))
	b = numbers(b, uint64(len(n.Recent)))
	for i := range n.Recent {
		e := &n.Recent[i]
		b = numbers(texts(b, e.Topic, e.Payload), e.Except, e.Number, flag(e.Remember),
			uint64(e.Age))
	}
	b = numbers(b, uint64(len(n.Topics)))
	for i := range n.Topics {
		b = n.Topics[i].append(b)
	}
	return b
}

func (t *Topic) append(b []byte) []byte {
	b = numbers(texts(b, t.Name), flag(t.Cache), uint64(t.Members), uint64(t.Lingers),
		uint64(t.Total), uint64(len(t.Users)))
	for i := range t.Users {
		b = texts(b, t.Users[i].ID, t.Users[i].Info)
	}
	b = numbers(b, uint64(len(t.View)))
	for _, m := range t.View {
		b = numbers(texts(b, m.User, m.Info), uint64(m.Order))
	}
	return b
}

// Set is a list of names as a set.
func Set(names []string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all
}

type reader struct{ recordlog.Fields }

// numbers and texts read lists. Each part takes a byte at least.
func (r *reader) numbers(most uint64) (all []uint64) {
	for n := r.Number(); n > 0 && !r.Bad; n-- {
		all = append(all, r.within(most))
	}
	return all
}

func (r *reader) texts() (all []string) {
	for n := r.Number(); n > 0 && !r.Bad; n-- {
		all = append(all, r.Text())
	}
	return all
}

// within reads a number up to a bound.
func (r *reader) within(most uint64) uint64 {
	n := r.Number()
	if n > most {
		r.Fail()
	}
	return min(n, most)
}

func (r *reader) flag() bool         { return r.within(1) == 1 }
func (r *reader) age() time.Duration { return time.Duration(r.within(math.MaxInt64)) }
func (r *reader) count() int         { return int(r.within(maxCount)) }

// Parse reads what Append has written.
func Parse(b []byte) (n Node, err error) {
	r := &reader{recordlog.Fields{B: b}}
	if v := r.Number(); v != version {
		return n, errors.New("the state of the node has another version")
	}
	n.Prefix = r.Text()
	n.Process, n.Incarnation, n.Tokens = r.Number(), r.Number(), r.Number()
	n.RedisTime, n.UpAtRedis = r.within(math.MaxInt64), r.within(math.MaxInt64)
	n.Age, n.Strangers = r.age(), r.flag()
	n.Counters, n.Numbers = r.numbers(math.MaxUint64), r.numbers(envelopes.MaxNumber)
	n.Apps, n.Peers, n.Back = r.texts(), r.texts(), r.texts()
	if !n.Seen.Parse(r.Bytes(r.Number())) {
		r.Fail()
	}
	for left := r.Number(); left > 0 && !r.Bad; left-- {
		n.Recent = append(n.Recent, Event{Topic: r.Text(), Payload: r.Text(), Except: r.Number(),
			Number: r.within(envelopes.MaxNumber), Remember: r.flag(), Age: r.age()})
	}
	for left := r.Number(); left > 0 && !r.Bad; left-- {
		n.Topics = append(n.Topics, r.topic())
	}
	if r.Bad || len(r.B) > 0 {
		return Node{}, errSense
	}
	return n, nil
}

func (r *reader) topic() Topic {
	t := Topic{Name: r.Text(), Cache: r.flag(), Members: r.count(), Lingers: r.age(),
		Total: r.count()}
	for left := r.Number(); left > 0 && !r.Bad; left-- {
		u := User{r.Text(), r.Text()}
		r.judge(u.ID, u.Info)
		t.Users = append(t.Users, u)
	}
	for left := r.Number(); left > 0 && !r.Bad; left-- {
		m := &envelopes.Member{User: r.Text(), Info: r.Text(), Order: r.count()}
		r.judge(m.User, m.Info)
		t.View = append(t.View, m)
	}
	if t.Name == "" || len(t.Users) > t.Members {
		r.Fail()
	}
	return t
}

// judge fails on what cannot be a user.
func (r *reader) judge(user, info string) {
	if !envelopes.IsMember(user, info) {
		r.Fail()
	}
}
