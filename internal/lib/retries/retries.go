// Package retries makes a request that names itself with a key take effect once, however often it
// is sent. The first request with a key claims it. A later request with the same key gets the
// answer of the first, or learns that the first is still in progress, or that the key stands for
// another request.
//
// Table has the claims of this process, for each app apart. Begin claims a key and End says what
// has become of the request. A request that has failed frees its key, so that its retry is
// a first request again. What an app may hold is bounded; its oldest claims with an answer go
// first. So no app costs another one a claim.
//
// The nodes of a cluster share claims in Redis. A Step is what a claim says there, see
// internal/envelopes/scripts/claim.lua, and reads what Redis answers. The value of a key in Redis:
//
//	fingerprint(32) owner(16) state
//
// fingerprint tells requests apart, and owner claims: a command that is sent twice finds its own
// claim. state is "p" while the request is in progress, and "d" with the answer behind it when the
// request is done. An answer that is too long to be kept is missing there.
//
// A request for one channel has one key in Redis, beside the channel's keys. Its claim is made in
// the script that publishes the event. A request for several channels is claimed first, and then
// each channel has a key of its own, on which its publish is noted. If the node dies in between,
// another request takes over the claim after leaseTime, and publishes what is missing.
//
// The package knows no HTTP and no Redis. Time is a parameter. Any goroutine may call everything.
package retries

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"reverb/internal/lib/recordlog"
)

const (
	// maxClaims bounds the claims of one app. Larger: more memory. Smaller: an app with many
	// requests keeps its answers for a shorter time.
	maxClaims = 65_536
	// maxBytes bounds what the claims of one app take, each counted with its answer and claimCost.
	// Larger: more memory. Smaller: long answers are kept for a shorter time.
	maxBytes = 16 << 20
	// maxAnswer bounds an answer that is kept. Larger: few answers fill maxBytes. Smaller: more
	// answers are not kept, and made again for a retry.
	maxAnswer = 4 << 10
	// claimCost is what a claim takes without its answer: the entry, and its place in the map.
	claimCost = 192
	// expiredAtOnce bounds the claims that one Begin drops because their time is over. A Begin adds
	// one claim, so 2 are enough to catch up. Larger: a request may wait longer. Smaller: claims
	// stay longer than they should.
	expiredAtOnce = 2
	// sweptAtOnce bounds the claims that one sweep drops while it holds the lock. Larger: requests
	// wait longer for the lock. Smaller: more sweeps.
	sweptAtOnce = 1024
	// sweepPause is the time between two sweeps while more claims are due. Larger: claims stay
	// longer than they should. Smaller: sweeps keep a processor busy.
	sweepPause = 10 * time.Millisecond
)

// Errors of requests that must not take effect.
var (
	ErrOther = errors.New("the key stands for another request")
	ErrBusy  = errors.New("the request with this key is in progress")
	ErrFull  = errors.New("too many requests with keys are in progress")
)

// Request is a request with a key.
type Request struct {
	App      string // its ID
	Key      string
	Path     string
	Body     []byte
	Channels int    // to how many channels it publishes
	Channel  string // the only channel, if Channels is 1
	// PerChannel says that a key of a request for one channel counts for this channel alone.
	PerChannel bool
}

// name is what a claim is found by: the SHA-256 of the key, and of the channel if the key counts
// for it alone.
func (r *Request) name() [sha256.Size]byte {
	if r.PerChannel && r.Channels == 1 {
		return sha256.Sum256([]byte(r.Key + "\x00" + r.Channel))
	}
	return sha256.Sum256([]byte(r.Key))
}

// fingerprint is the SHA-256 of path and body.
func (r *Request) fingerprint() (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(r.Path + "\x00"))
	h.Write(r.Body)
	h.Sum(sum[:0])
	return sum
}

// Answer is the answer of a request that is done.
type Answer struct {
	Body string
	Long bool // Body was too long and is not kept
}

// newAnswer keeps an answer, unless it is too long.
func newAnswer(body string) Answer {
	if len(body) > maxAnswer {
		return Answer{Long: true}
	}
	return Answer{Body: body}
}

// Figures tell of the claims of an app.
type Figures struct {
	Claims   int    // that are held now
	Bytes    int    // that they take
	Repeated uint64 // requests that got the answer of an earlier one
	Dropped  uint64 // claims that had to go before their time
}

