package buckets

// fewItems is how many items a list holds. A list costs nothing besides its items; a Set costs 32
// bytes and the buckets. Larger: look-ups and removals, which walk through the list, take longer.
// Smaller: more owners pay for a Set.
const fewItems = 16

// Few is a set for very many owners, most of which have few items. It is a list, and from the 17th
// item on a Set. The zero Few is empty.
type Few[T any, P Item[T]] struct {
	first *T         // the latest item; nil: many has the items
	many  *Set[T, P] // nil: the items are in the list
}

// Many says whether the items are in a Set. Then First uses the hash.
func (f *Few[T, P]) Many() bool { return f.many != nil }

// Len is how many items there are. It walks through a list.
func (f *Few[T, P]) Len() (n int) {
	if f.many != nil {
		return f.many.Len()
	}
	for item := f.first; item != nil; item = *P(item).Next() {
		n++
	}
	return n
}

// First returns the first item of the chain that would hold an item with this hash, or nil. The
// chain goes on with Next, and holds items of other hashes too.
func (f *Few[T, P]) First(hash uint32) *T {
	if f.many != nil {
		return f.many.First(hash)
	}
	return f.first
}

// Add adds an item that is in no set.
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

// Remove removes an item that is in the set.
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

// All calls yield for every item until yield returns false. yield must not add or remove items.
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
