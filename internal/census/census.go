// Package census answers what all nodes of a cluster have together: the figures, the users and the
// last events of topics, and which nodes there are. Redis holds it, see package cluster for the
// names of keys. So one dead node delays no answer.
//
// The package writes nothing, and keeps no state. Any goroutine may ask. What Redis answers may
// come from a stranger, and costs at most the topic that it is about.
package census

import (
	"context"

	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
)

// Asker asks Redis, and knows the names of keys.
type Asker interface {
	// Ask sends the questions, at least one, together. got gets the replies in their order, or the
	// first error; it must not wait. A reply about a foreign key is one of the replies. When ctx
	// has ended, questions that have not gone out are not asked any more.
	Ask(ctx context.Context, questions []envelopes.Question, got func([]resp.Reply, error))
	// Number is that of this process.
	Number() uint64
	// Place is the bucket of a topic, and what the names of the topic's keys begin with.
	Place(topic string) (bucket int, key string)
	// Names are the names of a key in all buckets.
	Names(parts ...string) []string
}

// Census asks by an Asker. Its methods wait for the answers, and end when ctx ends.
type Census struct{ Asker }

// query asks and waits for the replies.
func (c Census) query(ctx context.Context, questions []envelopes.Question) ([]resp.Reply, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	type answer struct {
		replies []resp.Reply
		err     error
	}
	got := make(chan answer, 1)
	c.Ask(ctx, questions, func(r []resp.Reply, err error) { got <- answer{r, err} })
	select {
	case a := <-got:
		return a.replies, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// list asks for one list. A reply that is an error is an error.
func (c Census) list(ctx context.Context, bucket int, args ...string) ([]resp.Reply, error) {
	r, err := c.query(ctx, []envelopes.Question{{Bucket: bucket, Args: args}})
	if err == nil {
		err = r[0].Err()
	}
	if err != nil {
		return nil, err
	}
	return r[0].Items, nil
}

// Stats tells of each topic, on all nodes together, the subscriptions, the users and the cached
// event. It tells -1 subscriptions of a topic for which Redis holds a foreign key.
func (c Census) Stats(ctx context.Context, topics []string) (subscriptions, users []int,
	cached []string, err error) {
	r, err := c.query(ctx, StatsQuestions(c, topics))
	if err != nil {
		return nil, nil, nil, err
	}
	subscriptions, users, cached = envelopes.Stats(r)
	return subscriptions, users, cached, nil
}

// StatsQuestions are the questions of Stats, three for each topic; envelopes.Stats reads the
// replies.
func StatsQuestions(names Asker, topics []string) (questions []envelopes.Question) {
	for _, topic := range topics {
		b, t := names.Place(topic)
		questions = append(questions,
			envelopes.Question{Bucket: b, Args: []string{"HGETALL", t + ":nodes"}},
			envelopes.Question{Bucket: b, Args: []string{"HLEN", t + ":members"}},
			envelopes.Question{Bucket: b, Args: []string{"GET", t + ":cached"}})
	}
	return questions
}

// OccupiedTopics lists the topics in which any node has members.
func (c Census) OccupiedTopics(ctx context.Context) ([]string, error) {
	nodes, err := c.list(ctx, 0, "ZRANGE", c.Names("nodes")[0], "0", "-1")
	if err != nil || len(nodes) == 0 {
		return nil, err
	}
	var questions []envelopes.Question
	for _, id := range nodes {
		for b, name := range c.Names("node", id.Text, "topics") {
			if b == len(questions) {
				questions = append(questions,
					envelopes.Question{Bucket: b, Args: []string{"SUNION"}})
			}
			questions[b].Args = append(questions[b].Args, name)
		}
	}
	replies, err := c.query(ctx, questions)
	if err != nil {
		return nil, err
	}
	var topics []string
	for _, r := range replies {
		if err := r.Err(); err != nil {
			return nil, err
		}
		for _, t := range r.Items {
			topics = append(topics, t.Text)
		}
	}
	return topics, nil
}

// Members lists the users of a presence topic, in the order in which they came.
func (c Census) Members(ctx context.Context, topic string) ([]string, error) {
	b, t := c.Place(topic)
	hash, err := c.list(ctx, b, "HGETALL", t+":members")
	if err != nil {
		return nil, err
	}
	return envelopes.Users(hash), nil
}

// Others lists the other nodes by their latest incarnations, and the dead until they are buried.
func (c Census) Others(ctx context.Context) ([]string, error) {
	all, err := c.list(ctx, 0, "ZRANGE", c.Names("nodes")[0], "0", "-1")
	return envelopes.Others(all, c.Number()), err
}
