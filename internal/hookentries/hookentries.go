// Package hookentries has the entries in which package webhooks tells another process what was not
// delivered and what is there, and folds them into what they say together. The file of a spool has
// them, and so has what a process hands over to its successor.
package hookentries

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"

	"reverb/internal/hookevents"
	"reverb/internal/lib/recordlog"
	"reverb/internal/posts"
	"reverb/internal/protocol"
)

// --- Entries ---
//
// A record has entries, which belong together: all of them are there after a crash, or
// none. Each has a kind (a byte), a length and so many bytes:
//
//	came, gone   app, kind (a byte: that of the leaving), channel, user
//	lane         lane, app, hash of the URL (16 bytes), place (see placeOf; may be missing); for a
//	             lane that is there: another URL has taken the place of its URL
//	put          lane, number, time, kind (a byte), channel, user, event, data, socket, count
//	batch        lane, number of the last event, events, ID
//	done         lane, number of the last event: it and all before it are delivered or lost
//	lost         lane, number
//	ended        lane
//	away         app, 1 for what another process has left and 0 for what has gone here, how much
//	             is left of its grace, in milliseconds, kind, channel, user
//	figures      app, place, and the rest as package tallies has it
//
// Files do not have the last two. A number is a uvarint, a text a length and its bytes, a time
// milliseconds since 1970. A lane is the queue of an app and a URL. The URL is not there, since it
// may have a password.
const (
	EntryCame = iota + 1
	EntryGone
	EntryLane
	EntryPut
	EntryBatch
	EntryDone
	EntryLost
	EntryEnded
	EntryAway
	EntryFigures
)

// RecordSize is about the size of a record. Larger: damage of a file costs more. Smaller: more
// headers.
const RecordSize = 64 << 10

// HashSize is how many bytes of the SHA-256 of a URL tell lanes of an app apart. Larger: a larger
// file. Smaller: two URLs could be taken for one.
const HashSize = 16

// HashOf tells the URL of a lane apart from others.
func HashOf(address string) (h [HashSize]byte) {
	sum := sha256.Sum256([]byte(address))
	copy(h[:], sum[:])
	return h
}

// fields reads the parts of an entry.
type fields struct{ recordlog.Fields }

func fieldsOf(b []byte) fields { return fields{recordlog.Fields{B: b}} }

func (f *fields) kind() hookevents.Kind {
	if b := f.Bytes(1); len(b) == 1 && hookevents.Known(b[0]) {
		return hookevents.Kind(b[0])
	}
	f.Fail()
	return 0
}

func (f *fields) name() protocol.Name {
	n, err := protocol.ParseName(f.Text())
	if err != nil {
		f.Fail()
	}
	return n
}

// Entry is an entry of any kind but the last two, before it is bytes. Each kind needs only its
// parts.
type Entry struct {
	Kind   byte
	App    string // of EntryCame and EntryGone
	Lane   uint64
	Hash   [HashSize]byte // of EntryLane
	Place  string         // of EntryLane
	Number uint64         // of the event, or of the last one
	At     time.Time
	Event  hookevents.Event
	Batch  Batch // of EntryBatch
}

// AppendBody appends the body.
func (e *Entry) AppendBody(b []byte) []byte {
	switch e.Kind {
	case EntryCame, EntryGone:
		return appendPresence(recordlog.AppendField(b, e.App), &e.Event)
	case EntryLane:
		b = recordlog.AppendField(binary.AppendUvarint(b, e.Lane), e.App)
		return recordlog.AppendField(append(b, e.Hash[:]...), e.Place)
	case EntryPut:
		return appendPut(b, e)
	case EntryBatch:
		return appendBatch(b, e.Lane, &e.Batch)
	}
	// done, lost, ended
	return binary.AppendUvarint(binary.AppendUvarint(b, e.Lane), e.Number)
}

// appendPresence appends what of an event says what has come or gone.
func appendPresence(b []byte, e *hookevents.Event) []byte {
	b = append(b, byte(e.Kind.Leaving()))
	return recordlog.AppendField(recordlog.AppendField(b, e.Channel.String()), e.User)
}

