package census

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
)

// desk is an Asker with two buckets, which answers what the test says. It answers no question for
// which replies has nothing.
type desk struct {
	replies map[string]resp.Reply // by command
	asked   []string
	err     error
}

func (d *desk) Ask(_ context.Context, questions []envelopes.Question,
	got func([]resp.Reply, error)) {
	var replies []resp.Reply
	for _, q := range questions {
		command := fmt.Sprint(q.Bucket, " ", strings.Join(q.Args, " "))
		d.asked = append(d.asked, command)
		r, ok := d.replies[command]
		if !ok && d.err == nil {
			return
		}
		replies = append(replies, r)
	}
	got(replies, d.err)
}

func (d *desk) Number() uint64 { return 0xa }

func (d *desk) Place(topic string) (bucket int, key string) {
	b := len(topic) % 2
	return b, d.Names(topic)[b]
}

func (d *desk) Names(parts ...string) []string {
	name := strings.Join(parts, ":")
	return []string{"p:{0}:" + name, "p:{1}:" + name}
}

func list(texts ...string) resp.Reply {
	r := resp.Reply{Kind: resp.Array}
	for _, s := range texts {
		r.Items = append(r.Items, resp.Reply{Kind: resp.Text, Text: s})
	}
	return r
}

func number(n int64) resp.Reply { return resp.Reply{Kind: resp.Int, N: n} }

var foreign = resp.Reply{Kind: resp.Error, Text: "WRONGTYPE it is not a hash"}

func TestAnswers(t *testing.T) {
	d := &desk{replies: map[string]resp.Reply{
		"0 HGETALL p:{0}:a:xy:nodes":   list("b-1", "2", "c-1", "1"),
		"0 HLEN p:{0}:a:xy:members":    number(2),
		"0 GET p:{0}:a:xy:cached":      {Kind: resp.Text, Text: "last"},
		"1 HGETALL p:{1}:a:x:nodes":    foreign,
		"1 HLEN p:{1}:a:x:members":     number(7),
		"1 GET p:{1}:a:x:cached":       {Kind: resp.Null},
		"0 HGETALL p:{0}:a:xy:members": list("7", "2:{}", "8", "1:{}"),
		"1 HGETALL p:{1}:a:x:members":  foreign,
		"0 ZRANGE p:{0}:nodes 0 -1":    list("b-1", "c-1", "000000000000000a-3", "b-2"),
		"0 SUNION p:{0}:node:b-1:topics p:{0}:node:c-1:topics" +
			" p:{0}:node:000000000000000a-3:topics p:{0}:node:b-2:topics": list("a:xy"),
		"1 SUNION p:{1}:node:b-1:topics p:{1}:node:c-1:topics" +
			" p:{1}:node:000000000000000a-3:topics p:{1}:node:b-2:topics": list("a:x", "a:y"),
	}}
	c, ctx := Census{d}, t.Context()
	subscriptions, users, cached, err := c.Stats(ctx, []string{"a:xy", "a:x"})
	if !slices.Equal(subscriptions, []int{3, -1}) || !slices.Equal(users, []int{2, 0}) ||
		!slices.Equal(cached, []string{"last", ""}) || err != nil {
		t.Errorf("stats: got %v, %v, %q, %v", subscriptions, users, cached, err)
	}
	if got, err := c.Members(ctx, "a:xy"); !slices.Equal(got, []string{"8", "7"}) || err != nil {
		t.Errorf("members: got %q, %v; want 8, then 7", got, err)
	}
	if _, err := c.Members(ctx, "a:x"); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("members under a foreign key: got the error %v", err)
	}
	if got, err := c.OccupiedTopics(ctx); !slices.Equal(got, []string{"a:xy", "a:x", "a:y"}) ||
		err != nil {
		t.Errorf("topics: got %q, %v", got, err)
	}
	if got, err := c.Others(ctx); !slices.Equal(got, []string{"b-2", "c-1"}) || err != nil {
		t.Errorf("other nodes: got %q, %v", got, err)
	}
	d.replies["1 SUNION p:{1}:node:b-1:topics p:{1}:node:c-1:topics"+
		" p:{1}:node:000000000000000a-3:topics p:{1}:node:b-2:topics"] = foreign
	if _, err := c.OccupiedTopics(ctx); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("topics under a foreign key: got the error %v", err)
	}
}

// TestNothing asks about nothing, a Redis that is away, and one that does not answer.
func TestNothing(t *testing.T) {
	d := &desk{replies: map[string]resp.Reply{"0 ZRANGE p:{0}:nodes 0 -1": list()}}
	c, ctx := Census{d}, t.Context()
	if got, _, _, err := c.Stats(ctx, nil); len(got) != 0 || err != nil || len(d.asked) != 0 {
		t.Errorf("no topics: got %v, %v, asked %q", got, err, d.asked)
	}
	if got, err := c.OccupiedTopics(ctx); len(got) != 0 || err != nil {
		t.Errorf("no nodes: got %q, %v", got, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Members(ended, "a:silent"); err != context.Canceled {
		t.Errorf("no answer: got the error %v, want %v", err, context.Canceled)
	}
	d.err = errors.New("Redis is not reachable")
	_, _, _, stats := c.Stats(ctx, []string{"a:x"})
	_, topics := c.OccupiedTopics(ctx)
	_, members := c.Members(ctx, "a:x")
	_, others := c.Others(ctx)
	for _, err := range []error{stats, topics, members, others} {
		if err != d.err {
			t.Errorf("Redis is away: got the error %v, want %v", err, d.err)
		}
	}
}
