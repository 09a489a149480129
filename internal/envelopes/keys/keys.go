// Package keys knows the names of what the nodes of a cluster keep in Redis, and reads parts of it.
//
// A node is known by the ID of its incarnation, I: every session of a process with Redis is another
// incarnation. The names begin with P, which is REVERB_SCALING_CHANNEL. T stands for P:app:channel,
// which names a topic. The keys:
//
//	P:nodes             sorted set: I, and when its lease ends (milliseconds); negative:
//	                    since when another node buries it
//	P:ready             sorted set: I, and when it last said that it is ready
//	P:node:I:counts     hash: app, open connections
//	P:node:I:topics     set: topics in which I has members
//	P:node:I:dead       exists when I is dead; Redis refuses the scripts of I
//	T:nodes             hash: I, subscriptions
//	T:users:I           set: users that I has
//	T:count             hash: user, incarnations that have it
//	T:members           hash: user, order ":" user_info
//	T:order             counter
//	T:cached            the last event of a cache channel
//
// In a Redis Cluster, P:{b} takes the place of P in every name that belongs to bucket b, so that
// all keys of a script share a slot.
package keys

import (
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// OfTopic returns the KEYS of a script about a topic (scripts/topic.lua), for an incarnation. base
// is P or P:{b}, with a colon.
func OfTopic(base, topic, incarnation string) []string {
	t, node := base+topic, base+"node:"+incarnation
	return []string{t + ":nodes", t + ":users:" + incarnation, t + ":count", t + ":members",
		t + ":order", t + ":cached", node + ":topics", node + ":dead"}
}

// Process is the part of an incarnation's ID that all incarnations of one process share.
func Process(incarnation string) string {
	process, _, _ := strings.Cut(incarnation, "-")
	return process
}

// Sum adds up the numbers of the processes in a hash of incarnations. Of each process the number of
// its latest incarnation counts: the former one stays in the hash until it is buried. What a
// stranger has written counts as 0.
func Sum(hash []resp.Reply) (sum int) {
	type said struct{ incarnation, number int }
	latest := make(map[string]said, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		process, incarnation, _ := strings.Cut(hash[i].Text, "-")
		k, _ := strconv.Atoi(incarnation)
		number, _ := strconv.Atoi(hash[i+1].Text)
		if k >= latest[process].incarnation {
			latest[process] = said{k, number}
		}
	}
	for _, s := range latest {
		sum += s.number
	}
	return sum
}
