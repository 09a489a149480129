// Package oneatatime lets one process after the other do something, of those that share a Redis.
package oneatatime

import (
	"context"
	"strconv"
	"time"

	"reverb/internal/lib/resp"
)

const (
	// longest is how long a turn lasts at most: a process that dies in its turn delays the others
	// for so long. Larger: for longer. Smaller: two may have a turn at once, if one is slow.
	longest = 60 * time.Second
	// pause is the time between two looks. Larger: a turn begins later. Smaller: more commands.
	pause = 250 * time.Millisecond
)

// Turns are the turns of one process.
type Turns struct {
	Key   string // in Redis; all processes have the same
	Owner string // no other process has the same
	// Ask sends a command to the Redis that has Key.
	Ask   func(ctx context.Context, command ...string) (resp.Reply, error)
	After func(time.Duration) <-chan time.Time // as time.After
}

// release ends the turn of an owner, and no other one.
const release = `if redis.call('get', KEYS[1]) == ARGV[1] then
  return redis.call('del', KEYS[1])
end`

// Take waits for this process's turn, which lasts until done is called, and at most for longest.
// The error says that Redis does not answer, or is that of ctx.
func (t *Turns) Take(ctx context.Context) (done func(), err error) {
	for {
		r, err := t.Ask(ctx, "SET", t.Key, t.Owner, "NX", "PX",
			strconv.FormatInt(longest.Milliseconds(), 10))
		switch {
		case err != nil:
			return nil, err
		case r.Text == "OK":
			return func() {
				// after an error the turn ends by itself
				t.Ask(context.WithoutCancel(ctx), "EVAL", release, "1", t.Key, t.Owner)
			}, nil
		}
		select {
		case <-t.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
