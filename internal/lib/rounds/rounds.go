// Package rounds looks at very many items that belong to loops, in slices between the loops' other
// work. A loop looks at its next slice when the results of the slice before were taken, so that one
// who is slow delays nobody else.
package rounds

import (
	"context"
	"time"
)

const (
	// sliceTime is for how long a loop looks at items between its other work. Larger: others wait
	// longer. Smaller: it takes longer, since a loop that is busy comes round late.
	sliceTime = time.Millisecond
	// sliceStep is how many items a loop looks at between two looks at the clock. Larger: slices
	// may be longer. Smaller: more looks.
	sliceStep = 16
)

// Source has items I.
type Source[I any] interface {
	// Loops is how many loops there are. Every item belongs to one.
	Loops() int
	// Slice has a loop call visit for its items, in the places from the place from on, until visit
	// returns false, and then done with the place with which to go on; -1: all have been visited.
	// The loop calls both between other work, so they must be short. Slice does not wait. It
	// returns false if the loop has ended, and its items; then nothing is called.
	Slice(loop, from int, visit func(I) bool, done func(next int)) bool
}

// slice calls visit for some items of a loop. ok is false if ctx or the program has ended before:
// then visit may still be called.
func slice[I any](ctx context.Context, s Source[I], ended <-chan struct{}, loop, from int,
	visit func(I)) (next int, ok bool) {
	done, n, begun := make(chan int, 1), 0, time.Time{}
	if !s.Slice(loop, from, func(item I) bool {
		if n == 0 {
			begun = time.Now()
		}
		visit(item)
		n++
		return n%sliceStep > 0 || time.Since(begun) < sliceTime
	}, func(next int) { done <- next }) {
		return -1, true
	}
	select {
	case next := <-done:
		return next, true
	case <-ctx.Done():
	case <-ended:
	}
	return 0, false
}

// Collect visits every item. The loops call look, several at once; its result is kept of an item if
// it says so. keep gets the results in the caller's goroutine, a slice at a time. ended is closed
// when the program ends. If ctx has not ended, the error is keep's.
func Collect[I, T any](ctx context.Context, s Source[I], ended <-chan struct{},
	look func(I) (T, bool), keep func([]T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, over := make(chan []T), make(chan struct{})
	loops := s.Loops()
	for loop := range loops {
		go func() {
			defer func() { over <- struct{}{} }()
			for from := 0; from >= 0; {
				var batch []T
				next, ok := slice(ctx, s, ended, loop, from, func(item I) {
					if v, wanted := look(item); wanted {
						batch = append(batch, v)
					}
				})
				if !ok {
					return // the batch may still be written to
				}
				if from = next; len(batch) == 0 {
					continue
				}
				select {
				case out <- batch:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	var err error
	for loops > 0 {
		select {
		case batch := <-out:
			if err == nil {
				if err = keep(batch); err != nil {
					cancel()
				}
			}
		case <-over:
			loops--
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}