// appendPut is the body of EntryPut.
func appendPut(b []byte, put *Entry) []byte {
	e := &put.Event
	b = binary.AppendUvarint(binary.AppendUvarint(b, put.Lane), put.Number)
	b = binary.AppendUvarint(b, uint64(put.At.UnixMilli()))
	b = append(b, byte(e.Kind))
	b = recordlog.AppendField(recordlog.AppendField(b, e.Channel.String()), e.User)
	b = recordlog.AppendField(b, e.Event)
	b = recordlog.AppendField(b, e.Data)
	return binary.AppendUvarint(binary.AppendUvarint(b, e.Socket.Number()), uint64(e.Count))
}

// Item is an event that waits.
type Item struct {
	hookevents.Event
	Number uint64 // orders the items of a lane
	At     time.Time
}

// readPut is the reverse of appendPut. The lane was read already.
func readPut(f *fields) (it Item, ok bool) {
	it.Number = f.Number()
	it.At = time.UnixMilli(int64(f.Number()))
	it.Kind, it.Channel, it.User, it.Event.Event = f.kind(), f.name(), f.Text(), f.Text()
	if data := f.Bytes(f.Number()); len(data) > 0 {
		it.Data = bytes.Clone(data)
	}
	it.Socket, it.Count = protocol.SocketIDOf(f.Number()), int(f.Number())
	return it, !f.Bad
}

// Away is something that has gone, and is not told before its grace has passed.
type Away struct {
	App   string
	Event hookevents.Event // that tells it: ChannelVacated or MemberRemoved
	Left  time.Duration    // of the grace
	Past  bool             // it was there when another process ended
}

// mostLeft bounds what is left of a grace. Larger: it does not fit a time. Smaller: a long grace
// ends at an upgrade.
const mostLeft = 30 * 24 * time.Hour

// AppendBody appends the body of EntryAway.
func (a *Away) AppendBody(b []byte) []byte {
	past := uint64(0)
	if a.Past {
		past = 1
	}
	b = binary.AppendUvarint(recordlog.AppendField(b, a.App), past)
	b = binary.AppendUvarint(b, uint64(max(a.Left, 0)/time.Millisecond))
	return appendPresence(b, &a.Event)
}

// ReadAway is the reverse of AppendBody.
func ReadAway(body []byte) (a Away, ok bool) {
	in := fieldsOf(body)
	past := uint64(0)
	a.App, past = in.Text(), in.Number()
	left := in.Number()
	a.Past, a.Left = past == 1, time.Duration(left)*time.Millisecond
	a.Event, ok = leavingOf(string(in.B))
	return a, ok && past <= 1 && left <= uint64(mostLeft/time.Millisecond)
}

// --- What the entries say together ---

// Fold is what the entries until now say. It has, of all that the entries have said, only what is
// needed: what is there, and what was not delivered.
type Fold struct {
	apps  map[string]presence
	lanes map[uint64]*lane
	Last  uint64 // the largest number of a lane until now
	Bad   int    // entries that made no sense
}

// presence is what is there of an app: the ends of EntryCame, from the kind on.
type presence map[string]struct{}

// lane is what was not delivered for a URL.
type lane struct {
	app   string
	hash  [HashSize]byte
	place string
	items []entry // by number
	dead  int     // of them: lost
	last  uint64  // the largest number until now
	batch Batch
}

// Batch is the last one of a lane that was begun; the zero Batch: none is under way.
type Batch struct {
	ID   string
	Last uint64 // the number of its last event
	N    int    // events
}

// entry is an event that waits, as in the file.
type entry struct {
	number uint64
	bytes  []byte // with kind and length; nil: it was lost
}

// NewFold makes a fold of no entries.
func NewFold() Fold { return Fold{apps: map[string]presence{}, lanes: map[uint64]*lane{}} }

// AppendEntry appends a body with its kind and length.
func AppendEntry(b []byte, kind byte, body []byte) []byte {
	return recordlog.AppendField(append(b, kind), body)
}

// Next reads the first entry of a record. whole is the entry with kind and length. ok is false if
// the record makes no sense. Nothing is copied.
func Next(record []byte) (kind byte, body, whole, rest []byte, ok bool) {
	if len(record) == 0 {
		return 0, nil, nil, nil, false
	}
	in := fieldsOf(record[1:])
	body = in.Bytes(in.Number())
	return record[0], body, record[:len(record)-len(in.B)], in.B, !in.Bad
}

