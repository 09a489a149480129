package cluster

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/cluster/scripts"
	"reverb/internal/lib/resp"
)

const (
	replyLimit     = 3 * time.Second  // for an answer of Redis; longer, and the session is given up
	maxLinkBytes   = 64 << 20         // that wait for Redis to take them
	leaseTime      = 10 * time.Second // of a node that is not heard of
	leaseInterval  = 500 * time.Millisecond
	peersGrace     = 5 * time.Second       // after Redis is back: for the others to come back too
	undertakerTime = 10 * time.Second      // for one node to clear up after another
	deadTime       = 24 * time.Hour        // for which a dead incarnation is known as such
	maxBacklog     = 64 << 20              // bytes of events that Redis has not taken
	maxInflight    = 16 << 20              // bytes of events on their way to Redis, see behind
	maxInbox       = 1 << 16               // pieces of work; likewise
	topicRetry     = 5 * time.Second       // after which a topic that Redis holds something foreign for is tried again
	maxTroubled    = 1 << 16               // such topics; with more of them the session is given up
	bulkCommands   = 512                   // of bulk work that may wait for their answers
	bulkLeast      = 32                    // likewise, when the link is full
	bulkBytes      = 1 << 20               // that may wait for the link
	maxSeen        = 1 << 17               // publishers whose last number is kept
	recentTime     = 50 * time.Millisecond // how much later than another a node may learn that Redis is away
	recentTimeMany = time.Second           // likewise that one master of several is: the others, or the old one, take events meanwhile
	maxRecent      = 4096                  // events in each half of what a bucket keeps for that
	maxRecentMany  = 512
	cachedSeconds  = 30 * 60
	backoffLow     = 50 * time.Millisecond
	backoffHigh    = 500 * time.Millisecond // well below peersGrace
	startPatience  = 500 * time.Millisecond // for which new members wait for the first session; then they are served alone
	tellAgain      = 10 * time.Second       // after which the log repeats that, and why, Redis is away
	steadyTime     = 5 * time.Second        // a session that lasted was a success
)

// errAway is told to who asks something that only Redis knows.
var errAway = errors.New("Redis is not reachable")

// Node is this process as part of a cluster. One goroutine owns everything that
// changes; others hand it work with post. Its exported methods may be called by anybody.
type Node struct {
	// constant
	number   uint64 // of this process
	prefix   string // of all names
	scripts  *scripts.Set
	patience time.Duration // see Options
	recent   time.Duration // see recentTime
	keep     int           // see maxRecent
	dialer   Dialer
	replica  Replica
	log      *slog.Logger
	up       chan Link
	wake     chan struct{}
	stop     context.CancelFunc
	running  sync.WaitGroup

	Counters Counters // anybody may read them

	// owned by the goroutine that connects
	random *rand.Rand

	// owned by the goroutine
	id            string   // of this incarnation
	incarnations  uint64   // so far
	former        []string // of them, those that nobody has cleared up after
	buckets       []bucket
	own           map[string]bool // this incarnation's own channels
	link          Link            // nil: Redis is away
	masters       []*master       // of link
	byBucket      []*master       // the same by bucket
	upAt          time.Time       // when it began; before the first, when the node was started
	upAtRedis     int64           // the same, by the clock of Redis, in milliseconds
	redisTime     int64           // when the lease was last renewed, by the same clock
	registered    bool            // its lease is held
	topics        map[string]*topic
	byChannel     map[string]*topic
	subscribing   map[string][]*awaited // confirmations to come, by channel
	unsubscribing map[string]int        // the same for leaving it
	apps          map[string]bool       // that have had connections here
	countsDirty   map[string]bool       // of them, those whose number Redis does not know
	tokens        uint64
	markers       map[uint64]marker
	awaited       []*awaited          // what Redis shall send by itself, in the order in which it was asked
	asking        []int               // buckets for which this turn asks for a marker, see joinBehind
	troubled      map[string]bool     // topics that Redis holds something foreign for: whether they wait in troubles, or are being tried again
	troubles      []trouble           // in the order in which they are tried again
	strangers     bool                // Laravel Reverb was seen, and the log says so
	now           time.Time           // when the turn began
	renewed       time.Time           // when the lease was last asked to be renewed
	seen          map[sequence]uint64 // the highest number of each
	backlog       []*outgoing         // waits for Redis to come back, or for room
	bulk          []bulkJob           // waits for room
	burying       map[string]bool     // dead incarnations
	backlogSize   int
	peers         map[string]bool // processes that were ready when this node last was live
	back          map[string]bool // of them and others, those that have been since the session began
	syncing       int             // topics from before Redis was away that are not in step yet
	held          time.Time       // when the replica last took no more
	turned        time.Time       // when recent was
	starting      bool            // and Redis has not been reached yet: new members wait, see startPatience
	stopping      bool
	toldWhy       string    // the log says this of the end of a session
	toldAway      time.Time // since then
	flapping      bool      // the last session ended for the same reason soon after: the log does not repeat it

	mu      sync.Mutex
	inbox   []func()
	waiting atomic.Int64 // length of inbox

	inflight atomic.Int64 // bytes of events that Redis has not accepted
	unsent   atomic.Int64 // bytes that wait on the links for commands
}

