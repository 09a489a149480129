package webhooks

import (
	"maps"

	"reverb/internal/hookentries"
	"reverb/internal/lib/heirs"
)

// settings are what tell and the workers need of an account. They never change.
type settings struct {
	Account
	kinds  Kinds    // of all hooks
	queues []*queue // of the hooks, in their order
}

// Configure gives an app another key, secret or hooks; the ID stays. What waits for a URL that
// stays is sent with the new settings. If a host has lost exactly one URL and got exactly one, as
// with a new token, what waits goes there. What waits for any other URL that is there no more is
// lost, and said.
func (a *App) Configure(account Account) {
	if a == nil {
		return
	}
	for _, say := range a.configure(account) {
		say()
	}
}

// configure is Configure, but for what is to be said, which it returns.
func (a *App) configure(account Account) (said []func()) {
	s := a.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &settings{Account: account}
	if s.heir != nil { // the queues come with Settle
		a.set.Store(next)
		return nil
	}
	a.moveLocked(account.Hooks)
	left := maps.Clone(a.queues)
	for _, h := range account.Hooks {
		address := h.Address()
		q := a.queues[address]
		if q == nil {
			q = a.newQueue()
			a.queues[address] = q
			q.tally = a.tallyLocked(placeOf(address))
			s.openLaneLocked(q, address)
		}
		delete(left, address)
		q.hook.Store(h)
		next.kinds |= h.Kinds
		next.queues = append(next.queues, q)
	}
	for address, q := range left {
		delete(a.queues, address)
		q.gone = true
		q.cancel() // the worker loses what it has
		s.loseWaitingLocked(q)
		s.noteLocked(hookentries.Entry{Kind: hookentries.EntryEnded, Lane: q.lane})
		if n := q.elsewhere.queued; n > 0 {
			said = append(said, func() {
				s.logOf(q).Warn("webhooks wait in Redis for a URL that this server has no more: a "+
					"node that has it delivers them; without one they are deleted after a week",
					"events", n)
			})
		}
	}
	a.set.Store(next)
	said = append(said, s.returnLocked(a, next)...)
	if o := s.Outbox; o != nil {
		o.Configure(a.id, account.Hooks, account.Grace, courier{a})
	}
	return said
}

// moveLocked gives what waits for a URL that is configured no more to the URL that has taken its
// place, if there is one. What waits in an Outbox stays there: other nodes may have the old one.
func (a *App) moveLocked(hooks []*Hook) {
	s := a.sender
	if s.Outbox != nil {
		return
	}
	p := s.past[a.id]
	queues, past, fresh := map[string]string{}, map[string]string{}, []string(nil)
	for address := range a.queues {
		queues[address] = placeOf(address)
	}
	if p != nil && len(hooks) > 0 {
		for hash, l := range p.Lanes {
			past[string(hash[:])] = l.Place
		}
	}
	for _, h := range hooks {
		address := h.Address()
		hash := hookentries.HashOf(address)
		if queues[address] == "" && past[string(hash[:])] == "" {
			fresh = append(fresh, address)
		}
		delete(queues, address)
		delete(past, string(hash[:]))
	}
	for was, address := range heirs.Find(queues, fresh, placeOf) {
		q := a.queues[was]
		delete(a.queues, was)
		a.queues[address] = q
		s.noteLaneLocked(a.id, q.lane, address)
	}
	for was, address := range heirs.Find(past, fresh, placeOf) {
		hash := [hookentries.HashSize]byte([]byte(was))
		l := p.Lanes[hash]
		delete(p.Lanes, hash)
		p.Lanes[hookentries.HashOf(address)] = l
		s.noteLaneLocked(a.id, l.Number, address)
	}
}
