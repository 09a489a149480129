package cluster

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
	"reverb/internal/envelopes/legacy"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/asked"
	"reverb/internal/lib/driver"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/turns"
)

const (
	// replyLimit bounds how long Redis may owe an answer before the session is given up. Larger:
	// events wait longer on a dead link. Smaller: one slow command in Redis ends good sessions.
	replyLimit = 3 * time.Second
	// maxLinkBytes bounds what Redis has not taken from all links together; with more the session
	// is given up. Larger: more memory while Redis is slow. Smaller: a burst ends the session.
	maxLinkBytes = 64 << 20
	// maxBacklog bounds the bytes of events that wait for Redis to come back; the oldest are lost
	// first. Larger: more memory. Smaller: the others miss more of a long absence.
	maxBacklog = 64 << 20
	// maxInflight bounds the bytes of events on their way to Redis before Behind tells publishers
	// to wait. Larger: more memory, and later answers. Smaller: publishers wait without need.
	maxInflight = 16 << 20
	// maxInbox bounds the calls that wait for the goroutine before Behind tells publishers to wait.
	// Larger: more memory, and later answers. Smaller: publishers wait without need.
	maxInbox = 1 << 16
	// maxNewTopics bounds the new topics that wait until Redis keeps up before Crowded says so.
	// Larger: more memory, and members come in later. Smaller: clients are held without need.
	maxNewTopics = 1 << 12
	// bulkCommands bounds the commands of bulk work that wait for their replies, and the answers
	// that are to come before new topics wait. Larger: an event waits longer behind them. Smaller:
	// a node with many topics comes into step later.
	bulkCommands = 512
	// bulkLeast is how many commands of bulk work may wait for replies when events fill the link.
	// Larger: events are slower. Smaller: bulk work comes to a standstill under load.
	bulkLeast = 32
	// bulkBytes is how full a link may be before bulk work and the backlog wait. Larger: an event
	// waits longer behind them. Smaller: the link runs dry between two turns.
	bulkBytes = 1 << 20
)

// errAway answers a question that only Redis can answer while Redis is away.
var errAway = errors.New("Redis is not reachable")

// Node is this process as a part of the cluster. One goroutine owns all that changes; others hand
// it work with post. Any goroutine may call the exported methods.
type Node struct {
	// Constant after New and Inherit.
	number   uint64 // of this process
	prefix   string // of all names
	scripts  *scripts.Set
	patience time.Duration // see Options
	recent   time.Duration // see known.RecentTime
	keep     int           // see known.MaxRecent
	large    int           // see lingerUsers
	atOnce   int           // bulkCommands; less in tests
	dialer   Dialer
	replica  Replica
	told     func(from, text string) // see Options
	outbox   Outbox                  // see Options
	log      *slog.Logger
	driver   *driver.Driver[Link, Batch]

	Counters legacy.Counters // any goroutine may read them

	// Owned by the goroutine that connects.
	random *rand.Rand

	// Owned by the goroutine that drives the node.
	session
	now          time.Time // the beginning of the turn
	buckets      []bucket
	topics       map[string]*known.Topic
	id           string   // the current incarnation, or the last one
	incarnations uint64   // how many there have been
	former       []string // incarnations that are not buried yet
	// when the session began; before the first, when the node started
	upAt        time.Time
	redisTime   int64           // Redis' clock in milliseconds, when it last renewed the lease
	apps        map[string]bool // apps that have had connections here
	countsDirty map[string]bool // those of them whose number Redis does not know
	seen        envelopes.Seen  // the other nodes' events
	tokens      uint64          // the token that was given out last
	backlog     []*known.Event  // events that wait for Redis to come back, or for room
	backlogSize int             // the bytes of their payloads
	bulk        []bulkJob       // waits for room
	peers       map[string]bool // processes that were ready when this node last was live
	held        time.Time       // when the replica last took no more pushes
	turned      time.Time       // when the recent events of the buckets were last turned
	strangers   bool            // Laravel Reverb was seen, and the log says so
	starting    bool            // new members wait for the first session, see startPatience
	stopping    bool
	standing    bool // it stands still, or is about to
	// heirs has, between Inherit and Start, how many members Redis knows in each topic; then nil
	heirs    map[*known.Topic]int32
	toldWhy  string    // the reason that the log last gave for the end of a session
	toldAway time.Time // when the log gave it
	flapping bool      // the last session ended for that reason soon after; the log is silent

	inflight  atomic.Int64 // bytes of events that Redis has not accepted
	unsent    atomic.Int64 // bytes that wait on the links for commands
	newTopics atomic.Int64 // the length of joining
}

