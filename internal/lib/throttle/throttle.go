// Package throttle slows the guessing of a secret. It bounds the failed tries of each address, and
// those of all addresses together. Tries that succeed cost nothing, and the tries of others do not
// hold back an address that has succeeded.
package throttle

import (
	"net/netip"
	"sync"
	"time"

	"reverb/internal/lib/addresses"
)

const (
	// tries bounds the tries of one address that fail in a row, and tryEvery is how often one more
	// is allowed after that. More tries: a guesser is faster. Fewer: a person who mistypes waits.
	tries    = 10
	tryEvery = 6 * time.Second
	// total and totalEvery bound the failed tries of all addresses in the same way. More tries: a
	// guesser with many addresses is faster. Fewer: such a guesser keeps everybody else out.
	total      = 100
	totalEvery = time.Second / 2
	// maxAddresses bounds the addresses that are told apart; further ones share one bucket. Larger:
	// more memory. Smaller: strangers share a bucket sooner.
	maxAddresses = 1024
	// maxKnown bounds the addresses that have succeeded and are kept apart. Larger: more memory.
	// Smaller: more operators wait while somebody guesses.
	maxKnown = 64
)

// Limiter counts tries. The zero Limiter has seen none. Any goroutine may call the methods.
type Limiter struct {
	mu sync.Mutex
	// by addresses.Of; further addresses share the bucket of the zero Addr
	peers map[netip.Addr]*bucket
	known int // of peers
	all   bucket
	swept time.Time
}

// bucket counts the failed tries of an address.
type bucket struct {
	peer  netip.Addr
	used  float64 // failed tries that are not forgotten yet
	at    time.Time
	known bool
}

// wait forgets old tries and returns how long it takes until a try is left.
func (b *bucket) wait(now time.Time, burst float64, every time.Duration) time.Duration {
	if d := now.Sub(b.at); d > 0 {
		b.used, b.at = max(b.used-float64(d)/float64(every), 0), now
	}
	if b.used <= burst-1 {
		return 0
	}
	return time.Duration((b.used - burst + 1) * float64(every))
}

// Try begins a try of peer: an address with or without a port, or the name of a Unix socket. The
// try counts as failed until succeeded is called. If no try is left, succeeded is nil and wait is
// how long it takes until there is one; otherwise wait is 0.
func (l *Limiter) Try(peer string, now time.Time) (wait time.Duration, succeeded func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, _ := addresses.Of(peer) // the zero Addr if peer has no address
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
	// The bucket of a long try may have been swept away meanwhile.
	if kept := l.peers[b.peer] == b && b.peer.IsValid(); kept && !b.known && l.known < maxKnown {
		b.known = true
		l.known++
	}
}

// find returns the bucket of a peer, or the bucket that further addresses share.
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