// master is what a node knows of one master of its session.
type master struct {
	index   int                       // in Link
	sent    []func(resp.Reply, error) // commands whose replies are to come; nil: nobody asks
	bulk    int                       // of them, those of bulk work
	replied time.Time                 // last reply, or the first command without one
	heard   time.Time                 // last bytes on the connection that was subscribed with
}

// bucket is a group of topics that are on one server.
type bucket struct {
	base    string // of the names of its keys
	own     string // channel of this incarnation
	numbers uint64 // of the events that this node has published on its topics
	pending []*outgoing
	recent  [2][]*outgoing // settled since recent was last turned, and in the time before
	token   uint64         // of the marker that this turn asks for; 0: of none
	joining []*topic       // whose new members wait for it
}

// awaited is something for which Redis has been asked, and which it sends on the link of
// subscriptions: a confirmation or a marker. If it does not come, Redis is asked again, and
// if it does not come then, the session is given up.
type awaited struct {
	at    time.Time // when Redis was asked, or has said that it has done it
	again bool      // it was asked twice
	came  bool      // or is not wanted any more
	ask   func()
}

// marker is a token that is to come back, and what is to be done then.
type marker struct {
	*awaited
	then func(e *envelope)
}

// trouble is a topic that Redis holds something foreign for, and when to try again.
type trouble struct {
	topic string
	at    time.Time
}

// bulkJob is one of very many pieces of work, see later. The commands that run sends are bulk
// work, see call.
type bulkJob struct {
	bucket int
	run    func()
}

// sequence names who counts events: a node, for each bucket apart.
type sequence struct {
	node   uint64
	bucket int
}

// outgoing is an event on its way. Those of a bucket are sent in the order of their
// numbers.
type outgoing struct {
	topic     string
	payload   string
	bucket    int
	except    uint64
	remember  bool
	number    uint64
	at        time.Time // of publishing
	sent      time.Time
	again     bool // it was sent before
	delivered bool // here
	echoes    bool // it comes back, because this node was subscribed when it was sent
	echoed    bool // and has done so
	accepted  bool // by Redis, or given up
	finished  bool
	done      func(error) // nil: nobody asks
}

// settled says that nothing more is to come.
func (o *outgoing) settled() bool { return o.accepted && (o.echoed || !o.echoes) }

type topicState uint8

const (
	topicDetached    topicState = iota // Redis is away or has not been told
	topicSubscribing                   // SUBSCRIBE is sent
	topicSyncing                       // subscribed; the snapshot is to come
	topicAlone                         // subscribed; Redis holds something foreign under its name
	topicActive
)

// topic is a channel of an app in which this node has members.
type topic struct {
	name, channel string
	bucket        int
	cache         bool
	state         topicState
	subscriptions int
	dirty         bool // subscriptions is not what Redis was told
	counted       bool // in node.syncing
	users         map[string]*topicUser
	view          map[string]member // who the members here think is there; presence only
	missing       map[string]bool   // of them, those whose node may yet come back; see goLive
	order         int               // of the member that came last
	waiting       []waiter
	behind        []waiter  // for a marker, by token
	kept          *outgoing // the last event to be remembered, as long as Redis does not have it
}

// topicUser is a user of this node.
type topicUser struct {
	info          string
	subscriptions int
	told          bool // Redis has been told, or is being told
	present       bool // and has confirmed
	waiting       []func()
}

// waiter is a subscription that waits for its topic.
type waiter struct {
	user  string
	ready func()
	late  bool   // it came when the snapshot had been asked for
	token uint64 // of the marker that it waits for
}

