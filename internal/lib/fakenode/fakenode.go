// Package fakenode has a node of a cluster that a test controls. It lets a member in only when the
// test says so, and answers questions with canned answers. It takes the place of the program's own
// node, and tells the program's replica what other nodes do.
package fakenode

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"reverb/internal/lib/retries"
)

// Replica gets the news of other nodes; see the room cluster.
type Replica interface {
	Deliver(topic, payload string, except uint64, remember bool)
	Remember(topic, payload string)
	TerminateUser(app, user string)
	Added(topic, user, info string)
	Removed(topic, user string)
	Snapshot(topic string, users, infos []string, cached string, life time.Duration)
	Dropped(topic string)
	Total(topic string, members int)
}

// Join is a member that waits to be let into a topic. User is empty outside presence channels.
type Join struct {
	Topic, User, Info string
	Ready             func()
}

// Node is the node. Any goroutine may call its methods. Joins belongs to the test, which reads it
// while the program is idle.
type Node struct {
	Replica Replica // of Play
	Joins   []Join  // members that are not let in yet, in order

	Occupied []string // topics that have a subscriber anywhere
	// Subscriptions has the subscriptions of each topic; negative: unknown. A topic has one user
	// less than subscriptions, and its own name as the last event.
	Subscriptions map[string]int

	mu     sync.Mutex
	left   []string // topic and user, since Play looked
	counts []string // apps whose connections have become more or fewer, since Play looked
	asked  []string // questions, since Play looked
	fails  error    // the answer to every question

	late, crowded bool
}

// Play does what a line of a scene says about the cluster, or compares what the program has told
// the node:
//
//	admits             whoever has asked, in order
//	adds TOPIC USER    a user on another node
//	removes TOPIC USER
//	tells TOPIC EVENT  a snapshot of a topic without users, whose last event lives for a minute
//	delivers TOPIC ID EVENT   an event that is to be remembered, for all but one socket ID
//	remembers TOPIC EVENT
//	totals TOPIC N     how many members a topic has on all nodes
//	terminates APP USER
//	left TOPIC USER    what was told of those who left since; the topic is dropped
//	counts APP|…       the apps whose connections have become more or fewer since, each time
//	is late            more is published than Redis takes; anything else ends it
//	is crowded         clients ask for more places than it can give; anything else ends it
//	fails              every question, a second later; it answers at first
//	answers
//	asked QUESTION|…   what it was asked since, in alphabetical order
func (n *Node) Play(line string) (got, want string) {
	verb, rest, _ := strings.Cut(line, " ")
	topic, user, _ := strings.Cut(rest, " ")
	switch verb {
	case "admits":
		for _, j := range n.takeJoins() { // one that is let in may ask for another topic
			if j.User != "" {
				n.Replica.Added(j.Topic, j.User, j.Info)
			}
			j.Ready()
		}
	case "adds":
		n.Replica.Added(topic, user, "")
	case "removes":
		n.Replica.Removed(topic, user)
	case "tells":
		n.Replica.Snapshot(topic, nil, nil, user, time.Minute)
	case "delivers":
		var high, low uint64
		id, event, _ := strings.Cut(user, " ")
		fmt.Sscanf(id, "%d.%d", &high, &low)
		n.Replica.Deliver(topic, event, high<<32|low, true)
	case "remembers":
		n.Replica.Remember(topic, user)
	case "totals":
		var members int
		fmt.Sscan(user, &members)
		n.Replica.Total(topic, members)
	case "terminates":
		n.Replica.TerminateUser(topic, user)
	case "left":
		got, want = n.take(&n.left), rest
		if topic != "" {
			n.Replica.Dropped(topic) // no other node is in it, and perhaps not this one
		}
	case "counts":
		return n.take(&n.counts), rest
	case "asked":
		return n.take(&n.asked), rest
	case "is", "fails", "answers":
		n.set(verb, rest)
	default:
		return "a cluster does not: " + verb, ""
	}
	return got, want
}