// session is what a node knows only as long as its session with Redis lasts.
type session struct {
	link       Link              // nil: Redis is away
	masters    []*master         // of link
	byBucket   []*master         // the master that has each bucket
	own        map[string]bool   // the channels of this incarnation alone
	registered bool              // Redis has granted the lease
	upAtRedis  int64             // Redis' clock in milliseconds, when it granted the lease
	renewed    time.Time         // when the lease was last asked to be renewed
	back       map[string]bool   // other processes that have been ready during this session
	syncing    int               // topics from before the session that are not in step yet
	markers    map[uint64]marker // by token
	// the confirmations to come, and the number of those to come, by channel
	subscribing   asked.Named
	unsubscribing map[string]int
	// awaited are the answers that Redis sends on the connections for subscriptions: confirmations
	// and markers. If one does not come, Redis is asked again. If it does not come then, the
	// session is given up. The time of an answer begins when Redis is asked, or has replied to the
	// command that asks.
	awaited   asked.Queue
	asking    []int                     // buckets for which this turn asks for a marker
	telling   []*known.Topic            // what has subscriptions that Redis does not know
	joining   turns.Named[*known.Topic] // new topics, by app; Redis does not know them yet
	burying   map[string]bool           // dead incarnations
	troubles  []trouble                 // topics that are tried again, the next one first
	lingering []lingerer                // topics without members here, the oldest first
	// troubled has the topics for which Redis holds a foreign key. The value is false while a
	// topic is being tried again.
	troubled map[string]bool
}

// newSession makes the state for a session, or, when link is nil, for the time without one.
func newSession(link Link) session {
	return session{
		link: link, own: map[string]bool{}, back: map[string]bool{}, burying: map[string]bool{},
		unsubscribing: map[string]int{},
		markers:       map[uint64]marker{}, troubled: map[string]bool{},
	}
}

// master is what a node knows of one master of its session.
type master struct {
	index   int       // in Link
	sent    []call    // the commands whose replies are to come
	bulk    int       // how many of them are bulk work
	replied time.Time // the last reply, or the first command without one
	heard   time.Time // the last bytes on the connection for subscriptions
}

// bucket is a group of topics that are on one master.
type bucket struct {
	base       string         // the beginning of the names of its keys
	own        string         // the channel of this incarnation
	numbers    uint64         // how many events this node has published on its topics
	known.Line                // its events
	token      uint64         // of the marker that this turn asks for; 0: it asks for none
	joining    []*known.Topic // the topics whose new members wait for that marker
}

// marker is a token that is to come back, and what happens then.
type marker struct {
	*asked.Question
	then func(e *envelopes.Envelope)
}

// trouble is a topic for which Redis holds a foreign key, and the time of the next try.
type trouble struct {
	topic string
	at    time.Time
}

// bulkJob is one of very many pieces of work, see later.
type bulkJob struct {
	bucket int
	run    func()
}

// topicOn is the topic whose channel in Redis this is; nil: there is none.
func (n *Node) topicOn(channel string) *known.Topic {
	name, _ := strings.CutPrefix(channel, n.prefix+":")
	if len(n.buckets) > 1 {
		_, name, _ = strings.Cut(name, "}:")
	}
	return n.topics[name]
}

// New makes a node. The node does nothing before Start.
func New(o Options, d Dialer, r Replica, log *slog.Logger) *Node {
	random := o.Random
	if random == nil {
		var seed [32]byte
		crand.Read(seed[:]) // never fails
		random = rand.New(rand.NewChaCha8(seed))
	}
	n := &Node{
		number: random.Uint64(), prefix: o.Prefix, scripts: scripts.New(o.Sharded, o.Outbox != nil),
		patience: o.Patience, recent: known.RecentTime, keep: known.MaxRecent,
		atOnce: bulkCommands, large: lingerUsers,
		dialer: d, replica: r, told: o.Told, outbox: o.Outbox, log: log, random: random,
		session: newSession(nil), buckets: []bucket{{base: o.Prefix + ":"}},
		topics: map[string]*known.Topic{}, peers: map[string]bool{},
		apps: map[string]bool{}, countsDirty: map[string]bool{},
	}
	n.driver = driver.New[Link, Batch](machine{n})
	if o.Failover || o.Sharded {
		n.recent = known.RecentTimeMany
	}
	if o.Sharded {
		n.keep = known.MaxRecentMany
		n.buckets = make([]bucket, len(envelopes.BucketTags()))
		for i, tag := range envelopes.BucketTags() {
			n.buckets[i].base = o.Prefix + tag + ":"
		}
	}
	return n
}

// bucketOf is the bucket of a topic.
func (n *Node) bucketOf(topic string) int { return int(resp.CRC16(topic)) % len(n.buckets) }

// take removes the first element of a queue and returns it. An empty queue keeps no memory.
func take[T any](queue *[]T) (first T) {
	q := *queue
	first, q[0] = q[0], first
	if *queue = q[1:]; len(q) == 1 {
		*queue = nil
	}
	return first
}

// key is a name in a bucket.
func (n *Node) key(bucket int, parts ...string) string {
	return n.buckets[bucket].base + strings.Join(parts, ":")
}

// Crowded says that so much waits for this node that clients should not ask for more places.
func (n *Node) Crowded() bool {
	return n.newTopics.Load() > maxNewTopics || n.driver.Waiting() > maxInbox/16
}

// Behind says that Redis or this node is so far behind that publishers should wait.
func (n *Node) Behind() bool {
	return n.inflight.Load() > maxInflight || n.unsent.Load() > maxInflight ||
		n.driver.Waiting() > maxInbox
}

