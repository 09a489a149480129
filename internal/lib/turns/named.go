package turns

// Named has queues with names, which take turns: each gives one item in its turn. A queue is there
// as long as it has items. The zero Named is empty; it belongs to one goroutine.
type Named[T any] struct {
	queues map[string][]T
	order  []string // of the turns
	n      int
}

// Len is how many items are in all queues.
func (q *Named[T]) Len() int { return q.n }

// Add puts an item at the end of the queue with a name.
func (q *Named[T]) Add(name string, item T) {
	if q.queues == nil {
		q.queues = make(map[string][]T)
	}
	if len(q.queues[name]) == 0 {
		q.order = append(q.order, name)
	}
	q.queues[name] = append(q.queues[name], item)
	q.n++
}

// Next takes the first item of the queue whose turn it is. There must be an item.
func (q *Named[T]) Next() (item T) {
	name := q.order[0]
	q.order[0] = ""
	q.order = q.order[1:]
	queue := q.queues[name]
	item, queue[0] = queue[0], item
	if q.n--; len(queue) > 1 {
		q.queues[name] = queue[1:]
		q.order = append(q.order, name)
	} else {
		delete(q.queues, name)
	}
	if q.n == 0 {
		*q = Named[T]{}
	}
	return item
}