func (n *Node) set(verb, rest string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if verb == "is" {
		n.late, n.crowded = rest == "late", rest == "crowded"
		return
	}
	n.fails = map[string]error{"fails": io.ErrNoProgress}[verb]
}

// takeJoins returns the members that wait, and lets others wait from now on.
func (n *Node) takeJoins() []Join {
	n.mu.Lock()
	defer n.mu.Unlock()
	joins := n.Joins
	n.Joins = nil
	return joins
}

// take returns a list in alphabetical order, and empties it.
func (n *Node) take(list *[]string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(*list)
	all := strings.Join(*list, "|")
	*list = nil
	return all
}

// ask notes a question, and takes a second to answer it.
func (n *Node) ask(question ...any) error {
	n.mu.Lock()
	n.asked = append(n.asked, strings.TrimSpace(fmt.Sprintln(question...)))
	fails := n.fails
	n.mu.Unlock()
	time.Sleep(time.Second)
	return fails
}

// --- What the program asks of its node ---

// Join notes a member that waits.
func (n *Node) Join(topic, user, info string, _ bool, ready func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Joins = append(n.Joins, Join{topic, user, info, ready})
}

// Leave notes that a subscriber has left.
func (n *Node) Leave(topic, user string, _ bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.left = append(n.left, strings.TrimSpace(topic+" "+user))
}

// CatchUp calls ready at once.
func (n *Node) CatchUp(_ string, ready func()) { ready() }

// SetCount notes that an app has more connections, or fewer.
func (n *Node) SetCount(app string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts = append(n.counts, app)
}

// Crowded says what the scene has set.
func (n *Node) Crowded() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.crowded
}

// Behind says what the scene has set.
func (n *Node) Behind() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.late
}

// Publish notes an event, with the socket ID that does not get it and the key of its request, and
// nobody gets it.
func (n *Node) Publish(topic, payload string, except uint64, remember bool, key *retries.Step,
	done func(error)) {
	question := []any{"publish", topic, payload,
		fmt.Sprintf("%d.%d", except>>32, uint32(except)), remember}
	if key != nil {
		question = append(question, key.Key())
	}
	n.later(func(err error) {
		key.Heard("")
		if done != nil {
			done(err)
		}
	}, question...)
}

// PerChannel says that keys count for all channels.
func (n *Node) PerChannel() bool { return false }

// Claim notes a step of a request with a key.
func (n *Node) Claim(topic string, s *retries.Step, done func(error)) {
	n.later(done, "claim", topic, s.Key(), s.Args()[2])
}

// TerminateAll notes a user whose connections end.
func (n *Node) TerminateAll(app, user string, done func(error)) {
	n.later(done, "terminate", app, user)
}

// Count says that an app has nine connections.
func (n *Node) Count(app string, own int64, done func(total int64, err error)) {
	n.later(func(err error) { done(9, err) }, "count", app, own)
}

func (n *Node) later(done func(error), question ...any) {
	go func() {
		if err := n.ask(question...); done != nil {
			done(err)
		}
	}()
}

// OccupiedTopics returns Occupied.
func (n *Node) OccupiedTopics(context.Context) ([]string, error) {
	return n.Occupied, n.ask("occupied")
}

// Members says that the users 1 and 8 are on a topic.
func (n *Node) Members(_ context.Context, topic string) ([]string, error) {
	return []string{"1", "8"}, n.ask("members", topic)
}

// Stats answers from Subscriptions.
func (n *Node) Stats(_ context.Context, topics []string) (
	subscriptions, users []int, cached []string, err error,
) {
	for _, t := range topics {
		i := n.Subscriptions[t]
		subscriptions, users = append(subscriptions, i), append(users, i-1)
		cached = append(cached, `{"of":"`+t+`"}`)
	}
	return subscriptions, users, cached, n.ask("stats", topics)
}