// begin begins a turn. All decisions of the turn use this time.
func (n *Node) begin(now time.Time) { n.now = now }

// endTurn does the work that was handed over, gives the link what the turn has written, and
// notices the end of a session.
func (n *Node) endTurn() {
	n.driver.Work()
	if n.link == nil {
		return
	}
	n.tellCounts()
	n.pump()
	n.subscribeNext()
	n.askMarkers()
	n.sendSubscriptions()
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

// over says that the session has ended and that handleDown was not called yet.
func (n *Node) over() bool { return n.link.Err() != nil }

// later puts off work about a bucket until Redis has room. Without later, a node with very many
// topics would fill its links and keep everybody waiting. While Redis is away, and when Redis goes
// away, run is called at once. The commands that run sends say that they are bulk work.
func (n *Node) later(bucket int, run func()) {
	if n.link == nil {
		run()
		return
	}
	n.bulk = append(n.bulk, bulkJob{bucket, run})
}

// pump sends the backlog and does the work that was put off, in turn, as far as there is room.
func (n *Node) pump() {
	for more := true; more; {
		more = false
		events := n.Counters.Live.Load() && len(n.backlog) > 0
		if events && n.linkFree(n.backlog[0].Bucket) {
			if o := n.takeOldest(); n.now.Sub(o.At) > n.patience {
				n.giveUp(o)
			} else {
				n.send(o)
			}
			more = true
		}
		wait := n.stopping && events // a node that stops loses no event
		if len(n.bulk) > 0 && n.room(n.bulk[0].bucket) && !wait {
			take(&n.bulk).run()
			more = true
		}
	}
}

// room says that there is room for bulk work about a bucket. Some bulk work goes on however many
// events there are.
func (n *Node) room(bucket int) bool {
	if n.subscribing.Len() >= bulkCommands {
		return false
	}
	bulk := n.byBucket[bucket].bulk
	return bulk < bulkLeast || bulk < bulkCommands && n.linkFree(bucket)
}

// linkFree says that little waits to be written on the link for a bucket's commands.
func (n *Node) linkFree(bucket int) bool {
	waiting, _ := n.link.Waiting(n.byBucket[bucket].index)
	return waiting < bulkBytes
}

// call says how a command is sent.
type call struct {
	bucket int                     // the bucket that the command is about
	bulk   bool                    // the command is bulk work, see later
	gone   bool                    // what leaves has vanished, or may have
	done   func(resp.Reply, error) // gets the reply, or errAway; nil: nobody asks
}

// finish tells what has become of a command.
func (c call) finish(r resp.Reply, err error) {
	if c.done != nil {
		c.done(r, err)
	}
}

// command sends a command. While Redis is away, done gets errAway at once.
func (n *Node) command(c call, args ...string) {
	if n.link == nil {
		c.finish(resp.Reply{}, errAway)
		return
	}
	n.commandOn(n.byBucket[c.bucket], c, args...)
}

// commandOn sends a command to one master, whatever the bucket.
func (n *Node) commandOn(m *master, c call, args ...string) {
	if len(m.sent) == 0 {
		m.replied = n.now
	}
	if c.bulk {
		m.bulk++
	}
	m.sent = append(m.sent, c)
	n.link.Command(m.index, args...)
}

// publish sends an envelope to all nodes that hear a channel.
func (n *Node) publish(c call, channel, envelope string) {
	n.command(c, n.scripts.Verb("PUBLISH"), channel, envelope)
}

// eval runs a script. An error leaves this node out of step, so eval ends the session. A foreign
// key of a topic leaves only that topic out of step: then done has to act.
func (n *Node) eval(c call, s *scripts.Script, keys []string, args ...string) {
	all := append(append([]string{"EVALSHA", s.SHA, strconv.Itoa(len(keys))}, keys...), args...)
	n.command(call{bucket: c.bucket, bulk: c.bulk, done: func(r resp.Reply, err error) {
		switch e := r.Err(); {
		case e == nil, s.OfTopic && resp.Foreign(e):
		case resp.Foreign(e):
			n.link.Fail(fmt.Errorf("script %s: %w; %s", s.Name, e, foreignHint))
		default:
			n.link.Fail(fmt.Errorf("script %s: %w", s.Name, e))
		}
		c.finish(r, r.Outcome(err))
	}}, all...)
}

// foreignHint says what to do about a foreign key.
const foreignHint = "delete the key, or set REVERB_SCALING_CHANNEL to a name that nothing else uses"

// subscribeTo asks Redis for what is published on a channel.
func (n *Node) subscribeTo(bucket int, channel string) {
	a := new(asked.Question)
	a.Ask = func() {
		if a.Again && n.topicOn(channel) == nil && !n.own[channel] && channel != n.key(0, "all") {
			n.subscribing.Drop(channel, a) // nobody here is in the topic any more
			return
		}
		n.subscription(bucket, "SUBSCRIBE", channel)
		n.awaited.Expect(a, n.now)
	}
	n.subscribing.Add(channel, a)
	a.Ask()
}

func (n *Node) subscription(bucket int, verb, channel string) {
	n.link.Subscription(n.byBucket[bucket].index, n.scripts.Verb(verb), channel)
}
