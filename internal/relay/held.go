package relay

import "sync/atomic"

// Held counts the connections of this process whose sockets relays have. Any goroutine may call the
// methods. The zero Held has none.
type Held struct{ by [256]atomic.Int64 }

// Came counts a connection whose socket the relay of that number has; 0: none has it.
func (h *Held) Came(relay uint8) { h.by[relay].Add(1) }

// Gone undoes Came.
func (h *Held) Gone(relay uint8) { h.by[relay].Add(-1) }

// Of is how many connections there are of a relay.
func (h *Held) Of(relay uint8) int64 { return h.by[relay].Load() }

// Count is how many relays have connections, and how many these are.
func (h *Held) Count() (relays int, connections int64) {
	for i := range h.by[1:] {
		if n := h.by[1+i].Load(); n > 0 {
			relays, connections = relays+1, connections+n
		}
	}
	return relays, connections
}
