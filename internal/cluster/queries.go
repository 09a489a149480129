package cluster

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// question is a command, and the bucket it is about.
type question struct {
	bucket int
	args   []string
}

// query asks Redis and waits. A reply may be an error, of one key that something else has
// written.
func (n *Node) query(ctx context.Context, questions []question) ([]resp.Reply, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	type answer struct {
		replies []resp.Reply
		err     error
	}
	got := make(chan answer, 1)
	n.ask(ctx, questions, func(r []resp.Reply, err error) { got <- answer{r, err} })
	select {
	case a := <-got:
		return a.replies, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask is query that does not wait: the node's goroutine calls got. The questions, which are
// some, go out together.
func (n *Node) ask(ctx context.Context, questions []question, got func([]resp.Reply, error)) {
	n.post(func() {
		replies, left := make([]resp.Reply, len(questions)), len(questions)
		var failed error
		for i, q := range questions {
			answer := func(r resp.Reply, err error) {
				if err == nil && !foreign(r.Err()) {
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
				n.command(call{bucket: q.bucket, done: answer}, q.args...)
				continue
			}
			n.later(q.bucket, func() {
				if err := ctx.Err(); err != nil { // nobody waits any more
					answer(resp.Reply{}, err)
				} else {
					n.command(call{q.bucket, true, answer}, q.args...)
				}
			})
		}
	})
}

// Stats tells how topics stand on all nodes: subscriptions, users and the cached event
// of each. Of a topic that Redis holds something foreign for it tells -1 subscriptions.
func (n *Node) Stats(ctx context.Context, topics []string) (subscriptions, users []int, cached []string, err error) {
	r, err := n.query(ctx, n.statsQuestions(topics))
	if err != nil {
		return nil, nil, nil, err
	}
	subscriptions, users, cached = readStats(r)
	return subscriptions, users, cached, nil
}

// statsQuestions are three for each topic.
func (n *Node) statsQuestions(topics []string) (questions []question) {
	for _, topic := range topics {
		b := n.bucketOf(topic)
		t := n.key(b, topic)
		questions = append(questions, question{b, []string{"HGETALL", t + ":nodes"}}, question{b, []string{"HLEN", t + ":members"}}, question{b, []string{"GET", t + ":cached"}})
	}
	return questions
}

// readStats reads the answers to them.
func readStats(r []resp.Reply) (subscriptions, users []int, cached []string) {
	for i := range len(r) / 3 {
		if slices.ContainsFunc(r[3*i:3*i+3], func(r resp.Reply) bool { return r.Err() != nil }) {
			subscriptions, users, cached = append(subscriptions, -1), append(users, 0), append(cached, "")
			continue
		}
		subscriptions, users, cached = append(subscriptions, sumOfProcesses(r[3*i].Items)), append(users, int(r[3*i+1].N)), append(cached, r[3*i+2].Text)
	}
	return subscriptions, users, cached
}

// sumOfProcesses adds up what incarnations have said, of each process the latest: who has
// connected anew has its former incarnation beside it until that is buried.
func sumOfProcesses(hash []resp.Reply) (sum int) {
	type said struct{ incarnation, number int }
	latest := make(map[string]said, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		process, incarnation, _ := strings.Cut(hash[i].Text, "-")
		k, _ := strconv.Atoi(incarnation) // written by nodes; a stranger's nonsense counts as 0
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

// OccupiedTopics lists the topics in which any node has members.
func (n *Node) OccupiedTopics(ctx context.Context) ([]string, error) {
	nodes, err := n.query(ctx, []question{{0, []string{"ZRANGE", n.key(0, "nodes"), "0", "-1"}}})
	if err == nil {
		err = nodes[0].Err()
	}
	if err != nil || len(nodes[0].Items) == 0 {
		return nil, err
	}
	var questions []question
	for b := range n.buckets {
		union := []string{"SUNION"}
		for _, id := range nodes[0].Items {
			union = append(union, n.key(b, "node", id.Text, "topics"))
		}
		questions = append(questions, question{b, union})
	}
	replies, err := n.query(ctx, questions)
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
func (n *Node) Members(ctx context.Context, topic string) ([]string, error) {
	b := n.bucketOf(topic)
	r, err := n.query(ctx, []question{{b, []string{"HGETALL", n.key(b, topic) + ":members"}}})
	if err == nil {
		err = r[0].Err()
	}
	if err != nil {
		return nil, err
	}
	var users []member
	for i := 0; i+1 < len(r[0].Items); i += 2 {
		order, _, _ := strings.Cut(r[0].Items[i+1].Text, ":")
		k, _ := strconv.Atoi(order) // written by nodes, as above
		users = append(users, member{user: r[0].Items[i].Text, order: k})
	}
	slices.SortFunc(users, func(a, b member) int { return a.order - b.order })
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.user
	}
	return ids, nil
}
