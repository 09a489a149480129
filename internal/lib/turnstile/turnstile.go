// Package turnstile guards a store that may be full. While the store is full, callers wait; then
// they pass one after the other, each when the caller before has stored its items. While the store
// is not full and no caller waits, every caller passes at once.
package turnstile

import (
	"context"
	"errors"
	"time"
)

// pause is the time between two looks whether there is room. Larger: room stays unused. Smaller:
// waiting costs more of the processor.
const pause = 2 * time.Millisecond

// ErrFull is the error of Pass when patience has run out.
var ErrFull = errors.New("there is no room")

// Turnstile guards one store. Any goroutine may call its methods.
type Turnstile struct{ turn chan struct{} }

// New returns a turnstile without callers.
func New() Turnstile { return Turnstile{make(chan struct{}, 1)} }

// Pass waits until full returns false and the caller is the next. The caller then stores its items,
// and calls done. If ctx ends first, Pass returns the error of ctx; after patience, ErrFull.
func (t Turnstile) Pass(ctx context.Context, patience time.Duration, full func() bool) (done func(),
	err error) {
	if len(t.turn) == 0 && !full() {
		return func() {}, nil
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-over.C:
		return nil, ErrFull
	}
	for full() {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			err = ctx.Err()
		case <-over.C:
			err = ErrFull
		}
		if err != nil {
			<-t.turn
			return nil, err
		}
	}
	return func() { <-t.turn }, nil
}
