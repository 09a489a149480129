// Package turnstile has those wait who would fill what is full, and lets them through one
// after the other: the next when the one before has put in what it came with. While nothing
// is full and nobody waits, everybody goes through at once.
package turnstile

import (
	"context"
	"errors"
	"time"
)

// pause is the time between two looks at whether there is room. Less would cost more, more
// would leave room unused.
const pause = 2 * time.Millisecond

// ErrFull is what Pass returns when patience has run out.
var ErrFull = errors.New("there is no room")

// Turnstile is what waits stand at. Everybody may call its methods at any time.
type Turnstile struct{ turn chan struct{} }

// New returns a turnstile at which nobody waits.
func New() Turnstile { return Turnstile{make(chan struct{}, 1)} }

// Pass waits until full returns false and the caller is the next. The caller then puts in
// what it has, and calls done. Where ctx ends first, Pass returns the error of ctx; after
// patience, ErrFull.
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