// Add reads the entries of a record. It keeps nothing of it.
func (f *Fold) Add(record []byte) {
	for len(record) > 0 {
		kind, body, whole, rest, ok := Next(record)
		if !ok {
			f.Bad++
			return
		}
		f.Apply(kind, body, whole)
		record = rest
	}
}

// Apply changes what is so by an entry; see Next.
func (f *Fold) Apply(kind byte, body, whole []byte) {
	in := fieldsOf(body)
	switch kind {
	case EntryCame, EntryGone:
		f.presence(kind == EntryCame, &in)
	case EntryLane:
		no, app, hash := in.Number(), in.Text(), in.Bytes(HashSize)
		if !in.Bad {
			if f.lanes[no] == nil {
				f.lanes[no] = &lane{}
			}
			l := f.lanes[no]
			l.app, l.hash, l.place = app, [HashSize]byte(hash), ""
			if len(in.B) > 0 {
				l.place = in.Text()
			}
			f.Last = max(f.Last, no)
		}
	case EntryPut, EntryBatch, EntryDone, EntryLost, EntryEnded:
		no := in.Number()
		l := f.lanes[no]
		if l == nil { // it has ended
			return
		}
		if kind == EntryEnded {
			delete(f.lanes, no)
			return
		}
		l.apply(kind, &in, whole)
	default:
		in.Fail()
	}
	if in.Bad {
		f.Bad++
	}
}

func (f *Fold) presence(came bool, in *fields) {
	app, key := in.Text(), string(in.B)
	if in.Bad {
		return
	}
	there := f.apps[app]
	if !came {
		if delete(there, key); len(there) == 0 {
			delete(f.apps, app)
		}
		return
	}
	if there == nil {
		there = presence{}
		f.apps[app] = there
	}
	there[key] = struct{}{}
}

// apply changes what waits in a lane.
func (l *lane) apply(kind byte, in *fields, whole []byte) {
	number := in.Number()
	switch kind {
	case EntryPut:
		if number <= l.last {
			in.Fail()
		}
		if !in.Bad {
			l.last = number
			l.items = append(l.items, entry{number, bytes.Clone(whole)})
		}
	case EntryBatch:
		n, id := in.Number(), in.Text()
		if !in.Bad && n <= posts.MaxEvents {
			l.batch = Batch{id, number, int(n)}
		}
	case EntryDone:
		n, _ := l.find(number + 1)
		for _, e := range l.items[:n] {
			if e.bytes == nil {
				l.dead--
			}
		}
		clear(l.items[:n]) // their bytes
		if l.items = l.items[n:]; len(l.items) == 0 {
			l.items = nil
		}
		if l.batch.Last <= number {
			l.batch = Batch{}
		}
	case EntryLost:
		if i, ok := l.find(number); ok && l.items[i].bytes != nil {
			l.items[i].bytes = nil
			l.dead++
		}
		if l.dead > len(l.items)/2 {
			l.items = slices.DeleteFunc(l.items, func(e entry) bool { return e.bytes == nil })
			l.dead = 0
		}
	}
}

// find says where the event with a number is, or would be.
func (l *lane) find(number uint64) (int, bool) {
	return slices.BinarySearchFunc(l.items, number, func(e entry, n uint64) int {
		return cmp.Compare(e.number, n)
	})
}

// Count says how many events were not delivered, and how many channels and members are there.
func (f *Fold) Count() (events, there int) {
	for _, l := range f.lanes {
		events += len(l.items) - l.dead
	}
	for _, of := range f.apps {
		there += len(of)
	}
	return events, there
}

// There has what is there of an app: the end of the body of the EntryCame, behind the app, and the
// event that tells that it goes; nil: it makes no sense.
func (f *Fold) There(app string) iter.Seq2[string, *hookevents.Event] {
	return func(yield func(string, *hookevents.Event) bool) {
		for key := range f.apps[app] {
			of := (*hookevents.Event)(nil)
			if e, ok := leavingOf(key); ok {
				of = &e
			}
			if !yield(key, of) {
				return
			}
		}
	}
}

