// Package buckets has a set of items that are found by a hash. The items themselves form the chains
// of the set, so an item costs the set 4 to 8 bytes; in a Go map it would cost 30 to 60. Few is
// a set for owners of which most have few items.
package buckets

import "math/bits"

// Item is an item of a set. Hash must not change while the item is in the set. In Next the set
// keeps the rest of the item's chain; Next belongs to the set until the item is removed.
type Item[T any] interface {
	*T
	Hash() uint32
	Next() **T
}

// perBucket bounds how many items a chain has on average. Larger: lookups, which walk a chain, take
// longer. Smaller: more buckets, of 8 bytes each.
const perBucket = 2

// Set is a set of items. The zero Set is empty. It grows and shrinks by one bucket at a
// time (linear hashing; Litwin, 1980), so that no call moves more than one chain.
type Set[T any, P Item[T]] struct {
	heads []*T
	n     int
}

// Len is how many items are in the set.
func (s *Set[T, P]) Len() int { return s.n }

// First returns the first item of the chain that would hold an item with this hash, or nil. The
// chain goes on with Next, and holds items of other hashes too.
func (s *Set[T, P]) First(hash uint32) *T {
	if len(s.heads) == 0 {
		return nil
	}
	return s.heads[s.at(hash)]
}

// at is the bucket of a hash. Its number is the low bits of the hash: width bits, or one bit less
// if that bucket does not exist yet.
func (s *Set[T, P]) at(hash uint32) int {
	width := s.width()
	if i := int(hash & (1<<width - 1)); i < len(s.heads) {
		return i
	}
	return int(hash & (1<<(width-1) - 1))
}

// width is how many bits the number of a bucket has.
func (s *Set[T, P]) width() int { return bits.Len(uint(len(s.heads) - 1)) }

// Add adds an item that is in no set.
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

// grow adds a bucket and moves items into it; they all come from one other bucket.
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

// Remove removes an item that is in the set.
func (s *Set[T, P]) Remove(item *T) {
	at := &s.heads[s.at(P(item).Hash())]
	for *at != item {
		at = P(*at).Next()
	}
	*at = *P(item).Next()
	*P(item).Next() = nil
	s.n--
	if last := len(s.heads) - 1; s.n < perBucket*last-perBucket*last/4 {
		// the limit is lower than that of grow, so that one item that comes and goes moves no
		// chains
		chain := s.heads[last]
		s.heads[last] = nil
		s.heads = s.heads[:last]
		s.pushAll(chain)
		if cap(s.heads) >= 64 && last < cap(s.heads)/4 {
			s.heads = append(make([]*T, 0, 2*last), s.heads...)
		}
	}
}

// All calls yield for every item until yield returns false. yield must not add or remove items.
func (s *Set[T, P]) All(yield func(*T) bool) {
	for _, item := range s.heads {
		for ; item != nil; item = *P(item).Next() {
			if !yield(item) {
				return
			}
		}
	}
}
