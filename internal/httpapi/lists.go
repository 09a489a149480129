package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"reverb/internal/protocol"
)

const (
	// listPatience is how long a request waits for the lists of channels before it. Larger: more
	// requests wait. Smaller: a request is refused that could soon be answered.
	listPatience = 5 * time.Second
	// maxListsMade bounds the lists of channels that are made at once. Larger: lists of several
	// apps take more memory together. Smaller: apps wait longer for each other.
	maxListsMade = 2
	// maxListsSent bounds the large lists on their way to those who asked. Larger: slow readers of
	// more apps hold memory. Smaller: a few apps with slow readers keep others from large lists.
	maxListsSent = 4
	// largeList is the size, in bytes, from which a list counts as large. Larger: an app can have
	// more memory on its way. Smaller: slow readers of ordinary lists keep others waiting.
	largeList = 64 << 10
)

// lists bounds the memory of the lists of channels: an app has one at a time, from the question
// until the list is made, and a large one until its reader has it.
type lists struct {
	apps sync.Map // app ID -> chan struct{} of one place; only configured apps come here
	made chan struct{}
	sent chan struct{}
}

func newLists() *lists {
	return &lists{made: make(chan struct{}, maxListsMade), sent: make(chan struct{}, maxListsSent)}
}

// begin waits until a list of an app may be made. Then the caller makes it, calls finished with its
// size, and release when it is sent, or not to be sent.
func (l *lists) begin(ctx context.Context, app string) (*list, *protocol.Problem) {
	turn, _ := l.apps.LoadOrStore(app, make(chan struct{}, 1))
	v := &list{of: l}
	over := time.NewTimer(listPatience)
	defer over.Stop()
	for _, place := range []chan struct{}{turn.(chan struct{}), l.made} {
		select {
		case place <- struct{}{}:
			v.holds = append(v.holds, place)
		case <-ctx.Done():
			v.release()
			return nil, unavailable("The request was given up.")
		case <-over.C:
			v.release()
			return nil, unavailable("Other lists of channels come first; ask again shortly, " +
				"or for fewer with filter_by_prefix.")
		}
	}
	return v, nil
}

// list is a list of channels that is made or sent. It has one owner.
type list struct {
	of    *lists
	holds []chan struct{}
}

// finished says that the list is made. short says that memory is short: a large list is then
// refused.
func (v *list) finished(size int, short bool) *protocol.Problem {
	if size < largeList {
		v.release()
		return nil
	}
	if short {
		return &protocol.Problem{Status: http.StatusServiceUnavailable, Text: "Memory is short, " +
			"and the list of channels is long; ask again later, or for fewer with " +
			"filter_by_prefix."}
	}
	select {
	case v.of.sent <- struct{}{}:
		<-v.of.made
		v.holds[1] = v.of.sent
		return nil
	default:
		return unavailable("Too many long lists of channels are on their way; ask again shortly.")
	}
}

// release lets the next list come. It may be called twice.
func (v *list) release() {
	for _, place := range v.holds {
		<-place
	}
	v.holds = nil
}
