package buckets

// fewItems is how many items are kept in a list. A list costs nothing beside its items, and is
// walked through for each that is looked up or removed; a Set costs 32 bytes and the buckets.
const fewItems = 16

// Few is a set for one of very many owners, of which most have few items: a list, and from the
// 17th item on a Set. The zero Few is empty.
type Few[T any, P Item[T]] struct {
	first *T         // the latest; nil where many has them
	many  *Set[T, P] // nil: there never were many
}

// Many says whether the items are in a Set: then First looks at the hash.
func (f *Few[T, P]) Many() bool { return f.many != nil }

// Len is how many items there are. It takes the longer the more they are, up to 16.
func (f *Few[T, P]) Len() (n int) {
	if f.many != nil {
		return f.many.Len()
	}
	for item := f.first; item != nil; item = *P(item).Next() {
		n++
	}
	return n
}

// First returns the first item of a chain in which an item with this hash is, if there is one,
// or nil. The chain goes on with Next and holds items of other hashes too.
func (f *Few[T, P]) First(hash uint32) *T {
	if f.many != nil {
		return f.many.First(hash)
	}
	return f.first
}

// Add puts in an item that is in no set.
func (f *Few[T, P]) Add(item *T) {
	if f.many != nil {
		f.many.Add(item)
		return
	}
	if *P(item).Next(), f.first = f.first, item; f.Len() <= fewItems {
		return
	}
	list := f.first
	f.first, f.many = nil, new(Set[T, P])
	for list != nil {
		next := *P(list).Next()
		f.many.Add(list)
		list = next
	}
}

// Remove takes out an item that is in the set.
func (f *Few[T, P]) Remove(item *T) {
	if f.many != nil {
		f.many.Remove(item)
		return
	}
	at := &f.first
	for *at != item {
		at = P(*at).Next()
	}
	*at, *P(item).Next() = *P(item).Next(), nil
}

// All calls yield for every item until it returns false. Items may not be added or removed
// meanwhile.
func (f *Few[T, P]) All(yield func(*T) bool) {
	if f.many != nil {
		f.many.All(yield)
		return
	}
	for item := f.first; item != nil; item = *P(item).Next() {
		if !yield(item) {
			return
		}
	}
}
