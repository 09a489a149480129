// Package keys knows the names of what the nodes of a cluster keep in Redis.
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
//	P:restart           the node whose turn it is to restart, see package oneatatime
//	P:claim:…           what a request with a key has claimed, see package retries
//	L:events            stream: what an app's URL is told, see package outbox; L stands for
//	                    P:hooks:app:URL, with a hash of the URL
//	L:leavings          sorted set: transitions, and when their grace is over (milliseconds)
//	L:state             hash: owner, its channel, until when; batch under way; what was refused
//	L:waiting           hash: channel " " user, and the last transition of it, if very many wait
//	L:absent            sorted set: channel " " user, of the members in L:leavings
//
// In a Redis Cluster the topics are dealt out to buckets. P:{b} takes the place of P in every name
// that belongs to bucket b, so that all keys of a script, and the channels on which it publishes,
// share a slot; the channels are sharded ones. Names that belong to no topic are in bucket 0.
// Without a Redis Cluster there is one bucket, and no braces.
package keys

// OfTopic returns the KEYS of a script about a topic (scripts/topic.lua), for an incarnation. base
// is P or P:{b}, with a colon.
func OfTopic(base, topic, incarnation string) []string {
	t, node := base+topic, base+"node:"+incarnation
	return []string{t + ":nodes", t + ":users:" + incarnation, t + ":count", t + ":members",
		t + ":order", t + ":cached", node + ":topics", node + ":dead"}
}

// OfLane returns the five keys of a lane: events, leavings, state, waiting and absent. base is as
// in OfTopic, and url names the URL.
func OfLane(base, app, url string) []string {
	l := base + "hooks:" + app + ":" + url
	return []string{l + ":events", l + ":leavings", l + ":state", l + ":waiting", l + ":absent"}
}

// OfCount is the key of the last count that was told of a channel. events is that of the lane.
func OfCount(events, channel string) string { return events + ":" + channel }
