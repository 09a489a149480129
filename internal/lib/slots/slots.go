// Package slots gives items small numbers, which are used again when an item has gone, and
// generations, which tell the items of a slot apart.
package slots

// keepSlots bounds the slots that an empty table keeps. Larger: more memory stays when many items
// have gone. Smaller: tables that are often empty allocate.
const keepSlots = 4096

// Table has items by slot. The zero Table is empty. A Table belongs to one goroutine.
type Table[T any] struct {
	all    []*T
	vacant []uint32
	last   uint32 // generation
	used   int
}

// Put gives x the slot that was freed last, or a new one. No other item of the table has had this
// generation, until 4,294,967,296 items later.
func (t *Table[T]) Put(x *T) (slot, generation uint32) {
	if n := len(t.vacant); n > 0 {
		slot, t.vacant = t.vacant[n-1], t.vacant[:n-1]
	} else {
		slot = uint32(len(t.all))
		t.all = append(t.all, nil)
	}
	t.last++
	t.all[slot] = x
	t.used++
	return slot, t.last
}

// Free takes the item out of a slot that has one.
func (t *Table[T]) Free(slot uint32) {
	t.all[slot] = nil
	t.vacant = append(t.vacant, slot)
	t.used--
}

// At returns the item of a slot; nil if the slot has none, or does not exist.
func (t *Table[T]) At(slot uint32) *T {
	if int(slot) < len(t.all) {
		return t.all[slot]
	}
	return nil
}

// Slots returns the number of slots. Some may have no item.
func (t *Table[T]) Slots() int { return len(t.all) }

// Used returns the number of items.
func (t *Table[T]) Used() int { return t.used }

// All calls yield for every item, until yield returns false. yield may free items, but put none.
func (t *Table[T]) All(yield func(*T) bool) {
	for _, x := range t.all {
		if x != nil && !yield(x) {
			return
		}
	}
}

// Some is All from a slot on. next is the slot to go on from; -1: there are no more.
func (t *Table[T]) Some(from int, yield func(*T) bool) (next int) {
	for i := from; i < len(t.all); i++ {
		if x := t.all[i]; x != nil && !yield(x) {
			return i + 1
		}
	}
	return -1
}

// Shrink frees the memory that many items needed, if none is left. It returns whether it did so.
// The slots begin at 0 then.
func (t *Table[T]) Shrink() bool {
	if t.used > 0 || cap(t.all) <= keepSlots {
		return false
	}
	t.all, t.vacant = nil, nil
	return true
}
