package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// linkLife is the time in which the token of a Pass can be exchanged. With a longer time more
	// people may find the link in a terminal; a shorter one ends before a person has opened it.
	linkLife = 10 * time.Minute
	// sessionLife is the time in which a page may use the console for a token. A longer time
	// leaves forgotten pages open; a shorter one interrupts a day of work.
	sessionLife = 12 * time.Hour
)

// Pass lets the holder of a link use the console for one app without the app's secret. The link has
// a token in its fragment, which browsers do not send. The page exchanges the token, once, for a
// session, and keeps the session in its memory. A Pass is safe for concurrent use.
type Pass struct {
	app   string
	token string
	until time.Time // the token can be exchanged before then

	mu      sync.Mutex
	session string // guarded by mu; empty: the token has not been exchanged
	ends    time.Time
}

// NewPass makes a pass for an app, for a page that is served on addr. Other machines may read the
// link in a log, so the pass is nil unless addr is on loopback.
func NewPass(app string, addr net.Addr, now time.Time) *Pass {
	if !loopback(addr) {
		return nil
	}
	return newPass(app, now)
}

// newPass draws the token at random, 128 bits.
func newPass(app string, now time.Time) *Pass {
	return &Pass{app: app, token: rand.Text(), until: now.Add(linkLife)}
}

// Fragment is the fragment of the link, with the token. It is empty for a nil Pass.
func (p *Pass) Fragment() string {
	if p == nil {
		return ""
	}
	return "#t=" + p.token
}

// exchange returns a session for the token. ok is false for a wrong token, for a token that was
// exchanged before, and for a token that is too old.
func (p *Pass) exchange(token string, now time.Time) (session string, ok bool) {
	right := subtle.ConstantTimeCompare([]byte(p.token), []byte(token)) == 1
	p.mu.Lock()
	defer p.mu.Unlock()
	if !right || p.session != "" || !now.Before(p.until) {
		return "", false
	}
	p.session, p.ends = rand.Text(), now.Add(sessionLife)
	return p.session, true
}

// admits says whether session is the session of p, is not over, and is for this app. A nil Pass has
// no session.
func (p *Pass) admits(session, app string, now time.Time) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	right := subtle.ConstantTimeCompare([]byte(p.session), []byte(session)) == 1
	return right && p.session != "" && app == p.app && now.Before(p.ends)
}

// enter exchanges the token of a link.
func (h *handler) enter(w http.ResponseWriter, r *http.Request) {
	q, ok := readQuestion(w, r)
	if !ok {
		return
	}
	right, ok := h.try(w, r)
	if !ok {
		return
	}
	session, ok := h.Pass.exchange(q.Token, h.Now())
	if !ok {
		h.source.Refused(r, "unauthorized", "status page: a link that is wrong, used or too old")
		refuse(w, http.StatusUnauthorized, "the link has been used, or is older than 10 minutes; "+
			"use the secret of the app")
		return
	}
	right()
	answer(w, http.StatusOK, map[string]string{"app": h.Pass.app, "session": session})
}