// Table has the claims of this process.
type Table struct {
	// constant after New
	after   func(d time.Duration, sweep func(now time.Time))
	process uint64 // no other process of the cluster has it

	mu    sync.Mutex
	begun uint64 // claims
	apps  map[string]*app
	armed bool // a sweep is to come
}

// app has the claims of one app. The table's mu guards it.
type app struct {
	claims map[[sha256.Size]byte]*entry // nil: there are none
	oldest *entry                       // of the claims with an answer, and those that have expired
	newest *entry
	bytes  int

	repeated, dropped uint64
}

// entry is one claim in the table.
type entry struct {
	name, fingerprint [sha256.Size]byte

	done   bool
	until  int64 // Unix time in nanoseconds; from then on the claim counts no more
	answer Answer
	next   *entry // that was done after it
}

// New makes an empty table. process is a random number that tells this process from others. after
// calls sweep after a time, with the time of then: the table drops what nobody has asked for.
func New(process uint64, after func(d time.Duration, sweep func(now time.Time))) *Table {
	return &Table{process: process, after: after, apps: map[string]*app{}}
}

// Begin claims the key of a request. The answer is kept for keep. If an earlier request has the
// claim, c is nil, and earlier is its answer, or err is ErrOther or ErrBusy. err is ErrFull if
// there is no room. Each Claim needs an End.
func (t *Table) Begin(r Request, keep time.Duration, now time.Time) (c *Claim, earlier *Answer,
	err error) {
	name, fingerprint := r.name(), r.fingerprint()
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.apps[r.App]
	if a == nil {
		a = &app{}
		t.apps[r.App] = a
	}
	a.expire(now, expiredAtOnce)
	if e := a.claims[name]; e != nil && !(e.done && e.until <= now.UnixNano()) {
		switch {
		case e.fingerprint != fingerprint:
			return nil, nil, ErrOther
		case !e.done:
			return nil, nil, ErrBusy
		}
		a.repeated++
		answer := e.answer
		return nil, &answer, nil
	} else if e != nil {
		a.forget(e) // it stays in the list until it is the oldest
	}
	if len(a.claims) >= maxClaims && !a.drop() {
		return nil, nil, ErrFull
	}
	e := &entry{name: name, fingerprint: fingerprint}
	if a.claims == nil {
		a.claims = map[[sha256.Size]byte]*entry{}
	}
	a.claims[name] = e
	a.bytes += claimCost
	t.arm(keep)
	c = &Claim{entry: e, app: r.App, keep: keep, channels: r.Channels, channel: r.Channel}
	t.begun++
	binary.BigEndian.PutUint64(c.owner[:8], t.process)
	binary.BigEndian.PutUint64(c.owner[8:], t.begun)
	return c, nil, nil
}

// End says what has become of the request of c. If it has failed, its key is free. Otherwise a
// retry gets the answer that c has learned, see Claim.Settle.
func (t *Table) End(c *Claim, failed bool, now time.Time) {
	answer, stored := c.outcome()
	t.mu.Lock()
	defer t.mu.Unlock()
	a, e := t.apps[c.app], c.entry
	if failed {
		a.forget(e)
		return
	}
	if stored {
		a.repeated++
	}
	e.done, e.answer, e.until = true, answer, now.Add(c.keep).UnixNano()
	a.bytes += len(answer.Body)
	a.push(e)
	for a.bytes > maxBytes && a.drop() {
		continue
	}
}

// Figures tell of the claims of an app.
func (t *Table) Figures(of string) Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.apps[of]
	if a == nil {
		return Figures{}
	}
	return Figures{Claims: len(a.claims), Bytes: a.bytes, Repeated: a.repeated, Dropped: a.dropped}
}

// recordBytes is about the size of a record of State. Larger: the other process takes more memory
// at once. Smaller: more records.
const recordBytes = 256 << 10

