package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// question is a command that changes nothing, and the bucket that the command is about.
type question struct {
	bucket int
	args   []string
}

// query asks Redis and waits for the replies. A reply about a foreign key is an error.
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

// ask is query that does not wait: the node's goroutine calls got. The questions, at least one, go
// out together.
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
				if err := ctx.Err(); err != nil {
					answer(resp.Reply{}, err)
				} else {
					n.command(call{q.bucket, true, answer}, q.args...)
				}
			})
		}
	})
}

// Stats tells of each topic, on all nodes together, the subscriptions, the users and the cached
// event. It tells -1 subscriptions of a topic for which Redis holds a foreign key.
func (n *Node) Stats(ctx context.Context, topics []string) (subscriptions, users []int,
	cached []string, err error) {
	r, err := n.query(ctx, n.statsQuestions(topics))
	if err != nil {
		return nil, nil, nil, err
	}
	subscriptions, users, cached = readStats(r)
	return subscriptions, users, cached, nil
}

// statsQuestions are three questions for each topic.
func (n *Node) statsQuestions(topics []string) (questions []question) {
	for _, topic := range topics {
		b := n.bucketOf(topic)
		t := n.key(b, topic)
		questions = append(questions,
			question{b, []string{"HGETALL", t + ":nodes"}},
			question{b, []string{"HLEN", t + ":members"}},
			question{b, []string{"GET", t + ":cached"}})
	}
	return questions
}

// readStats reads the replies to statsQuestions.
func readStats(r []resp.Reply) (subscriptions, users []int, cached []string) {
	for three := range slices.Chunk(r, 3) {
		sum, count, last := sumOfProcesses(three[0].Items), int(three[1].N), three[2].Text
		if slices.ContainsFunc(three, func(r resp.Reply) bool { return r.Err() != nil }) {
			sum, count, last = -1, 0, ""
		}
		subscriptions, users = append(subscriptions, sum), append(users, count)
		cached = append(cached, last)
	}
	return subscriptions, users, cached
}

// sumOfProcesses adds up the numbers of the processes. Of each process the number of its latest
// incarnation counts: the former one stays in the hash until it is buried.
func sumOfProcesses(hash []resp.Reply) (sum int) {
	type said struct{ incarnation, number int }
	latest := make(map[string]said, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		process, incarnation, _ := strings.Cut(hash[i].Text, "-")
		k, _ := strconv.Atoi(incarnation) // what a stranger has written counts as 0
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
	nodes, err := n.queryOne(ctx, 0, "ZRANGE", n.key(0, "nodes"), "0", "-1")
	if err != nil || len(nodes) == 0 {
		return nil, err
	}
	var questions []question
	for b := range n.buckets {
		union := []string{"SUNION"}
		for _, id := range nodes {
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

// queryOne asks for a list and waits for it.
func (n *Node) queryOne(ctx context.Context, bucket int, args ...string) ([]resp.Reply, error) {
	r, err := n.query(ctx, []question{{bucket, args}})
	if err == nil {
		err = r[0].Err()
	}
	if err != nil {
		return nil, err
	}
	return r[0].Items, nil
}

// Members lists the users of a presence topic, in the order in which they came.
func (n *Node) Members(ctx context.Context, topic string) ([]string, error) {
	b := n.bucketOf(topic)
	hash, err := n.queryOne(ctx, b, "HGETALL", n.key(b, topic)+":members")
	if err != nil {
		return nil, err
	}
	users, order := []string{}, map[string]int{}
	for i := 0; i+1 < len(hash); i += 2 {
		user, digits := hash[i].Text, hash[i+1].Text
		digits, _, _ = strings.Cut(digits, ":")
		order[user], _ = strconv.Atoi(digits) // as above
		users = append(users, user)
	}
	slices.SortFunc(users, func(a, b string) int { return order[a] - order[b] })
	return users, nil
}

// Others lists the other nodes by their latest incarnations, and the dead until they are buried.
func (n *Node) Others(ctx context.Context) (ids []string, err error) {
	all, err := n.queryOne(ctx, 0, "ZRANGE", n.key(0, "nodes"), "0", "-1")
	latest, own := map[string]int{}, fmt.Sprintf("%016x", n.number)
	for _, id := range all {
		process, incarnation, _ := strings.Cut(id.Text, "-")
		if k, bad := strconv.Atoi(incarnation); bad == nil && process != own {
			latest[process] = max(latest[process], k)
		}
	}
	for _, process := range inOrder(latest) {
		ids = append(ids, process+"-"+strconv.Itoa(latest[process]))
	}
	return ids, err
}
