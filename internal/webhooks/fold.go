package webhooks

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

	"reverb/internal/lib/recordlog"
	"reverb/internal/posts"
	"reverb/internal/protocol"
)

// --- Entries ---
//
// A record of the spool has entries, which belong together: all of them are there after a crash, or
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
//
// A number is a uvarint, a text a length and its bytes, a time milliseconds since 1970. A lane is
// the queue of an app and a URL. The URL is not there, since it may have a password.
const (
	entryCame = iota + 1
	entryGone
	entryLane
	entryPut
	entryBatch
	entryDone
	entryLost
	entryEnded
)

// hashSize is how many bytes of the SHA-256 of a URL tell lanes of an app apart. Larger: a larger
// file. Smaller: two URLs could be taken for one.
const hashSize = 16

func hashOf(address string) (h [hashSize]byte) {
	sum := sha256.Sum256([]byte(address))
	copy(h[:], sum[:])
	return h
}

// fields reads the parts of an entry.
type fields struct{ recordlog.Fields }

func fieldsOf(b []byte) fields { return fields{recordlog.Fields{B: b}} }

func (f *fields) kind() Kind {
	if b := f.Bytes(1); len(b) == 1 && b[0] < byte(kinds) {
		return Kind(b[0])
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

// appendPresence is the body of entryCame and entryGone.
func appendPresence(b []byte, app string, e *Event) []byte {
	b = recordlog.AppendField(b, app)
	b = append(b, byte(e.Kind.leaving()))
	return recordlog.AppendField(recordlog.AppendField(b, e.Channel.String()), e.User)
}

// appendPut is the body of entryPut.
func appendPut(b []byte, lane, number uint64, at time.Time, e *Event) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, lane), number)
	b = binary.AppendUvarint(b, uint64(at.UnixMilli()))
	b = append(b, byte(e.Kind))
	b = recordlog.AppendField(recordlog.AppendField(b, e.Channel.String()), e.User)
	b = recordlog.AppendField(b, e.Event)
	b = recordlog.AppendField(b, e.Data)
	return binary.AppendUvarint(binary.AppendUvarint(b, e.Socket.Number()), uint64(e.Count))
}

// readPut is the reverse of appendPut. lane was read already.
func readPut(f *fields) (it item, ok bool) {
	it.number = f.Number()
	it.at = time.UnixMilli(int64(f.Number()))
	it.Kind, it.Channel, it.User, it.Event.Event = f.kind(), f.name(), f.Text(), f.Text()
	if data := f.Bytes(f.Number()); len(data) > 0 {
		it.Data = bytes.Clone(data)
	}
	it.Socket, it.Count = protocol.SocketIDOf(f.Number()), int(f.Number())
	it.cost = costOf(&it.Event)
	return it, !f.Bad
}

// --- What the entries say together ---

// fold is what the entries until now say. It has, of all that the entries have said, only what is
// needed: what is there, and what was not delivered.
type fold struct {
	apps  map[string]presence
	lanes map[uint64]*lane
	last  uint64 // the largest number of a lane until now
	bad   int    // entries that made no sense
}

// presence is what is there of an app: the ends of entryCame, from the kind on.
type presence map[string]struct{}

// lane is what was not delivered for a URL.
type lane struct {
	app   string
	hash  [hashSize]byte
	place string
	items []entry // by number
	dead  int     // of them: lost
	last  uint64  // the largest number until now
	batch batch
}

// batch is the last one that was begun.
type batch struct {
	id   string
	last uint64 // the number of its last event
	n    int    // events
}

// entry is an event that waits, as in the file.
type entry struct {
	number uint64
	bytes  []byte // with kind and length; nil: it was lost
}

func newFold() fold { return fold{apps: map[string]presence{}, lanes: map[uint64]*lane{}} }

// appendEntry appends a body with its kind and length.
func appendEntry(b []byte, kind byte, body []byte) []byte {
	return recordlog.AppendField(append(b, kind), body)
}

// add reads the entries of a record. It keeps nothing of it.
func (f *fold) add(record []byte) {
	for len(record) > 0 {
		in := fieldsOf(record[1:])
		body := in.Bytes(in.Number())
		if in.Bad {
			f.bad++
			return
		}
		f.apply(record[0], body, record[:len(record)-len(in.B)])
		record = in.B
	}
}

