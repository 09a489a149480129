// Package load counts what waits for event loops and for their peers, and says when those who give
// the loops more should wait.
//
// A message goes to a loop, which delivers it to some of its peers. Until then the message counts
// in the loop's backlog, and each delivery to come is owed. A delivery puts the message into the
// send queue of a peer, as a link to bytes that all peers share. Links and bytes in send queues
// count until the peer has taken them. So the package knows what the messages will take at most if
// no peer reads: it claims that much memory.
package load

import (
	"slices"
	"sync/atomic"
)

const (
	// MessageCost is how many bytes a message and a delivery count besides their own. It is about
	// the memory that they take; with a smaller one small messages take more than is counted.
	MessageCost = 128
	// maxBacklogBytes bounds the messages that wait for one loop before it is overloaded. Larger:
	// messages come later under load. Smaller: publishers wait sooner.
	maxBacklogBytes = 32 << 20
	// LeastRoom is how many bytes messages may take between two looks at the memory, however little
	// memory is left. Larger: memory may run out. At 0, nobody could send anything while memory is
	// short.
	LeastRoom = 1 << 20
)

// Loop counts what waits for one loop. The zero Loop has nothing.
type Loop struct {
	// any goroutine may write these
	backlog atomic.Int64 // bytes of messages
	owed    atomic.Int64 // deliveries of these messages

	// written by the loop; any goroutine may read these
	linked atomic.Int64 // links of send queues
	queued atomic.Int64 // bytes that wait for peers in send queues
}

// Add counts a message of so many bytes, and its deliveries. Any goroutine may call it.
func (l *Loop) Add(bytes int, deliveries int64) {
	l.backlog.Add(int64(bytes + MessageCost))
	l.owed.Add(deliveries)
}

// Done takes back what Add has counted. The links of the deliveries must be noted before, because
// what is claimed must not dip between the two. Any goroutine may call it.
func (l *Loop) Done(bytes int, deliveries int64) {
	l.backlog.Add(-int64(bytes + MessageCost))
	l.owed.Add(-deliveries)
}

// NoteLinks publishes how many links the send queues have. Only the loop calls it.
func (l *Loop) NoteLinks(n int) { l.linked.Store(int64(n)) }

// NoteQueued publishes how many bytes wait in the send queues. Only the loop calls it.
func (l *Loop) NoteQueued(bytes int) { l.queued.Store(int64(bytes)) }

// Backlog returns the bytes of messages that wait for the loop.
func (l *Loop) Backlog() int64 { return l.backlog.Load() }

// Owed returns the deliveries of these messages.
func (l *Loop) Owed() int64 { return l.owed.Load() }

// Queued returns the bytes that wait for peers in the send queues.
func (l *Loop) Queued() int64 { return l.queued.Load() }

// Loops is a set of loops. Any goroutine may call its methods.
type Loops struct {
	all       []*Loop // constant
	linkBytes int64   // constant
	claim     atomic.Int64
}

// NewLoops returns a set of loops, in whose send queues a link takes so many bytes.
func NewLoops(all []*Loop, linkBytes int) *Loops {
	return &Loops{all: all, linkBytes: int64(linkBytes)}
}

// Overloaded says that a loop is far behind with its deliveries.
func (s *Loops) Overloaded() bool {
	return slices.ContainsFunc(s.all, func(l *Loop) bool { return l.Backlog() > maxBacklogBytes })
}

// QueueMemory returns how many bytes the send queues took at the end of the last turns. Shared
// bytes count for each peer.
func (s *Loops) QueueMemory() (n int64) {
	for _, l := range s.all {
		n += l.queued.Load() + l.linked.Load()*s.linkBytes
	}
	return n
}

// Claimed returns how many bytes the waiting messages take, and will take if no peer reads them: a
// link for each delivery, and bytes that all peers share.
func (s *Loops) Claimed() (n int64) {
	for _, l := range s.all {
		n += (l.owed.Load()+l.linked.Load())*s.linkBytes + l.backlog.Load()
	}
	return n
}

// SetRoom says how many bytes more the waiting messages may take until the next look at the memory.
// claimed is what Claimed returned before this look.
func (s *Loops) SetRoom(claimed, room int64) { s.claim.Store(claimed + max(room, LeastRoom)) }

// Crowded says that the waiting messages may take more memory than there is, if their peers do not
// read. Then publishers wait until the loops have delivered, or until the next look at the memory.
// Before SetRoom there is no limit.
func (s *Loops) Crowded() bool {
	most := s.claim.Load()
	return most > 0 && s.Claimed() > most
}
