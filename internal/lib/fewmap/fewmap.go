// Package fewmap has a map for owners of which very many have one entry or none. The first entry
// lies in the Map itself. Only a second one needs a Go map, which takes 250 to 500 bytes.
package fewmap

import (
	"iter"
	"slices"
)

// Map is a map from strings that are not empty. The zero Map is empty. It must not be copied while
// it is changed.
type Map[V any] struct {
	key   string // of the only entry; empty: there is none, or more has all entries
	value V
	more  map[string]V // two entries at least; nil: key and value have the only one
}

// Len is the number of entries.
func (m *Map[V]) Len() int {
	if m.more == nil && m.key != "" {
		return 1
	}
	return len(m.more)
}

// Get returns the value of a key; the zero V if there is none.
func (m *Map[V]) Get(key string) (v V) {
	if m.more == nil && key == m.key {
		return m.value
	}
	return m.more[key]
}

// Put sets the value of a key, which must not be empty.
func (m *Map[V]) Put(key string, v V) {
	switch {
	case key == "":
		panic("internal error: the key is empty")
	case m.more != nil:
		m.more[key] = v
	case m.key == "" || m.key == key:
		m.key, m.value = key, v
	default:
		m.more = map[string]V{m.key: m.value, key: v}
		m.key, m.value = "", *new(V)
	}
}

// Delete removes a key, if it is there.
func (m *Map[V]) Delete(key string) {
	switch {
	case m.more == nil:
		if key == m.key {
			*m = Map[V]{}
		}
	case len(m.more) > 2:
		delete(m.more, key)
	default:
		delete(m.more, key)
		if len(m.more) == 1 {
			for key, v := range m.more {
				*m = Map[V]{key: key, value: v}
			}
		}
	}
}

// All calls yield for every entry, in any order, until yield returns false. yield must not change
// the map.
func (m *Map[V]) All(yield func(key string, v V) bool) {
	if m.more == nil && m.key != "" {
		yield(m.key, m.value)
		return
	}
	for key, v := range m.more {
		if !yield(key, v) {
			return
		}
	}
}

// InOrder lists the keys of a map, a Map or one of Go, in an order that is the same each time.
func InOrder[V any](all iter.Seq2[string, V]) (keys []string) {
	all(func(key string, _ V) bool { keys = append(keys, key); return true })
	slices.Sort(keys)
	return keys
}

// Anew gives back the memory of a map without entries: Go keeps what the most entries have taken.
func Anew[K comparable, V any](m *map[K]V) {
	if len(*m) == 0 {
		*m = map[K]V{}
	}
}
