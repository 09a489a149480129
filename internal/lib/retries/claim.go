package retries

import (
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"time"
)

// leaseTime is how long Redis keeps a request in progress for its node. After it another request
// takes over. Larger: a retry waits longer when a node has died. Smaller: the request of a slow
// node is taken over, and its answer is made twice. A step takes at most the time after which a
// node gives up a session.
const leaseTime = 10 * time.Second

// States of a claim in Redis, and what Redis answers to a step.
const (
	stateBusy = "p"
	stateDone = "d" // before the answer
	sayOther  = "x" // the key stands for another request
)

// Claim is a request that has claimed its key, from Begin to End.
type Claim struct {
	// constant after Begin
	entry    *entry // only the table changes it
	app      string
	owner    [16]byte
	keep     time.Duration
	channels int
	channel  string

	parts int // Publish was called so often; owned by the request

	mu      sync.Mutex
	settled bool
	answer  Answer // of this request, once settled
	shared  int    // channels whose events Redis has
	stored  bool
	earlier Answer // of the request that was there before, as Redis says
}

// Several says that the request is for several channels: it takes its claim before it publishes.
func (c *Claim) Several() bool { return c.channels != 1 }

// Settle says which answer a retry shall get.
func (c *Claim) Settle(body []byte) {
	c.mu.Lock()
	c.settled, c.answer = true, newAnswer(string(body))
	c.mu.Unlock()
}

// Earlier is the answer of an earlier request, if Redis has told of one. Then this request has
// published nothing.
func (c *Claim) Earlier() (answer Answer, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.earlier, c.stored
}

// Shared says that Redis has the events for all channels, so that the answer can be stored there.
// If an event waits for Redis to come back, a retry on another node publishes the event sooner.
func (c *Claim) Shared() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shared == c.channels
}

// outcome is the answer for a retry. stored says that it is an earlier request's.
func (c *Claim) outcome() (answer Answer, stored bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stored {
		return c.earlier, true
	}
	return c.answer, false
}

// stepKind says what a step is for.
type stepKind uint8

const (
	stepTake    stepKind = iota // claims a request for several channels
	stepPublish                 // claims a request for one channel, with its event
	stepPart                    // notes that a channel of several has its event
	stepStore                   // keeps the answer
	stepFree                    // frees the key
)

// Step is one command of a claim to Redis. It may be sent again.
type Step struct {
	claim *Claim
	kind  stepKind
	part  int
	heard bool // Redis has its event; guarded by the claim's mu
}

// Take claims a request for several channels, before it publishes.
func (c *Claim) Take() *Step { return &Step{claim: c, kind: stepTake} }

// Publish goes with the event for the next channel of the request. Every request for the same
// thing asks for its channels in the same order. It is nil if c is nil.
func (c *Claim) Publish() *Step {
	if c == nil {
		return nil
	}
	if c.parts++; c.Several() {
		return &Step{claim: c, kind: stepPart, part: c.parts}
	}
	return &Step{claim: c, kind: stepPublish}
}

// Store keeps the answer, which must be settled.
func (c *Claim) Store() *Step { return &Step{claim: c, kind: stepStore} }

// Free frees the key of a request that has failed. The notes of its channels stay, so that a retry
// does not publish to them again: until they expire, another request with the key gets ErrOther.
func (c *Claim) Free() *Step { return &Step{claim: c, kind: stepFree} }

// Home is what the bucket of the claim follows from: the request's channel, or, with several, the
// name of the claim.
func (s *Step) Home() string {
	if !s.claim.Several() {
		return s.claim.channel
	}
	return s.hex()
}

// hex is the name of the claim.
func (s *Step) hex() string { return hex.EncodeToString(s.claim.entry.name[:]) }

// Key is the end of the name of the step's key in Redis.
func (s *Step) Key() string {
	key := s.claim.app + ":" + s.hex()
	if s.kind == stepPart {
		key += ":" + strconv.Itoa(s.part)
	}
	return key
}

// Args are the first arguments of the script: fingerprint, owner, state, and how long in
// milliseconds the claim is kept and how long it may be in progress.
func (s *Step) Args() []string {
	c := s.claim
	return []string{string(c.entry.fingerprint[:]), string(c.owner[:]), s.state(),
		strconv.FormatInt(c.keep.Milliseconds(), 10),
		strconv.FormatInt(leaseTime.Milliseconds(), 10)}
}

// state is the state that the claim shall have; empty: none. An event that was held while Redis was
// away may come with an answer that was not known when it was published.
func (s *Step) state() string {
	switch s.kind {
	case stepPart:
		return stateDone
	case stepFree:
		return ""
	case stepPublish, stepStore:
		s.claim.mu.Lock()
		defer s.claim.mu.Unlock()
		if s.claim.settled {
			return stateDone + s.claim.answer.Body
		}
	}
	return stateBusy
}

// Heard takes what Redis has answered, "" if that is a number: the event was published. The error
// says that the request must not take effect. A nil Step hears nothing.
func (s *Step) Heard(reply string) error {
	if s == nil || s.kind == stepStore || s.kind == stepFree {
		return nil
	}
	c := s.claim
	answer, done := strings.CutPrefix(reply, stateDone)
	switch {
	case reply == sayOther:
		return ErrOther
	case reply == stateBusy:
		return ErrBusy
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if done && s.kind != stepPart {
		c.stored, c.earlier = true, Answer{Body: answer, Long: answer == ""}
	}
	if s.kind != stepTake && !s.heard {
		s.heard = true
		c.shared++
	}
	return nil
}
