// Package pulse decides how long a peer may be silent: when it is asked for a sign of life, when it
// is given up, and when to look again. It also gives up a peer that does not get authorized in
// time.
//
// Times are ticks of the caller, such as seconds, which may wrap around. The package has no state
// and reads no clock.
package pulse

// Rules are what is wanted of a peer, in ticks.
type Rules struct {
	Interval  uint32 // of silence; then the peer is asked for a sign of life
	Timeout   uint32 // of silence after that; then the peer is given up
	Authorize uint32 // how long a peer may go without being authorized; 0: for ever
}

// Peer is how a peer stands.
type Peer struct {
	Since      uint32 // when it came
	Seen       uint32 // when it gave the last sign of life
	Asked      uint32 // when it was asked for one
	Waits      bool   // it was asked, and the caller has not noted an answer
	Authorized bool
}

// Verdict is what to do with a peer.
type Verdict uint8

const (
	Fine         Verdict = iota // nothing
	Waits                       // nothing: it was asked, and has time left
	Ask                         // it has been silent: it is asked now
	Silent                      // it has not answered in time: it is given up
	Unauthorized                // it has not been authorized in time: it is given up
)

// Overdue says that p would be given up, if no sign of life waits to be read.
func (r Rules) Overdue(p Peer, now uint32) bool {
	return r.unauthorized(p, now) || p.Waits && now-p.Asked >= r.Timeout
}

// unauthorized counts one tick more, because ticks are cut off.
func (r Rules) unauthorized(p Peer, now uint32) bool {
	return !p.Authorized && r.Authorize > 0 && now-p.Since > r.Authorize
}

// Judge says what to do with p, and when to look again.
func (r Rules) Judge(p Peer, now uint32) (v Verdict, due uint32) {
	waits := p.Waits && int32(p.Seen-p.Asked) < 0
	switch {
	case r.unauthorized(p, now):
		return Unauthorized, now
	case waits && now-p.Asked >= r.Timeout:
		return Silent, now
	case waits:
		return Waits, r.Look(p, p.Asked+r.Timeout)
	case now-p.Seen < r.Interval:
		return Fine, r.Look(p, p.Seen+r.Interval)
	}
	return Ask, r.Look(p, now+min(r.Timeout, r.Interval)) // the answer may come before it is late
}

// Look says when to look at p: at due, or before that if p must be authorized by then.
func (r Rules) Look(p Peer, due uint32) uint32 {
	if !p.Authorized && r.Authorize > 0 {
		due = min(due, p.Since+r.Authorize+1)
	}
	return due
}
