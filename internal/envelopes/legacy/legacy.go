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

type writer []byte

func (w *writer) numbers(all ...uint64) {
	for _, n := range all {
		*w = binary.AppendUvarint(*w, n)
	}
}

func (w *writer) texts(all ...string) {
	for _, s := range all {
		*w = recordlog.AppendField(*w, s)
	}
}

// list writes how many there are, and each.
func list[T any](w *writer, all []T, each func(T)) {
	w.numbers(uint64(len(all)))
	for _, v := range all {
		each(v)
	}
}

// Append appends the bytes of n.
func (n *Node) Append(b []byte) []byte {
	w := (*writer)(&b)
	number, text := func(v uint64) { w.numbers(v) }, func(s string) { w.texts(s) }
	w.numbers(version)
	w.texts(n.Prefix)
	w.numbers(n.Process, n.Incarnation, n.Tokens, n.RedisTime, n.UpAtRedis, uint64(n.Age),
		flag(n.Strangers))
	list(w, n.Counters, number)
	list(w, n.Apps, text)
	list(w, n.Peers, text)
	list(w, n.Back, text)
	list(w, n.Numbers, number)
	*w = recordlog.AppendField(*w, n.Seen.Append(nil))
	list(w, n.Recent, func(e Event) {
		w.texts(e.Topic, e.Payload)
		w.numbers(e.Except, e.Number, flag(e.Remember), uint64(e.Age))
	})
	list(w, n.Topics, func(t Topic) {
		w.texts(t.Name)
		w.numbers(flag(t.Cache), uint64(t.Members), uint64(t.Lingers), uint64(t.Total))
		list(w, t.Users, func(u User) { w.texts(u.ID, u.Info) })
		list(w, t.View, func(m *envelopes.Member) {
			w.texts(m.User, m.Info)
			w.numbers(uint64(m.Order))
		})
	})
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

// all reads what list has written. Each part takes a byte at least.
func all[T any](r *reader, each func() T) (found []T) {
	for n := r.Number(); n > 0 && !r.Bad; n-- {
		if v := each(); !r.Bad {
			found = append(found, v)
		}
	}
	return found
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
	n.Counters = all(r, r.Number)
	n.Apps, n.Peers, n.Back = all(r, r.Text), all(r, r.Text), all(r, r.Text)
	n.Numbers = all(r, func() uint64 { return r.within(envelopes.MaxNumber) })
	if !n.Seen.Parse(r.Bytes(r.Number())) {
		r.Fail()
	}
	n.Recent = all(r, func() Event {
		return Event{Topic: r.Text(), Payload: r.Text(), Except: r.Number(),
			Number: r.within(envelopes.MaxNumber), Remember: r.flag(), Age: r.age()}
	})
	n.Topics = all(r, r.topic)
	if r.Bad || len(r.B) > 0 {
		return Node{}, errSense
	}
	return n, nil
}

func (r *reader) topic() Topic {
	t := Topic{Name: r.Text(), Cache: r.flag(), Members: r.count(), Lingers: r.age(),
		Total: r.count()}
	t.Users = all(r, func() User {
		u := User{r.Text(), r.Text()}
		r.judge(u.ID, u.Info)
		return u
	})
	t.View = all(r, func() *envelopes.Member {
		m := &envelopes.Member{User: r.Text(), Info: r.Text(), Order: r.count()}
		r.judge(m.User, m.Info)
		return m
	})
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
