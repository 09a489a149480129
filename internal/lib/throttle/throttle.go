// Package throttle slows the guessing of a secret: each address has so many tries that
// fail, and all addresses together have so many more. Tries that succeed cost nothing,
// and an address that has succeeded is not held back by what others do.
package throttle

import (
	"net/netip"
	"sync"
	"time"

	"reverb/internal/lib/addresses"
)

const (
	tries      = 10              // that may fail in a row, of one address
	tryEvery   = 6 * time.Second // one more, of one address
	total      = 100             // that may fail in a row, of all addresses
	totalEvery = time.Second / 2 // one more, of all addresses

	maxAddresses = 1024 // that are told apart; above it the rest share the tries of one
	maxKnown     = 64   // of them that have succeeded; above it a further one waits with the others
)

// Limiter counts tries. The zero Limiter is ready. All methods may be called by any
// goroutine.
type Limiter struct {
	mu    sync.Mutex
	peers map[netip.Addr]*bucket // by addresses.Of; the rest share the one of no address
	known int                    // of peers
	all   bucket
	swept time.Time
}

// bucket holds tries that are left.
type bucket struct {
	peer  netip.Addr
	used  float64 // tries that are not yet forgotten
	at    time.Time
	known bool
}

// wait forgets what is long ago and returns how long it is until a try is left.
func (b *bucket) wait(now time.Time, burst float64, every time.Duration) time.Duration {
	if d := now.Sub(b.at); d > 0 {
		b.used, b.at = max(b.used-float64(d)/float64(every), 0), now
	}
	if b.used <= burst-1 {
		return 0
	}
	return time.Duration((b.used - burst + 1) * float64(every))
}

// Try begins a try of peer, of whatever form that is: an address with or without a port,
// or the name of a socket. It counts as failed until succeeded is called. If wait is
// above 0 there is no try left, succeeded is nil, and wait is how long until there is
// one.
func (l *Limiter) Try(peer string, now time.Time) (wait time.Duration, succeeded func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, _ := addresses.Of(peer) // no address where it is none
	b := l.find(from, now)
	wait = b.wait(now, tries, tryEvery)
	if all := l.all.wait(now, total, totalEvery); !b.known {
		wait = max(wait, all)
	}
	if wait > 0 {
		return wait, nil
	}
	b.used++
	if !b.known {
		l.all.used++
	}
	return 0, func() { l.succeeded(b) }
}

func (l *Limiter) succeeded(b *bucket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.used = max(b.used-1, 0)
	if !b.known {
		l.all.used = max(l.all.used-1, 0)
	}
	// A try that took long may come back to a bucket that was swept away meanwhile.
	if kept := l.peers[b.peer] == b && b.peer.IsValid(); kept && !b.known && l.known < maxKnown {
		b.known = true
		l.known++
	}
}

// find returns the bucket of a peer, or the one that the rest share.
func (l *Limiter) find(peer netip.Addr, now time.Time) *bucket {
	if b := l.peers[peer]; b != nil {
		return b
	}
	if l.peers == nil {
		l.peers = map[netip.Addr]*bucket{}
	}
	if len(l.peers) >= maxAddresses && now.Sub(l.swept) >= tryEvery {
		l.swept = now
		for p, b := range l.peers {
			if b.wait(now, tries, tryEvery); b.used == 0 && !b.known {
				delete(l.peers, p)
			}
		}
	}
	if len(l.peers) >= maxAddresses {
		if peer = (netip.Addr{}); l.peers[peer] != nil {
			return l.peers[peer]
		}
	}
	b := &bucket{peer: peer, at: now}
	l.peers[peer] = b
	return b
}