// New makes a node. It does nothing before Start.
func New(o Options, d Dialer, r Replica, log *slog.Logger) *Node {
	random := o.Random
	if random == nil {
		var seed [32]byte
		crand.Read(seed[:]) // never fails
		random = rand.New(rand.NewChaCha8(seed))
	}
	n := &Node{
		number: random.Uint64(), prefix: o.Prefix, scripts: scripts.New(o.Sharded), patience: o.Patience,
		recent: recentTime, keep: maxRecent, dialer: d, replica: r, log: log, random: random,
		up: make(chan Link), wake: make(chan struct{}, 1), buckets: []bucket{{base: o.Prefix + ":"}},
		topics: map[string]*topic{}, byChannel: map[string]*topic{}, subscribing: map[string][]*awaited{}, unsubscribing: map[string]int{}, apps: map[string]bool{}, countsDirty: map[string]bool{},
		markers: map[uint64]marker{}, troubled: map[string]bool{}, seen: map[sequence]uint64{}, peers: map[string]bool{}, back: map[string]bool{}, burying: map[string]bool{},
	}
	if o.Failover || o.Sharded {
		n.recent = recentTimeMany
	}
	if o.Sharded {
		n.keep = maxRecentMany
		n.buckets = make([]bucket, buckets)
		for i, tag := range BucketTags() {
			n.buckets[i].base = o.Prefix + tag + ":"
		}
	}
	return n
}

// bucketOf is the bucket of a topic.
func (n *Node) bucketOf(topic string) int { return int(resp.CRC16(topic)) % len(n.buckets) }

