package cluster

import (
	"context"

	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
)

// Ask is part of census.Asker. The node's goroutine calls got.
func (n *Node) Ask(ctx context.Context, questions []envelopes.Question,
	got func([]resp.Reply, error)) {
	n.post(func() {
		replies, left := make([]resp.Reply, len(questions)), len(questions)
		var failed error
		for i, q := range questions {
			answer := func(r resp.Reply, err error) {
				if err == nil && !resp.Foreign(r.Err()) {
					err = r.Err()
				}
				if failed == nil {
					failed = err
				}
				replies[i] = r
				if left--; left == 0 {
					got(replies, failed)
				}
			}
			if len(questions) <= bulkCommands {
				n.command(call{bucket: q.Bucket, done: answer}, q.Args...)
				continue
			}
			n.later(q.Bucket, func() {
				if err := ctx.Err(); err != nil {
					answer(resp.Reply{}, err)
				} else {
					n.command(call{bucket: q.Bucket, bulk: true, done: answer}, q.Args...)
				}
			})
		}
	})
}

// Number is that of this process.
func (n *Node) Number() uint64 { return n.number }

// Place is the bucket of a topic, and what the names of the topic's keys begin with.
func (n *Node) Place(topic string) (bucket int, key string) {
	b := n.bucketOf(topic)
	return b, n.key(b, topic)
}

// Names are the names of a key in all buckets.
func (n *Node) Names(parts ...string) (names []string) {
	for b := range n.buckets {
		names = append(names, n.key(b, parts...))
	}
	return names
}
