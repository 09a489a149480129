// Package tenants has the tenants of a program, such as apps, by key and by ID, while its
// configuration changes: the tenants of the configuration in force, and those of former
// configurations.
package tenants

// Set has the tenants at one moment. After the last Put it never changes, so any goroutine may read
// it. The zero Set is empty.
type Set[T any] struct {
	ByKey, ByID map[string]T // of the configuration in force
	Former      map[string]T // by ID: configured no more
}

// Next returns a Set in which all tenants of s are former ones.
func (s *Set[T]) Next() Set[T] {
	next := Set[T]{map[string]T{}, map[string]T{}, map[string]T{}}
	for _, all := range []map[string]T{s.Former, s.ByID} {
		for id, t := range all {
			next.Former[id] = t
		}
	}
	return next
}

// Put adds a tenant that is configured, to a Set of Next.
func (s *Set[T]) Put(id, key string, t T) {
	delete(s.Former, id)
	s.ByID[id], s.ByKey[key] = t, t
}

// Known finds a tenant, also a former one.
func (s *Set[T]) Known(id string) (t T, ok bool) {
	if t, ok = s.ByID[id]; !ok {
		t, ok = s.Former[id]
	}
	return t, ok
}

// All calls yield for every tenant, the former ones included.
func (s *Set[T]) All(yield func(T) bool) {
	for _, all := range []map[string]T{s.ByID, s.Former} {
		for _, t := range all {
			if !yield(t) {
				return
			}
		}
	}
}
