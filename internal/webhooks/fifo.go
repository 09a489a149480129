package webhooks

// chunkItems is how many items a chunk has room for. Larger: a queue with one item takes more
// memory. Smaller: more allocations.
const chunkItems = 16

// fifo is a queue of items, in chunks: an item is never moved, so that putting one takes the same
// time however many wait, and the memory of items that are gone is free at once. The zero fifo is
// empty.
type fifo[T any] struct {
	first, last *chunk[T]
	n           int
	bytes       int64 // the caller counts them
}

type chunk[T any] struct {
	items    [chunkItems]T
	from, to int // the items that are there
	next     *chunk[T]
}

func (f *fifo[T]) push(x T) {
	if f.last == nil || f.last.to == chunkItems {
		c := &chunk[T]{}
		if f.last == nil {
			f.first = c
		} else {
			f.last.next = c
		}
		f.last = c
	}
	f.last.items[f.last.to] = x
	f.last.to++
	f.n++
}

// head is the oldest item, which stays; nil if there is none.
func (f *fifo[T]) head() *T {
	if f.n == 0 {
		return nil
	}
	return &f.first.items[f.first.from]
}

// pop takes the oldest item. There must be one.
func (f *fifo[T]) pop() T {
	c := f.first
	x := c.items[c.from]
	clear(c.items[c.from : c.from+1])
	c.from++
	if f.n--; f.n == 0 {
		f.first, f.last = nil, nil
	} else if c.from == chunkItems {
		f.first = c.next
	}
	return x
}
