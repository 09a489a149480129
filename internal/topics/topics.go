// Package topics answers questions about channels: their figures, their members, and the
// connections of an app. A topic is a channel of an app, by the name that the nodes of a cluster
// use.
//
// It also shares the claims of requests with keys among all nodes, see package retries.
//
// There are two implementations. alone answers from what this node knows. among asks the other
// nodes too. While Redis is away, it answers from what this node knows; such an answer is
// incomplete.
//
// The package knows no connection, no subscription and no Redis. App has what this node knows, and
// Peers what all nodes know. The package keeps no state and starts no goroutine. A question ends
// when its context ends.
package topics

import (
	"context"
	"strings"
	"time"

	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

// Name returns the topic of a channel of an app. The name of a channel holds no colon, but that of
// a user's channel may: it begins with '#', and then the ID of the user stands in it.
func Name(app, channel string) string { return app + ":" + channel }

// Cut is the reverse of Name. app is empty if topic is not a topic. The ID of an app must not hold
// ":#".
func Cut(topic string) (app, channel string) {
	i := strings.Index(topic, ":#")
	if i < 0 {
		i = strings.LastIndexByte(topic, ':')
	}
	return topic[:max(i, 0)], topic[i+1:]
}

// App is what this node alone knows of an app.
type App interface {
	ID() string
	// Open is how many connections are open.
	Open() int64
	// Stats returns the figures of a channel.
	Stats(name protocol.Name, now time.Time) protocol.Stats
	// Rows gives yield the occupied channels whose names begin with prefix, until yield returns
	// false.
	Rows(prefix string, now time.Time,
		yield func(app, name string, s protocol.Stats, events uint64) bool)
	// Users returns the members of a presence channel.
	Users(name protocol.Name) []*protocol.Member
	// Terminate closes the connections of a user.
	Terminate(user string)
}

// Peers are all nodes of a cluster, with this one. Questions fail while Redis cannot be reached.
type Peers interface {
	// Stats returns the subscriptions and the users of topics, and the last events of cache
	// channels; empty: there is none. Fewer than 0 subscriptions mean that only this node knows the
	// topic.
	Stats(ctx context.Context, topics []string) (subscriptions, users []int, cached []string,
		err error)
	// OccupiedTopics returns the topics of all apps that have subscriptions.
	OccupiedTopics(ctx context.Context) ([]string, error)
	// Members returns the users of a topic, in the order in which they came.
	Members(ctx context.Context, topic string) ([]string, error)
	// Count tells done how many connections an app has, of which this node has own.
	Count(app string, own int64, done func(total int64, err error))
	// TerminateAll makes all nodes close the connections of a user. done is called when they have
	// been told.
	TerminateAll(app, user string, done func(error))
	// PerChannel says that a claim of a request for one channel counts for this channel alone.
	PerChannel() bool
	// Claim gives all nodes a step of a request with a key; topic says where its claim lies. done
	// gets what Step.Heard returns, or another error.
	Claim(topic string, s *retries.Step, done func(error))
}

// Questions has the questions about channels. Any goroutine may call the methods.
type Questions[A App] interface {
	// Stats returns the figures of channels, in their order.
	Stats(ctx context.Context, a A, names []protocol.Name, now time.Time) []protocol.Stats
	// Channel returns the figures of one channel.
	Channel(ctx context.Context, a A, name protocol.Name, now time.Time) protocol.Stats
	// Channels returns, by name, the figures of the occupied channels whose names begin with
	// prefix. Without info only Kind and Occupied count. Channels of users are among them only if
	// prefix begins with '#'.
	Channels(ctx context.Context, a A, prefix string, info bool,
		now time.Time) map[string]protocol.Stats
	// Connections is how many connections of an app are open.
	Connections(ctx context.Context, a A) int64
	// Users returns the members of a presence channel. Their user_info may be left out.
	Users(ctx context.Context, a A, name protocol.Name) []*protocol.Member
	// Terminate closes the connections of a user.
	Terminate(ctx context.Context, a A, user string)
	// PerChannel says that a key of a request for one channel counts for this channel alone.
	PerChannel() bool
	// Claim shares a step of a request with a key. The error is retries.ErrOther or
	// retries.ErrBusy. There is none while Redis is away, and when ctx ends.
	Claim(ctx context.Context, a A, s *retries.Step) error
}

// New returns the implementation: among peers, or alone if peers is nil.
func New[A App](peers Peers) Questions[A] {
	if peers == nil {
		return alone[A]{}
	}
	return among[A]{peers}
}

// --- The only node ---

type alone[A App] struct{}

func (alone[A]) Stats(_ context.Context, a A, names []protocol.Name,
	now time.Time) []protocol.Stats {
	all := make([]protocol.Stats, len(names))
	for i, name := range names {
		all[i] = a.Stats(name, now)
	}
	return all
}

func (alone[A]) Channel(_ context.Context, a A, name protocol.Name, now time.Time) protocol.Stats {
	return a.Stats(name, now)
}

func (alone[A]) Channels(_ context.Context, a A, prefix string, _ bool,
	now time.Time) map[string]protocol.Stats {
	return occupied(a, prefix, now)
}

// occupied tells, by name, of the occupied channels whose names begin with prefix.
func occupied(a App, prefix string, now time.Time) map[string]protocol.Stats {
	found := make(map[string]protocol.Stats)
	a.Rows(prefix, now, func(_, name string, s protocol.Stats, _ uint64) bool {
		if prefix != "" || !s.Kind.User {
			found[name] = s
		}
		return true
	})
	return found
}

func (alone[A]) Connections(_ context.Context, a A) int64 { return a.Open() }

func (alone[A]) Users(_ context.Context, a A, name protocol.Name) []*protocol.Member {
	return a.Users(name)
}

func (alone[A]) Terminate(_ context.Context, a A, user string) { a.Terminate(user) }

func (alone[A]) PerChannel() bool { return false }

func (alone[A]) Claim(context.Context, A, *retries.Step) error { return nil }

// --- One of many ---

type among[A App] struct{ peers Peers }

func (q among[A]) Stats(ctx context.Context, a A, names []protocol.Name,
	now time.Time) []protocol.Stats {
	all, topics := alone[A]{}.Stats(ctx, a, names, now), make([]string, len(names))
	for i, name := range names {
		topics[i] = Name(a.ID(), name.String())
	}
	subscriptions, users, cached, err := q.peers.Stats(ctx, topics)
	if err != nil {
		return all
	}
	for i := range all {
		n, kind := subscriptions[i], names[i].Kind()
		if n < 0 {
			continue // what this node knows
		}
		all[i] = protocol.Stats{Kind: kind, Subscriptions: n, Users: users[i], Occupied: n > 0}
		if kind.User { // nodes subscribe to the topics of users who are watched
			all[i].Occupied = users[i] > 0
		}
		if kind.Cache && cached[i] != "" {
			all[i].Cached = []byte(cached[i])
		}
	}
	return all
}

func (q among[A]) Channel(ctx context.Context, a A, name protocol.Name,
	now time.Time) protocol.Stats {
	return q.Stats(ctx, a, []protocol.Name{name}, now)[0]
}

func (q among[A]) Channels(ctx context.Context, a A, prefix string, info bool,
	now time.Time) map[string]protocol.Stats {
	topics, err := q.peers.OccupiedTopics(ctx)
	if err != nil {
		return occupied(a, prefix, now)
	}
	var names []protocol.Name
	for _, topic := range topics {
		app, channel := Cut(topic)
		if app != a.ID() || !strings.HasPrefix(channel, prefix) {
			continue
		}
		if name, err := protocol.ParseName(channel); err == nil &&
			(prefix != "" || !name.Kind().User) {
			names = append(names, name)
		}
	}
	found, all := make(map[string]protocol.Stats, len(names)), make([]protocol.Stats, len(names))
	if info = info || strings.HasPrefix(prefix, "#"); info {
		all = q.Stats(ctx, a, names, now)
	}
	for i, name := range names {
		if !info {
			all[i] = protocol.Stats{Kind: name.Kind(), Occupied: true}
		}
		if all[i].Occupied { // the channel may have become empty between the two questions
			found[name.String()] = all[i]
		}
	}
	return found
}

func (q among[A]) Connections(ctx context.Context, a A) int64 {
	n, total := a.Open(), make(chan int64, 1)
	q.peers.Count(a.ID(), n, func(all int64, err error) {
		if err != nil {
			all = n
		}
		total <- all
	})
	select {
	case n = <-total:
	case <-ctx.Done():
	}
	return n
}

func (q among[A]) Users(ctx context.Context, a A, name protocol.Name) []*protocol.Member {
	ids, err := q.peers.Members(ctx, Name(a.ID(), name.String()))
	if err != nil {
		return a.Users(name)
	}
	members := make([]*protocol.Member, len(ids))
	for i, id := range ids {
		members[i] = &protocol.Member{ID: id}
	}
	return members
}

// Terminate tells all nodes, with this one. While Redis is away, it tells only this one.
func (q among[A]) Terminate(ctx context.Context, a A, user string) {
	done := make(chan struct{})
	q.peers.TerminateAll(a.ID(), user, func(error) { close(done) })
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (q among[A]) PerChannel() bool { return q.peers.PerChannel() }

func (q among[A]) Claim(ctx context.Context, a A, s *retries.Step) error {
	done := make(chan error, 1)
	q.peers.Claim(Name(a.ID(), s.Home()), s, func(err error) { done <- err })
	select {
	case err := <-done:
		if err == retries.ErrOther || err == retries.ErrBusy {
			return err
		}
	case <-ctx.Done():
	}
	return nil
}
