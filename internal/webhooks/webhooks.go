// Package webhooks tells an application what happens on its channels: it posts events to the URLs
// of the application, in Pusher's form, signed, or it gives them to a Queue.
//
//	Changed, … ─▶ the queue of an app and a URL ─▶ a worker ─▶ a batch ─▶ a request, its retries
//
// What is said here of a URL and a request holds for a Queue and a push, too.
//
// # What is promised
//
// For each app and URL there is one queue, and one request under way. Events arrive in the order of
// the calls of an App, at least once each. An event is sent at once if nothing is under way. What
// comes during a request waits, and goes with the next request, or with several: package posts
// bounds a batch. An event of a private-encrypted- channel never shares a request with others,
// because Pusher's libraries for PHP and Go throw away a whole body that has one.
//
// A batch that is not answered with 2xx is sent again for up to patience, with growing pauses, as
// long as Retry-After asks for, see package posts. A redirect is not followed; it counts as a
// failure. 410 gives up at once. Each attempt has the present time_ms and is signed anew. All
// attempts of a batch have the same X-Reverb-Webhook-Id, and no other batch has it, so a receiver
// can drop repeats.
//
// A page that is loaded again closes a connection and opens another one. So what a vanished
// connection has caused is told only after a grace, and not at all if the reverse comes before;
// then the reverse is not told either.
//
// The methods with which the program tells an App never wait for I/O. Other goroutines may hold
// their lock for a moment, not longer. They may be called under a lock of the caller, and the
// package calls nothing back.
//
// What waits is bounded for the whole process: at most maxEvents events, and Options.QueueBytes.
// When there is no room, the app for which most waits loses something: two transitions that reverse
// one another and that both wait, such as a channel that was occupied and vacated, so that what a
// client does and undoes costs no other an event; if it has none its oldest client event, count or
// cache miss; only then its oldest transition. So no app costs another one an event. Every loss is
// counted with a reason, and the loss of transitions that are not undone is in the log, at the
// latest when the request or pause that is under way ends.
//
// With an Outbox, which a cluster has, all that waits is there: an App gives it what is not a
// transition, transitions are decided elsewhere, and a Courier delivers its batches, of several
// lanes at once. Close leaves what is not delivered to the other nodes.
//
// # Crash and stop
//
// Without a spool a crash loses what waits, and Close tells at once what has gone and delivers for
// as long as it may. With a spool the Sender keeps on the disk what was not delivered, and what is
// there: each channel and member that came and has not been told as gone. The next process
//
//   - sends what was not delivered, in the order of the calls. A batch that may have
//     arrived already has the ID that it had, and comes first.
//   - takes all that was there for gone, as nobody is connected yet. It tells so, members before
//     channels, if it is not back within the grace of the app and 30 seconds of the start. What is
//     back is told neither as gone nor as back. What was in its grace counts as there.
//   - drops and counts what belongs to an app or URL that is configured no more.
//
// Close delivers for as long as it may and receivers take what they get; the rest stays on the
// disk. From Hold on, which the caller
// calls before it ends connections, what vanishes counts as there.
//
// A batch is sent when the disk has it (fsync), so a receiver has heard nothing that the disk does
// not know. Nothing that is told waits for the disk. What a crash costs, by its moment:
//
//   - After a call, before the disk has its event (some milliseconds): the event. That is as if it
//     had not happened: of a transition what the disk says is still true of what the receiver
//     knows, and the next process tells the difference. Client events, counts and cache misses
//     are lost. A killed process loses what the kernel has not got, a loss of power what fsync has
//     not confirmed.
//   - Before the first attempt of a batch, or during one: nothing. The batch comes again.
//   - After the answer, before the disk knows: nothing. The batch comes again, with its ID.
//   - While the file is rewritten: nothing. A crash leaves the old file or the new one.
//
// If the disk fails, the Sender goes on as without a spool, and says so; when the disk works again
// the file gets all that is so then. A crash meanwhile leaves the old file: what it has is sent
// again, partly with other IDs. No batch waits for the disk for more than 2 seconds. What is kept
// costs memory: up to as much again as what waits, and a text for each channel and member that is
// there.
//
// # Upgrade
//
// A process can give all that waits to its successor, with or without a spool: the events, the
// batches under way with their IDs, the absences with what is left of their grace, and the figures.
// Nothing is told in between, and nothing is told as gone or as back that only has another process.
// A batch that was under way comes again with its ID, since it may have arrived. The successor has
// the spool once the process before it has let go of the folder, and writes there all that is so;
// until then it counts as a slow disk, and a crash finds what the process before it has left.
//
// # What is trusted
//
// The operator, who has written the URLs; not the receivers, and not DNS: package outbound judges.
// Logs show a URL without user, password and query, and never a secret or a header.
//
// The package keeps no time and draws nothing itself, see Options. Any goroutine may call
// everything. Files:
//
//	webhooks.go  this contract; the Sender and its apps
//	settings.go  what an app is told, and what becomes of what waits for URLs that go
//	figures.go   what has become of the events
//	watch.go     what the program sees
//	form.go      bodies
//	grace.go     what is told only if it does not come back at once
//	queue.go     what waits, and what is lost when there is no room
//	worker.go    batches, attempts, pauses
//	spool.go     what a crash or a stop would lose, and what a start makes of it
//	post.go      one attempt for a URL
//	lanes.go     what waits in Redis, for all nodes of a cluster
//	push.go      one attempt for a Queue
//	handover.go  all that waits, for another process and from one
package webhooks

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/hookentries"
	"reverb/internal/lib/crowd"
	"reverb/internal/lib/show"
	"reverb/internal/lib/tallies"
	"reverb/internal/lib/wheel"
	"reverb/internal/protocol"
	"reverb/internal/protocol/probe"
)