// State has the claims with an answer and what was counted, for SetState in another process, in
// records. No request is in progress.
func (t *Table) State() (records [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b []byte
	for id, a := range t.apps {
		e, repeated, dropped := a.oldest, a.repeated, a.dropped
		for begins := true; begins || e != nil; begins = false {
			b = binary.AppendUvarint(recordlog.AppendField(b, id), repeated)
			b = binary.AppendUvarint(b, dropped)
			repeated, dropped = 0, 0 // in further records of this app
			n, claims, rest := a.some(e, recordBytes-len(b))
			b = append(binary.AppendUvarint(b, uint64(n)), claims...)
			e = rest
			if len(b) >= recordBytes {
				records, b = append(records, b), nil
			}
		}
	}
	if len(b) > 0 {
		records = append(records, b)
	}
	return records
}

// some has n claims from e on, of about so many bytes. rest is where others begin; nil: there are
// none.
func (a *app) some(e *entry, bytes int) (n int, b []byte, rest *entry) {
	for ; e != nil && len(b) < bytes; e = e.next {
		if a.claims[e.name] != e {
			continue // it was forgotten, and stays for its turn
		}
		b = append(append(b, e.name[:]...), e.fingerprint[:]...)
		b = binary.AppendUvarint(b, uint64(e.until))
		long := uint64(0)
		if e.answer.Long {
			long = 1
		}
		b = recordlog.AppendField(binary.AppendUvarint(b, long), e.answer.Body)
		n++
	}
	return n, b, e
}

// SetState takes a record of State over. ok is false if it makes no sense.
func (t *Table) SetState(b []byte) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := recordlog.Fields{B: b}
	for len(f.B) > 0 {
		id := f.Text()
		a := t.apps[id]
		if a == nil {
			a = &app{}
			t.apps[id] = a
		}
		a.repeated, a.dropped = a.repeated+f.Number(), a.dropped+f.Number()
		for n := f.Number(); n > 0 && !f.Bad; n-- {
			e := &entry{done: true}
			copy(e.name[:], f.Bytes(sha256.Size))
			copy(e.fingerprint[:], f.Bytes(sha256.Size))
			e.until = int64(f.Number())
			e.answer = Answer{Long: f.Number() != 0, Body: f.Text()}
			if len(e.answer.Body) > maxAnswer || len(a.claims) >= maxClaims ||
				a.claims[e.name] != nil {
				f.Fail()
			}
			if a.claims == nil {
				a.claims = map[[sha256.Size]byte]*entry{}
			}
			a.claims[e.name] = e
			a.bytes += claimCost + len(e.answer.Body)
			a.push(e)
		}
		for a.bytes > maxBytes && a.drop() {
			continue
		}
		t.arm(sweepPause)
	}
	return !f.Bad
}

// push puts an entry with an answer at the end of the list.
func (a *app) push(e *entry) {
	if a.newest == nil {
		a.oldest = e
	} else {
		a.newest.next = e
	}
	a.newest = e
}

// arm sees to it that a sweep comes.
func (t *Table) arm(d time.Duration) {
	if !t.armed {
		t.armed = true
		t.after(d, t.sweep)
	}
}

// sweep drops claims whose time is over.
func (t *Table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = false
	left, next := sweptAtOnce, int64(0)
	for _, a := range t.apps {
		left -= a.expire(now, left)
		switch {
		case a.oldest != nil && (next == 0 || a.oldest.until < next):
			next = a.oldest.until
		case len(a.claims) > 0 && next == 0:
			next = now.Add(time.Second).UnixNano() // requests in progress
		}
	}
	if next != 0 {
		t.arm(max(time.Duration(next-now.UnixNano()), sweepPause))
	}
}

// expire drops up to most claims whose time is over, and returns how many it has looked at.
func (a *app) expire(now time.Time, most int) (count int) {
	for ; count < most && a.oldest != nil && a.oldest.until <= now.UnixNano(); count++ {
		a.forget(a.shift())
	}
	return count
}

// drop makes room: the oldest claim with an answer goes. It returns false if there is none.
func (a *app) drop() bool {
	for a.oldest != nil {
		if e := a.shift(); a.forget(e) {
			a.dropped++
			return true
		}
	}
	return false
}

// shift takes the oldest entry off the list.
func (a *app) shift() (e *entry) {
	e = a.oldest
	if a.oldest = e.next; a.oldest == nil {
		a.newest = nil
	}
	e.next = nil
	return e
}

// forget takes a claim out of the map. It returns false if the claim was not there any more.
func (a *app) forget(e *entry) bool {
	if a.claims[e.name] != e {
		return false
	}
	a.bytes -= claimCost + len(e.answer.Body)
	if delete(a.claims, e.name); len(a.claims) == 0 {
		a.claims = nil // an empty map would keep its memory
	}
	return true
}