// Lanes has the numbers of the lanes of an app.
func (f *Fold) Lanes(app string) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for no, l := range f.lanes {
			if l.app == app && !yield(no) {
				return
			}
		}
	}
}

// Records are records that say what the fold says, of about RecordSize.
func (f *Fold) Records() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var record, body []byte
		add := func(kind byte) bool {
			record = AppendEntry(record, kind, body)
			if len(record) < RecordSize {
				return true
			}
			ok := yield(record)
			record = record[:0]
			return ok
		}
		for _, no := range slices.Sorted(maps.Keys(f.lanes)) {
			l := f.lanes[no]
			body = recordlog.AppendField(binary.AppendUvarint(body[:0], no), l.app)
			body = recordlog.AppendField(append(body, l.hash[:]...), l.place)
			if !add(EntryLane) {
				return
			}
			for _, e := range l.items {
				if len(e.bytes) >= RecordSize && len(record) > 0 { // it may be dropped, alone
					if !yield(record) {
						return
					}
					record = record[:0]
				}
				if record = append(record, e.bytes...); len(record) >= RecordSize {
					if !yield(record) {
						return
					}
					record = record[:0]
				}
			}
			if body = appendBatch(body[:0], no, &l.batch); l.batch.N > 0 && !add(EntryBatch) {
				return
			}
		}
		for app, there := range f.apps {
			for key := range there {
				if body = append(recordlog.AppendField(body[:0], app), key...); !add(EntryCame) {
					return
				}
			}
		}
		if len(record) > 0 {
			yield(record)
		}
	}
}

// appendBatch is the body of EntryBatch.
func appendBatch(b []byte, lane uint64, x *Batch) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, lane), x.Last)
	return recordlog.AppendField(binary.AppendUvarint(b, uint64(x.N)), x.ID)
}

// --- What another process has left ---

// Past is what another process has left of an app.
type Past struct {
	There []hookevents.Event // as leavings: members before channels
	Lanes map[[HashSize]byte]*PastLane
}

// PastLane is what that process has not delivered for a URL.
type PastLane struct {
	Number uint64
	Place  string
	Last   uint64
	Items  []Item
	Batch  Batch
}

// Past is what a fold says, by app.
func (f *Fold) Past() map[string]*Past {
	all := map[string]*Past{}
	of := func(app string) *Past {
		if all[app] == nil {
			all[app] = &Past{Lanes: map[[HashSize]byte]*PastLane{}}
		}
		return all[app]
	}
	for no, l := range f.lanes {
		p := &PastLane{Number: no, Place: cmp.Or(l.place, "url "), Last: l.last, Batch: l.batch}
		for _, e := range l.items {
			if e.bytes == nil {
				continue
			}
			in := fieldsOf(e.bytes[1:])
			in.Number() // the length
			in.Number() // the lane
			if it, ok := readPut(&in); ok {
				p.Items = append(p.Items, it)
			} else {
				f.Bad++
			}
		}
		of(l.app).Lanes[l.hash] = p
	}
	for app, there := range f.apps {
		p := of(app)
		for key := range there {
			if e, ok := leavingOf(key); ok {
				p.There = append(p.There, e)
			} else {
				f.Bad++
			}
		}
		sort.Sort(leavings(p.There))
	}
	return all
}

// leavings are sorted by sort.Sort: members before channels, then by name. slices.SortFunc would
// add 30 kB to the binary.
type leavings []hookevents.Event

func (l leavings) Len() int      { return len(l) }
func (l leavings) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l leavings) Less(i, j int) bool {
	a, b := &l[i], &l[j]
	return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Channel.String(),
		b.Channel.String()), cmp.Compare(a.User, b.User)) < 0
}

// leavingOf is the event that ends what a key of a presence says.
func leavingOf(key string) (e hookevents.Event, ok bool) {
	in := fieldsOf([]byte(key))
	e = hookevents.Event{Kind: in.kind(), Channel: in.name(), User: in.Text()}
	return e, !in.Bad &&
		(e.Kind == hookevents.ChannelVacated || e.Kind == hookevents.MemberRemoved)
}
