package throttle

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

// guess makes n wrong tries and returns how many were admitted.
func guess(l *Limiter, peer string, n int, now time.Time) (admitted int) {
	for range n {
		if wait, _ := l.Try(peer, now); wait == 0 {
			admitted++
		}
	}
	return admitted
}

func TestGuessingIsSlowed(t *testing.T) {
	var l Limiter
	if n := guess(&l, "192.0.2.1:1", 1000, start); n != tries {
		t.Errorf("%d wrong tries were admitted at once, want %d", n, tries)
	}
	if wait, _ := l.Try("192.0.2.1:2", start); wait <= 0 || wait > tryEvery {
		t.Errorf("the next try is in %v, want at most %v", wait, tryEvery)
	}
	if n := guess(&l, "192.0.2.1:3", 1000, start.Add(time.Minute)); n != 10 {
		t.Errorf("%d wrong tries were admitted within a minute, want 10", n)
	}
	if n := guess(&l, "192.0.2.2:1", 1, start); n != 1 {
		t.Error("the tries of one address hold back another")
	}
}

func TestRightTriesCostNothing(t *testing.T) {
	var l Limiter
	for i := range 1000 {
		wait, succeeded := l.Try("192.0.2.1:1", start)
		if wait > 0 {
			t.Fatalf("right try %d has to wait", i)
		}
		succeeded()
	}
	if n := guess(&l, "192.0.2.1:1", 1000, start); n != tries {
		t.Errorf("%d wrong tries were admitted after right ones, want %d", n, tries)
	}
}

// Many addresses together are slowed too, but not an address that has succeeded before.
func TestAllAddressesTogether(t *testing.T) {
	var l Limiter
	_, succeeded := l.Try("198.51.100.1:1", start)
	succeeded()
	admitted := 0
	for i := range 10_000 {
		admitted += guess(&l, fmt.Sprintf("10.%d.%d.1:1", i/256, i%256), 1, start)
	}
	if admitted != total {
		t.Errorf("%d wrong tries were admitted, want %d", admitted, total)
	}
	if n := len(l.peers); n > maxAddresses+1 {
		t.Errorf("%d addresses are kept", n)
	}
	if wait, _ := l.Try("198.51.100.2:1", start); wait <= 0 || wait > totalEvery {
		t.Errorf("a new address waits for %v, want at most %v", wait, totalEvery)
	}
	if wait, _ := l.Try("198.51.100.1:2", start); wait > 0 {
		t.Errorf("an address that has succeeded waits for %v", wait)
	}
	later := start.Add(time.Hour)
	for i := range 10_000 {
		guess(&l, fmt.Sprintf("10.%d.%d.2:1", i/256, i%256), 1, later)
	}
	if n := len(l.peers); n > maxAddresses+1 ||
		!l.peers[netip.MustParseAddr("198.51.100.1")].known {
		t.Errorf("%d addresses are kept later", n)
	}
}

// A try that comes back after its bucket was swept away is not counted as an address that
// is kept: addresses that succeed later would wait with the others for good.
func TestLateSuccess(t *testing.T) {
	var l Limiter
	for round := range 2 * maxKnown {
		now := start.Add(time.Duration(round) * time.Hour)
		_, succeeded := l.Try(fmt.Sprintf("198.51.100.%d:1", round), now)
		for i := range maxAddresses + 1 { // sweeps, since the try is forgotten by then
			l.Try(fmt.Sprintf("10.%d.%d.%d:1", round, i/256, i%256), now.Add(time.Minute))
		}
		l.Try("192.0.2.1:1", now.Add(time.Minute*30))
		succeeded()
	}
	kept := 0
	for _, b := range l.peers {
		if b.known {
			kept++
		}
	}
	if l.known != kept {
		t.Errorf("%d addresses are counted as known, %d are kept", l.known, kept)
	}
}

// Peers without an address share the tries of one, and none of them is known.
func TestWithoutAddress(t *testing.T) {
	var l Limiter
	_, succeeded := l.Try("@", start)
	succeeded()
	if l.known != 0 {
		t.Error("the peer of a Unix socket is known")
	}
	if n := guess(&l, "/run/x.sock", tries, start); n != tries {
		t.Errorf("%d tries were admitted", n)
	}
	if wait, _ := l.Try("@", start); wait == 0 {
		t.Error("another socket has tries of its own")
	}
}
