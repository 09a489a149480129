// Package buckets is a set of items that are found by a hash: in chains through the items
// themselves, so that an item costs the set 4 to 8 bytes. A Go map of the same takes 30
// to 60. Few is a set for owners of which most have few items.
package buckets

import "math/bits"

// Item is what a set holds. Hash is the item's for as long as it is in the set; Next is
// where the set keeps the rest of the item's chain, and belongs to the set until the item
// is removed.
type Item[T any] interface {
	*T
	Hash() uint32
	Next() **T
}

// perBucket is how many items a chain has on average, at most. Lookups walk a chain; each
// bucket costs 8 bytes.
const perBucket = 2

// Set is a set of items. The zero Set is empty. It grows and shrinks by one bucket at a
// time (linear hashing; Litwin, 1980), so that no call moves more than one chain.
type Set[T any, P Item[T]] struct {
	heads []*T
	n     int
}

// Len is how many items are in the set.
func (s *Set[T, P]) Len() int { return s.n }

// First returns the first item of the chain in which an item with this hash is, if the set
// has it, or nil. The chain goes on with Next and holds items of other hashes too.
func (s *Set[T, P]) First(hash uint32) *T {
	if len(s.heads) == 0 {
		return nil
	}
	return s.heads[s.at(hash)]
}

// at is the bucket of a hash: as many of its low bits as number the buckets, or one bit
// less where that bucket is not there yet.
func (s *Set[T, P]) at(hash uint32) int {
	width := s.width()
	if i := int(hash & (1<<width - 1)); i < len(s.heads) {
		return i
	}
	return int(hash & (1<<(width-1) - 1))
}

// width is how many bits number the buckets.
func (s *Set[T, P]) width() int { return bits.Len(uint(len(s.heads) - 1)) }

// Add puts in an item that is in no set.
func (s *Set[T, P]) Add(item *T) {
	if s.n++; s.n > perBucket*len(s.heads) {
		s.grow()
	}
	s.push(item)
}

func (s *Set[T, P]) push(item *T) {
	head := &s.heads[s.at(P(item).Hash())]
	*P(item).Next() = *head
	*head = item
}

// grow adds a bucket and moves there what belongs there, all of it from one other.
func (s *Set[T, P]) grow() {
	s.heads = append(s.heads, nil)
	last := len(s.heads) - 1
	if last == 0 {
		return
	}
	from := last &^ (1 << (s.width() - 1))
	chain := s.heads[from]
	s.heads[from] = nil
	s.pushAll(chain)
}

func (s *Set[T, P]) pushAll(chain *T) {
	for chain != nil {
		next := *P(chain).Next()
		s.push(chain)
		chain = next
	}
}

// Remove takes out an item that is in the set.
func (s *Set[T, P]) Remove(item *T) {
	at := &s.heads[s.at(P(item).Hash())]
	for *at != item {
		at = P(*at).Next()
	}
	*at = *P(item).Next()
	*P(item).Next() = nil
	s.n--
	if last := len(s.heads) - 1; s.n < perBucket*last-perBucket*last/4 { // not at the brink: or one item that comes and goes would move chains
		chain := s.heads[last]
		s.heads[last] = nil
		s.heads = s.heads[:last]
		s.pushAll(chain)
		if cap(s.heads) >= 64 && last < cap(s.heads)/4 {
			s.heads = append(make([]*T, 0, 2*last), s.heads...)
		}
	}
}

// All calls yield for every item until it returns false. Items may not be added or removed
// meanwhile.
func (s *Set[T, P]) All(yield func(*T) bool) {
	for _, item := range s.heads {
		for ; item != nil; item = *P(item).Next() {
			if !yield(item) {
				return
			}
		}
	}
}