// apply changes what is so by an entry. whole is the entry with kind and length.
func (f *fold) apply(kind byte, body, whole []byte) {
	in := fieldsOf(body)
	switch kind {
	case entryCame, entryGone:
		f.presence(kind == entryCame, &in)
	case entryLane:
		no, app, hash := in.Number(), in.Text(), in.Bytes(hashSize)
		if !in.Bad {
			if f.lanes[no] == nil {
				f.lanes[no] = &lane{}
			}
			l := f.lanes[no]
			l.app, l.hash, l.place = app, [hashSize]byte(hash), ""
			if len(in.B) > 0 {
				l.place = in.Text()
			}
			f.last = max(f.last, no)
		}
	case entryPut, entryBatch, entryDone, entryLost, entryEnded:
		no := in.Number()
		l := f.lanes[no]
		if l == nil { // it has ended
			return
		}
		if kind == entryEnded {
			delete(f.lanes, no)
			return
		}
		l.apply(kind, &in, whole)
	default:
		in.Fail()
	}
	if in.Bad {
		f.bad++
	}
}

func (f *fold) presence(came bool, in *fields) {
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
	case entryPut:
		if number <= l.last {
			in.Fail()
		}
		if !in.Bad {
			l.last = number
			l.items = append(l.items, entry{number, bytes.Clone(whole)})
		}
	case entryBatch:
		n, id := in.Number(), in.Text()
		if !in.Bad && n <= posts.MaxEvents {
			l.batch = batch{id, number, int(n)}
		}
	case entryDone:
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
		if l.batch.last <= number {
			l.batch = batch{}
		}
	case entryLost:
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

// records are records that say what the fold says, of about recordSize.
func (f *fold) records() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var record, body []byte
		add := func(kind byte) bool {
			record = appendEntry(record, kind, body)
			if len(record) < recordSize {
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
			if !add(entryLane) {
				return
			}
			for _, e := range l.items {
				if record = append(record, e.bytes...); len(record) >= recordSize {
					if !yield(record) {
						return
					}
					record = record[:0]
				}
			}
			if body = appendBatch(body[:0], no, &l.batch); l.batch.n > 0 && !add(entryBatch) {
				return
			}
		}
		for app, there := range f.apps {
			for key := range there {
				if body = append(recordlog.AppendField(body[:0], app), key...); !add(entryCame) {
					return
				}
			}
		}
		if len(record) > 0 {
			yield(record)
		}
	}
}

// appendBatch is the body of entryBatch.
func appendBatch(b []byte, lane uint64, x *batch) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, lane), x.last)
	return recordlog.AppendField(binary.AppendUvarint(b, uint64(x.n)), x.id)
}

// --- What another process has left ---

// past is what another process has left of an app.
type past struct {
	there []Event // as leavings: members before channels
	lanes map[[hashSize]byte]*pastLane
}

// pastLane is what that process has not delivered for a URL.
type pastLane struct {
	number uint64
	place  string
	last   uint64
	items  []item
	batch  batch
}

// past is what a fold says, by app.
func (f *fold) past() map[string]*past {
	all := map[string]*past{}
	of := func(app string) *past {
		if all[app] == nil {
			all[app] = &past{lanes: map[[hashSize]byte]*pastLane{}}
		}
		return all[app]
	}
	for no, l := range f.lanes {
		p := &pastLane{number: no, place: cmp.Or(l.place, "url "), last: l.last, batch: l.batch}
		for _, e := range l.items {
			if e.bytes == nil {
				continue
			}
			in := fieldsOf(e.bytes[1:])
			in.Number() // the length
			in.Number() // the lane
			if it, ok := readPut(&in); ok {
				p.items = append(p.items, it)
			} else {
				f.bad++
			}
		}
		of(l.app).lanes[l.hash] = p
	}
	for app, there := range f.apps {
		p := of(app)
		for key := range there {
			if e, ok := leavingOf(key); ok {
				p.there = append(p.there, e)
			} else {
				f.bad++
			}
		}
		sort.Sort(leavings(p.there))
	}
	return all
}

// leavings are sorted by sort.Sort: members before channels, then by name. slices.SortFunc would
// add 30 kB to the binary.
type leavings []Event

func (l leavings) Len() int      { return len(l) }
func (l leavings) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l leavings) Less(i, j int) bool {
	a, b := &l[i], &l[j]
	return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Channel.String(),
		b.Channel.String()), cmp.Compare(a.User, b.User)) < 0
}

// leavingOf is the event that ends what a key of a presence says.
func leavingOf(key string) (e Event, ok bool) {
	in := fieldsOf([]byte(key))
	e = Event{Kind: in.kind(), Channel: in.name(), User: in.Text()}
	return e, !in.Bad && (e.Kind == ChannelVacated || e.Kind == MemberRemoved)
}