// inOrder lists the keys of a map in an order that is the same each time.
func inOrder[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// key is a name in a bucket.
func (n *Node) key(bucket int, parts ...string) string {
	return n.buckets[bucket].base + strings.Join(parts, ":")
}

// topicKeys are the keys of a topic as luaTopic wants them, for incarnation id.
func (n *Node) topicKeys(topic, id string) []string {
	b := n.bucketOf(topic)
	t := n.key(b, topic)
	return []string{t + ":nodes", t + ":users:" + id, t + ":count", t + ":members", t + ":order", t + ":cached", n.key(b, "node", id, "topics"), n.key(b, "node", id, "dead")}
}

// processOf is what the incarnations of one process have in common.
func processOf(id string) string {
	process, _, _ := strings.Cut(id, "-")
	return process
}

// Behind says that Redis, or this node, is so far behind that nothing more should be
// published until it has caught up.
func (n *Node) Behind() bool {
	return n.inflight.Load() > maxInflight || n.unsent.Load() > maxInflight || n.waiting.Load() > maxInbox
}

func (n *Node) runInbox() {
	n.mu.Lock()
	work := n.inbox
	n.inbox = nil
	n.waiting.Store(0)
	n.mu.Unlock()
	for _, f := range work {
		f()
	}
}

// begin begins a turn. All that is decided in it goes by this time.
func (n *Node) begin(now time.Time) { n.now = now }

// endTurn does the work that was handed over, and hands what the turn has written to the
// link. It takes note of the end of a session.
func (n *Node) endTurn() {
	n.runInbox()
	if n.link == nil {
		return
	}
	n.tellCounts()
	n.pump()
	n.askMarkers()
	unsent := 0
	for _, m := range n.masters {
		commands, subscriptions := n.link.Waiting(m.index)
		unsent += commands
		if unsent > maxLinkBytes || subscriptions > maxLinkBytes {
			n.link.Fail(errors.New("Redis takes commands too slowly"))
		}
	}
	n.link.Flush()
	n.unsent.Store(int64(unsent))
	if n.over() {
		n.handleDown()
	}
}

// over says that the session has ended, and that nobody has taken note of it yet.
func (n *Node) over() bool { return n.link.Err() != nil }

// later puts off work about a bucket until Redis has room: what is said of each topic
// would else fill the links, and keep everybody waiting, where there are very many.
// Where Redis is away, or goes away meanwhile, run is called at once. The commands that run
// sends say that they are bulk work.
func (n *Node) later(bucket int, run func()) {
	if n.link == nil {
		run()
		return
	}
	n.bulk = append(n.bulk, bulkJob{bucket, run})
}

// pump does what was put off, events and work in turn, as far as there is room.
func (n *Node) pump() {
	for more := true; more; {
		more = false
		events := n.Counters.Live.Load() && len(n.backlog) > 0
		if events && n.linkFree(n.backlog[0].bucket) {
			if o := n.takeOldest(); n.now.Sub(o.at) > n.patience {
				n.giveUp(o)
			} else {
				n.send(o)
			}
			more = true
		}
		if len(n.bulk) > 0 && n.room(n.bulk[0].bucket) && !(n.stopping && events) { // who stops loses no event
			run := n.bulk[0].run
			n.bulk[0] = bulkJob{}
			if n.bulk = n.bulk[1:]; len(n.bulk) == 0 {
				n.bulk = nil
			}
			run()
			more = true
		}
	}
}

// room says that there is room for bulk work about a bucket. However many events there
// are, some of it goes on.
func (n *Node) room(bucket int) bool {
	bulk := n.byBucket[bucket].bulk
	return len(n.subscribing) < bulkCommands && (bulk < bulkLeast || bulk < bulkCommands && n.linkFree(bucket))
}

// linkFree says that little waits to be written on the link for a bucket's commands.
func (n *Node) linkFree(bucket int) bool {
	waiting, _ := n.link.Waiting(n.byBucket[bucket].index)
	return waiting < bulkBytes
}

// call is a command that is to be sent.
type call struct {
	bucket int                     // which it is about
	bulk   bool                    // it is bulk work, see later
	done   func(resp.Reply, error) // gets the reply; nil: nobody asks
}

// command sends a command. Where Redis is away, done is told at once.
func (n *Node) command(c call, args ...string) {
	if n.link == nil {
		if c.done != nil {
			c.done(resp.Reply{}, errAway)
		}
		return
	}
	n.commandOn(n.byBucket[c.bucket], c, args...)
}

// commandOn sends a command to one master, whatever its bucket.
func (n *Node) commandOn(m *master, c call, args ...string) {
	if len(m.sent) == 0 {
		m.replied = n.now
	}
	done := c.done
	if c.bulk {
		m.bulk++
		done = func(r resp.Reply, err error) {
			m.bulk--
			if c.done != nil {
				c.done(r, err)
			}
		}
	}
	m.sent = append(m.sent, done)
	n.link.Command(m.index, args...)
}

// eval runs a script. One that fails leaves this node out of step, and the session is
// begun anew; one that fails on the keys of a topic leaves out of step that topic alone,
// and done sees to it.
func (n *Node) eval(c call, s *scripts.Script, keys []string, args ...string) {
	all := append(append([]string{"EVALSHA", s.SHA, strconv.Itoa(len(keys))}, keys...), args...)
	done := c.done
	c.done = func(r resp.Reply, err error) {
		if err == nil {
			err = r.Err()
			switch {
			case err == nil, s.OfTopic && foreign(err):
			case foreign(err):
				n.link.Fail(fmt.Errorf("script %s: %w; %s", s.Name, err, foreignHint))
			default:
				n.link.Fail(fmt.Errorf("script %s: %w", s.Name, err))
			}
		}
		if done != nil {
			done(r, err)
		}
	}
	n.command(c, all...)
}

// foreign says that a script has failed on what somebody else has written under the name
// of a key: something of another type, or of the same type with another meaning.
func foreign(err error) bool {
	var e resp.ReplyError
	if !errors.As(err, &e) {
		return false
	}
	return strings.Contains(string(e), "WRONGTYPE") || strings.Contains(string(e), "is not an integer") || strings.Contains(string(e), "would overflow")
}

// foreignHint says what to do about a foreign key.
const foreignHint = "delete the key, or set REVERB_SCALING_CHANNEL to a name that nothing else uses"

// subscribeTo and unsubscribeFrom tell Redis what this node wants to hear.
func (n *Node) subscribeTo(bucket int, channel string) {
	a := new(awaited)
	a.ask = func() {
		if a.again && n.byChannel[channel] == nil && !n.own[channel] && channel != n.key(0, "all") {
			n.unexpect(channel, a) // nobody here is in the topic any more
			return
		}
		n.subscription(bucket, "SUBSCRIBE", channel)
		n.expect(a)
	}
	n.subscribing[channel] = append(n.subscribing[channel], a)
	a.ask()
}

// unexpect takes back that a confirmation is to come.
func (n *Node) unexpect(channel string, a *awaited) {
	a.came = true
	left := slices.DeleteFunc(n.subscribing[channel], func(b *awaited) bool { return a == b })
	if n.subscribing[channel] = left; len(left) == 0 {
		delete(n.subscribing, channel)
	}
}

func (n *Node) unsubscribeFrom(bucket int, channel string) {
	n.unsubscribing[channel]++
	n.subscription(bucket, "UNSUBSCRIBE", channel)
}

func (n *Node) subscription(bucket int, verb, channel string) {
	n.link.Subscription(n.byBucket[bucket].index, n.sharded(verb), channel)
}

// sharded is a command of publish and subscribe, in a Redis Cluster its sharded form.
func (n *Node) sharded(verb string) string {
	if len(n.buckets) > 1 {
		return "S" + verb
	}
	return verb
}
