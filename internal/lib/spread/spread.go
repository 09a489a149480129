// Package spread does something with many items one after the other, evenly over a time, so that
// what follows from it does not come all at once.
package spread

import "time"

// Course is how far the items are done. Its fields are set once. The first item may be done before
// the time begins.
type Course struct {
	End  time.Time     // when the last item is done
	Over time.Duration // how long it takes, more than 0

	next int
}

// Due returns the items, from first to before end, that are to be done now, of n items in all. n
// may grow. Each item is due once.
func (c *Course) Due(n int, now time.Time) (first, end int) {
	share := n
	if left := c.End.Sub(now); left > 0 {
		share -= int(float64(n) * float64(left) / float64(c.Over))
	}
	first = c.next
	c.next = max(first, share)
	return first, c.next
}
