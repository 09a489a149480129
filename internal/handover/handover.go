// Package handover passes a running server's state and its sockets to the process that takes its
// place. It frames, versions and sends; each part of the program turns its own state into the plain
// data of this package, and back.
//
// The giver serves until everything has arrived. The taker touches no socket until the giver has
// said that all is the taker's. So every connection belongs to one process at any time, and until
// that word the giver can go on as if nothing had been asked:
//
//	taker ─▶ hello: the formats that it reads
//	giver ─▶ offer: the format, and the listeners
//	taker ─▶ ready, when it has read its configuration and could serve, with terms for the caller;
//	         or no, or stop, and why
//	giver    reads nothing any more, and lets what is under way take effect
//	giver ─▶ sections, which may have descriptors, and batches of connections; the taker confirms
//	         each batch
//	giver ─▶ all: how many there were
//	taker ─▶ installed, and how many connections it tells to reconnect
//	giver ─▶ yours: from now on it touches nothing, unless the taker ends without the next word
//	taker ─▶ mine: from now on it may touch everything
//	taker ─▶ serving
//	giver ─▶ late sections: what it could not give before; then it hangs up
//
// If the taker dies before it has said mine, or says no, the giver goes on. A giver that wants to
// go on ends the taker first. So if the pipe ends before yours without a word, the giver has died,
// and the taker serves what it has.
//
// The taker reads all of it as hostile input: lengths, numbers and order are judged. A record is a
// list of fields with tags, and a reader skips the tags that it does not know, so a later format
// may add fields.
//
// Files:
//
//	handover.go    this contract, the formats and the listeners
//	pipe.go        frames with descriptors, over a pair of Unix sockets
//	fields.go      records: fields with tags
//	connection.go  one connection as plain data
//	giver.go       the side that gives
//	taker.go       the side that takes
package handover

import (
	"errors"
	"fmt"
	"time"
)

// The formats that this program writes and reads.
const (
	FirstFormat = 1
	LastFormat  = 1
)

const (
	// batchFiles and batchBytes bound a batch of connections: descriptors, of which one message
	// holds at most 253, and bytes. Larger: fewer messages. Smaller: a batch takes less memory.
	batchFiles = 250
	batchBytes = 256 << 10
	// maxFrame bounds a frame. What is longer travels in pieces. Larger: the taker takes more
	// memory for a wrong length. Smaller: more pieces.
	maxFrame = 1 << 20
	// window is how many batches the giver sends before the first is confirmed. The system counts
	// descriptors that are under way against a limit of the user. Larger: more of them. Smaller:
	// the giver waits for the taker.
	window = 4
	// lateLimit bounds the time in which a taker waits for late sections. Larger: the next upgrade
	// waits longer for a giver that hangs. Smaller: not all arrive.
	lateLimit = 5 * time.Second
	// maxLate bounds a late section. Larger: the taker takes more memory for a wrong length.
	// Smaller: less can be said.
	maxLate = 4 << 10
	// maxListeners bounds the listeners of an offer.
	maxListeners = 16
)

// Listener is a listening socket, by its role.
type Listener struct {
	Role string // main, plain, admin
	FD   int    // the receiver owns it
}

// Offer is what a taker learns first.
type Offer struct {
	Listeners []Listener
	// Began is when the loops of the first process were made. Ticks count from it.
	Began time.Time
}

// ErrDied is the error of a pipe whose other end has gone without a word.
var ErrDied = errors.New("the other process has ended without a word")

// ErrLate is the error of a pipe whose other end has not answered in time.
var ErrLate = errors.New("the other process does not answer in time")

// ErrForeign is the error of a pipe whose other end sends what the protocol does not allow.
var ErrForeign = errors.New("the other process does not know this hand-over")

// Refusal is the error of a taker that has said no, or that knows none of our formats.
type Refusal struct {
	Why  string
	Stop bool // the taker could start after a stop of the giver
}

// refused is what the giver hears.
func refused(k kind, why []byte) Refusal {
	return Refusal{"the successor says no: " + string(why), k == kindStop}
}

func (r Refusal) Error() string { return r.Why }

// errFrame says that a frame came that should not come now.
func errFrame(got kind, want string) error {
	return fmt.Errorf("%w: frame %d came instead of %s", ErrForeign, got, want)
}
