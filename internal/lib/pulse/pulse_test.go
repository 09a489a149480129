package pulse

import "testing"

func TestJudge(t *testing.T) {
	r := Rules{Interval: 60, Timeout: 30, Authorize: 10}
	for _, tt := range []struct {
		about   string
		p       Peer
		now     uint32
		v       Verdict
		due     uint32
		overdue bool
	}{
		{"it has just spoken", Peer{Seen: 100, Authorized: true}, 100, Fine, 160, false},
		{"nearly the interval", Peer{Seen: 100, Authorized: true}, 159, Fine, 160, false},
		{"silent for the interval", Peer{Seen: 100, Authorized: true}, 160, Ask, 190, false},
		{"it was asked just now", Peer{Seen: 100, Asked: 160, Waits: true, Authorized: true}, 160,
			Waits, 190, false},
		{"it has time left", Peer{Seen: 100, Asked: 160, Waits: true, Authorized: true}, 189, Waits,
			190, false},
		{"its time is up", Peer{Seen: 100, Asked: 160, Waits: true, Authorized: true}, 190, Silent,
			190, true},
		{"it answered in the same tick", Peer{Seen: 160, Asked: 160, Waits: true, Authorized: true},
			190, Fine, 220, true},
		{"it answered, and is silent again",
			Peer{Seen: 161, Asked: 160, Waits: true, Authorized: true}, 221, Ask, 251, true},
		{"it has time to be authorized", Peer{Since: 100, Seen: 100}, 110, Fine, 111, false},
		{"it is not authorized", Peer{Since: 100, Seen: 110}, 111, Unauthorized, 111, true},
		{"it is authorized", Peer{Since: 100, Seen: 110, Authorized: true}, 111, Fine, 170, false},
		{"not authorized, and not silent", Peer{Since: 100, Seen: 90, Asked: 95, Waits: true}, 111,
			Unauthorized, 111, true},
		{"ticks wrap", Peer{Seen: 1<<32 - 10, Authorized: true}, 40, Fine, 50, false},
		{"it was asked before ticks wrap",
			Peer{Seen: 1<<32 - 70, Asked: 1<<32 - 10, Waits: true, Authorized: true}, 20,
			Silent, 20, true},
	} {
		v, due := r.Judge(tt.p, tt.now)
		if overdue := r.Overdue(tt.p, tt.now); v != tt.v || due != tt.due || overdue != tt.overdue {
			t.Errorf("%s: got %d, look at %d, overdue %v", tt.about, v, due, overdue)
		}
	}
}

// Whoever is asked often is looked at again before the answer is late.
func TestShortInterval(t *testing.T) {
	r := Rules{Interval: 5, Timeout: 30}
	if v, due := r.Judge(Peer{Seen: 100}, 105); v != Ask || due != 110 {
		t.Errorf("got %d, look at %d", v, due)
	}
	if r.Overdue(Peer{}, 1<<31) {
		t.Error("nobody must be authorized")
	}
}

func TestLook(t *testing.T) {
	r := Rules{Authorize: 10}
	for _, tt := range []struct {
		p         Peer
		due, want uint32
	}{
		{Peer{Since: 5}, 60, 16}, {Peer{Since: 5}, 12, 12},
		{Peer{Since: 5, Authorized: true}, 60, 60},
	} {
		if got := r.Look(tt.p, tt.due); got != tt.want {
			t.Errorf("%+v: got %d, want %d", tt.p, got, tt.want)
		}
	}
}