// maxEvents bounds the events of all apps that wait. Larger: more memory. Smaller: a receiver that
// is down loses events sooner. 100,000 are 200 a second for 8 minutes.
const maxEvents = 100_000

// Options are what a Sender needs. None but Outbox may be missing. Several goroutines call the
// functions.
type Options struct {
	// QueueBytes bounds the bytes of all events that wait, each with its overhead.
	QueueBytes int64
	// ClientEvents is how many client events of an app are told in a second; more are lost.
	ClientEvents int
	Transport    http.RoundTripper // see package outbound
	Log          *slog.Logger
	Now          func() time.Time
	After        func(time.Duration) <-chan time.Time // as time.After
	Draw         func(n int64) int64                  // a random number from 0 to n-1
	Outbox       Outbox                               // nil: this node is the only one
}

// Hook is where events are sent to, and which. It never changes.
type Hook struct {
	URL *url.URL // http or https; a user and a password become an Authorization
	// Queue takes the events if URL is nil. Then Headers do not count, nor do the bytes of a body.
	Queue Queue
	// Kinds has the events that are told.
	Kinds Kinds
	// Prefix and Suffix are how the name of a channel must begin and end; empty: anyhow.
	Prefix, Suffix string
	// Headers are sent with each request. Headers of the form, see the package, count above them.
	Headers http.Header
	// Timeout is how long a request may take, with its answer.
	Timeout time.Duration
}

// Address is what distinguishes the hooks of an app. It may have a password.
func (h *Hook) Address() string {
	if h.URL == nil {
		return "queue " + h.Queue.String()
	}
	return h.URL.String()
}

// Wants says whether an event is told. Channels of users and of reverb check are the server's own
// and never told.
func (h *Hook) Wants(kind Kind, channel protocol.Name) bool {
	return h.wants(KindsOf(kind), channel)
}

// wants says whether an event of one of some kinds is told.
func (h *Hook) wants(some Kinds, channel protocol.Name) bool {
	k := channel.Kind()
	return h.Kinds&some != 0 && !k.User && !k.Reserved && h.covers(channel.String())
}

// covers says whether the name of a channel is one of those that the operator has chosen. What
// reverb check does is no news.
func (h *Hook) covers(channel string) bool {
	return strings.HasPrefix(channel, h.Prefix) && strings.HasSuffix(channel, h.Suffix) &&
		!probe.Is(channel)
}

// Account is an application: how it is known, and its hooks, whose URLs and queues differ.
type Account struct {
	ID, Key, Secret string
	Hooks           []*Hook
	// Grace is how long what a vanished connection has caused is not told.
	Grace time.Duration
}

// Sender delivers the events of all apps.
type Sender struct {
	// constant
	Options
	boot     string // begins the IDs of all batches
	ctx      context.Context
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	batches  atomic.Uint64 // counts them, for their IDs
	stopping chan struct{} // closed by Close
	spool    *spool        // since Keep; nil: nothing is kept
	started  time.Time     // when Keep was called

	stopped sync.Once // see stop

	mu      sync.Mutex
	ending  bool // nothing waits for its grace any more
	closed  bool
	given   bool              // all is the successor's
	heir    *heir             // what has come from a predecessor, until Settle; nil: there is none
	apps    map[string]*App   // by ID
	leavers map[*App]bool     // apps for which waitGone runs
	absent  int               // events in leaving of all apps
	events  int               // that wait or are under way
	bytes   int64             // of them
	crowd   crowd.Crowd[*App] // of those of which something waits or is under way

	// with a spool
	held  bool   // see Hold
	notes []note // that the spool has not got yet

	// with a spool or a predecessor
	lanes uint64                       // the number of the last one
	past  map[string]*hookentries.Past // of other processes, by app, until an app is configured
}

