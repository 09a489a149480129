package throttle

import (
	"fmt"
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
	if n := len(l.peers); n > maxAddresses+1 || !l.peers[network("198.51.100.1:3")].known {
		t.Errorf("%d addresses are kept later", n)
	}
}

func TestPeers(t *testing.T) {
	for peer, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1/32", "192.0.2.1": "192.0.2.1/32", "[::ffff:192.0.2.1]:80": "192.0.2.1/32",
		"[2001:db8::1]:80": "2001:db8::/64", "2001:db8:0:0:9::1": "2001:db8::/64", "[fe80::1%eth0]:80": "fe80::/64",
		"@": "invalid Prefix", "": "invalid Prefix", "/run/x.sock": "invalid Prefix",
	} {
		if got := network(peer).String(); got != want {
			t.Errorf("%q: got %s, want %s", peer, got, want)
		}
	}
}