// New makes a Sender without apps. Close ends it.
func New(o Options) *Sender {
	s := &Sender{Options: o, boot: fmt.Sprintf("%016x", o.Draw(1<<62)),
		stopping: make(chan struct{}), leavers: map[*App]bool{}, apps: map[string]*App{},
		crowd: crowd.Crowd[*App]{Share: (*App).share, Place: (*App).crowded}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close takes no more events, and returns when all have been delivered, or when ctx ends: then it
// ends the requests that are under way. With a spool a receiver that fails gets no other chance, as
// the next process goes on. untold is how many events were not delivered; the log says so too.
func (s *Sender) Close(ctx context.Context) (untold int) {
	s.stop()
	done := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.cancel()
	<-done
	s.closeSpool()
	s.mu.Lock()
	defer s.mu.Unlock()
	const dropped = "webhooks were dropped: the server stops; the receiver's idea of who is " +
		"where may be wrong; "
	switch {
	case s.given:
		return 0
	case s.events == 0:
	case s.spool == nil:
		s.Log.Warn(dropped+"REVERB_WEBHOOK_SPOOL names a folder that keeps them for the next start",
			"events", s.events)
	case s.spool.keeps():
		s.Log.Warn("webhooks were not delivered; the spool keeps them for the next start",
			"events", s.events, "spool", show.Text(s.spool.log.Dir))
	default:
		s.Log.Warn(dropped+"the spool cannot be written", "events", s.events, "spool",
			show.Text(s.spool.log.Dir))
	}
	return s.events
}

// stop takes no more events. What has gone is told at once; with a spool it is kept as there.
func (s *Sender) stop() {
	s.stopped.Do(func() {
		s.mu.Lock()
		s.holdLocked()
		s.ending = true
		s.mu.Unlock()
		for s.tellRest() {
		}
	})
}

// App is one application. A nil App tells nothing.
type App struct {
	sender *Sender // constant
	id     string  // constant
	set    atomic.Pointer[settings]

	absences atomic.Int64  // those in leaving and missing
	sooner   chan struct{} // constant; waitGone has waited too long

	// guarded by Sender.mu
	queues  map[string]*queue // by URL
	tallies *tallies.Tallies  // also of hooks that are gone
	waiting int               // events that can be lost
	events  int               // them, and those that are under way
	bytes   int64             // of events
	place   int               // in the Sender's crowd
	leaving wheel.Set[Event]  // whose grace has not passed
	missing wheel.Set[Event]  // what was there when another process ended, and is not back
	second  int64             // of the last client event, since 1970
	spent   int               // client events in that second
}

// App makes an app. The account counts until Configure. The apps of a nil Sender are nil.
func (s *Sender) App(account Account) *App {
	if s == nil {
		return nil
	}
	a := &App{sender: s, id: account.ID, queues: map[string]*queue{},
		tallies: newTallies(), sooner: make(chan struct{}, 1)}
	s.mu.Lock()
	s.apps[a.id] = a
	s.mu.Unlock()
	a.Configure(account)
	return a
}

// wants says whether anybody is told of an event. The caller need not ask, unless the event costs
// something to make.
func (a *App) wants(kind Kind, channel protocol.Name) bool {
	return a.hears(KindsOf(kind), channel)
}

// hears says whether anybody is told of an event of one of some kinds.
func (a *App) hears(some Kinds, channel protocol.Name) bool {
	return a != nil && a.set.Load().hears(some, channel)
}

func (set *settings) hears(some Kinds, channel protocol.Name) bool {
	for _, h := range set.Hooks {
		if h.wants(some, channel) {
			return true
		}
	}
	return false
}

// tell queues an event for each hook that wants it. It keeps Channel and User, and copies Event
// and Data.
func (a *App) tell(e Event) {
	if a == nil || a.decidedElsewhere(e.Kind) {
		return
	}
	set := a.set.Load()
	if e.Kind.IsTransition() {
		a.tellTransition(set, &e)
		return
	}
	if !set.kinds.Has(e.Kind) {
		return
	}
	now, first, over := a.sender.Now(), true, false
	for i, h := range set.Hooks {
		if !h.Wants(e.Kind, e.Channel) {
			continue
		}
		if first && e.Kind == ClientEvent {
			if over = !a.spend(now); !over {
				e.Event, e.Data = strings.Clone(e.Event), bytes.Clone(e.Data)
			}
		}
		first = false
		switch o := a.sender.Outbox; {
		case over:
			set.queues[i].tally.Lose(int(overRate), 1)
		case o != nil:
			kept := e // e itself stays on the stack
			o.Put(a.id, h, &kept)
		default:
			a.sender.put(set.queues[i], &e, now)
		}
	}
}

// tellTransition queues a transition, unless it takes back what was not told.
func (a *App) tellTransition(set *settings, e *Event) {
	heard := KindsOf(e.Kind)
	if a.sender.spool != nil {
		heard = e.Kind.Pair() // it knows what is there
	}
	if a.absences.Load() == 0 && !set.hears(heard, e.Channel) {
		return // without the lock that all share
	}
	a.sender.mu.Lock()
	defer a.sender.mu.Unlock()
	if !a.isBackLocked(e) {
		a.sender.queueLocked(a, e)
	}
}

// decidedElsewhere says that not this node decides whether there is an event, but the scripts that
// change what the nodes of a cluster share.
func (a *App) decidedElsewhere(kind Kind) bool {
	return a.sender.Outbox != nil && kind.IsTransition()
}

// spend says whether another client event may be told in this second.
func (a *App) spend(now time.Time) bool {
	a.sender.mu.Lock()
	defer a.sender.mu.Unlock()
	if second := now.Unix(); second != a.second {
		a.second, a.spent = second, 0
	}
	if a.spent >= a.sender.ClientEvents {
		return false
	}
	a.spent++
	return true
}
