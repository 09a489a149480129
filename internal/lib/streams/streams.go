// Package streams lets one process ask another, and gets a stream of bytes back, over a bus of
// messages that may get lost. A message is a text: a verb, a token and a number in its first line,
// then a body.
//
//	asker     ask T 0     begins a stream; the body is the question, and T is made up
//	answerer  here T 0    may answer; the body is the answerer's name
//	asker     go T n      has taken n parts; the first go lets the answerer begin
//	answerer  part T n    the n-th part of the stream, from 1 on
//	answerer  beat T 0    still at it
//	answerer  last T n    the end, after n parts; the body says what has failed, or is empty
//	asker     end T 0     wants no more
//
// An answerer does nothing before the first go. A process that was frozen therefore does nothing
// late: its "here" comes to an asker that has given it up.
//
// Everything is bounded: the parts that the asker has not taken, so that a reader that stalls stops
// the answerer; the time in which the answerer may be silent; the time for which it goes on without
// a sign of the asker, so that it ends when the asker dies; the answers at a time. Messages are
// untrusted. A message with a token that no open stream has, from another process than the one that
// was asked, or with a part that was not to come, counts for nothing or ends its own stream.
package streams

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// silence is how long an answerer may be silent. Larger: a dead process delays its asker for
	// longer. Smaller: a process that is busy is given up.
	silence = 2 * time.Second
	// beatInterval is how often an answerer shows that it is at it. Larger: one message that is
	// late ends the stream. Smaller: more messages.
	beatInterval = silence / 4
	// lease is how long an answerer goes on without a sign of the asker. Larger: it works longer
	// for an asker that has died. Smaller: an asker that is busy loses its streams.
	lease = 5 * time.Second
	// goInterval is how often the asker gives such a sign. Larger: one that is late ends the
	// stream. Smaller: more messages.
	goInterval = lease / 5
	// window is how many parts may be on their way or wait for the reader, and maxPart the bytes of
	// one. Larger: a stalled reader costs more memory, here and on the bus. Smaller: a stream waits
	// more often for the other side.
	window  = 4
	maxPart = 32 << 10
	// maxMessage bounds a message; a longer one is not read. Larger: a stranger's message costs
	// more. Smaller: long questions are not answered.
	maxMessage = 64 << 10
	// maxAnswers bounds the answers at a time. Larger: askers cost more work at once. Smaller: they
	// are refused sooner.
	maxAnswers = 16
)

// The errors of Stream.Read that do not come from the answerer.
var (
	ErrNobody = errors.New("it is not connected any more")
	ErrSilent = errors.New("it has not answered for 2 s; it is frozen, or too old to understand")
	ErrLost   = errors.New("it has sent something that did not arrive, or does not fit")
)

// Bus carries messages.
type Bus interface {
	// Tell sends a message to a process, in the order of the calls. It does not wait. done is
	// called once, later; got says that somebody listens there.
	Tell(to, text string, done func(got bool, err error))
}

// Answer answers a question of another process: it writes to w until it returns. ctx ends when the
// asker has gone or wants no more; then writing fails. The error is for the asker.
type Answer func(ctx context.Context, from, question string, w io.Writer) error

// Streams are the streams of a process. Any goroutine may call the methods.
type Streams struct {
	bus    Bus
	name   string
	answer Answer

	mu        sync.Mutex
	asked     map[string]*Stream    // by token
	answering map[[2]string]*answer // by asker and token
}

// New makes the Streams of a process. name is what the process is called by others.
func New(bus Bus, name string, a Answer) *Streams {
	return &Streams{bus: bus, name: name, answer: a, asked: map[string]*Stream{},
		answering: map[[2]string]*answer{}}
}

// Told takes a message that has come over the bus, and says from whom. It does not wait.
func (s *Streams) Told(from, text string) {
	m, ok := parse(text)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.verb == "ask" {
		s.beginLocked(from, &m)
	} else if a := s.answering[[2]string{from, m.token}]; a != nil {
		a.handleLocked(&m)
	} else if st := s.asked[m.token]; st != nil && st.of == from {
		st.handleLocked(&m)
	}
}

// --- Messages ---

// message is one message of the bus.
type message struct {
	verb, token string
	number      int
	body        string
}

func verbs() []string { return []string{"ask", "here", "go", "part", "beat", "last", "end"} }

func (m message) text() string {
	return fmt.Sprintf("%s %s %d\n%s", m.verb, m.token, m.number, m.body)
}

// parse reads a message; ok is false for any other text.
func parse(text string) (m message, ok bool) {
	if len(text) > maxMessage {
		return m, false
	}
	head, body, found := strings.Cut(text, "\n")
	f := strings.Split(head, " ")
	if !found || len(f) != 3 || !slices.Contains(verbs(), f[0]) || len(f[1]) != tokenLength {
		return m, false
	}
	n, err := strconv.ParseUint(f[2], 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != f[2] {
		return m, false
	}
	return message{f[0], f[1], int(n), body}, true
}

// tokenLength is the length of the texts of rand.Text.
const tokenLength = 26

// --- Asking ---

// Stream is the answer of another process. One goroutine reads it.
type Stream struct {
	s         *Streams
	of, token string
	parts     chan string // closed at the end; then err says why

	rest string // of the part that is being read; owned by the reader

	// guarded by s.mu
	name  string
	got   int // parts that came
	taken int // parts that were read
	heard time.Time
	err   error       // nil: it has not ended
	watch *time.Timer // silence
	pulse *time.Timer // goInterval
}

// Ask asks a process. The caller reads the answer and closes it.
func (s *Streams) Ask(of, question string) *Stream {
	st := &Stream{s: s, of: of, token: rand.Text(), parts: make(chan string, window),
		heard: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[st.token] = st
	st.watch = time.AfterFunc(silence, st.look)
	st.pulse = time.AfterFunc(goInterval, st.goOn)
	s.bus.Tell(of, message{"ask", st.token, 0, question}.text(), func(got bool, err error) {
		if err == nil && !got {
			err = ErrNobody
		}
		if err != nil {
			st.fail(err)
		}
	})
	return st
}

// Name is what the answerer is called; empty: it has not said so.
func (st *Stream) Name() string {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	return st.name
}

// Read is part of io.Reader. The error is io.EOF when all was told.
func (st *Stream) Read(b []byte) (n int, err error) {
	for st.rest == "" {
		part, ok := <-st.parts
		st.s.mu.Lock()
		if !ok {
			defer st.s.mu.Unlock()
			return 0, st.err
		}
		st.taken++
		st.tellLocked("go", st.taken)
		st.s.mu.Unlock()
		st.rest = part
	}
	n = copy(b, st.rest)
	st.rest = st.rest[n:]
	return n, nil
}

// Close ends the stream: a Read that waits fails.
func (st *Stream) Close() { st.fail(io.ErrClosedPipe) }

// tellLocked tells the answerer something, unless the stream has ended.
func (st *Stream) tellLocked(verb string, number int) {
	if st.err == nil {
		st.s.bus.Tell(st.of, message{verb, st.token, number, ""}.text(), func(bool, error) {})
	}
}

func (st *Stream) fail(why error) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.failLocked(why)
}

// failLocked ends the stream, and tells the answerer.
func (st *Stream) failLocked(why error) {
	st.tellLocked("end", 0)
	st.endLocked(why)
}

func (st *Stream) endLocked(why error) {
	if st.err != nil {
		return
	}
	st.err = why
	delete(st.s.asked, st.token)
	st.watch.Stop()
	st.pulse.Stop()
	close(st.parts)
}

// look ends a stream whose answerer is silent.
func (st *Stream) look() {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if left := silence - time.Since(st.heard); left > 0 {
		st.watch.Reset(left)
	} else {
		st.failLocked(ErrSilent)
	}
}

// goOn shows the answerer that this process is there.
func (st *Stream) goOn() {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.name != "" && st.err == nil {
		st.tellLocked("go", st.taken)
	}
	if st.err == nil {
		st.pulse.Reset(goInterval)
	}
}

// handleLocked takes a message of the answerer.
func (st *Stream) handleLocked(m *message) {
	st.heard = time.Now()
	switch m.verb {
	case "here":
		if st.name == "" {
			st.name = m.body
			st.tellLocked("go", 0)
		}
	case "part":
		if m.number != st.got+1 || len(m.body) > maxPart || len(st.parts) == window {
			st.failLocked(ErrLost)
			return
		}
		st.got++
		st.parts <- m.body
	case "last":
		switch {
		case m.number != st.got:
			st.endLocked(ErrLost)
		case m.body != "":
			st.endLocked(errors.New(m.body))
		default:
			st.endLocked(io.EOF)
		}
	}
}

// --- Answering ---

// answer is an answer that this process gives.
type answer struct {
	s         *Streams
	to, token string
	ctx       context.Context
	end       context.CancelFunc
	lease     *time.Timer
	news      chan struct{} // something below has changed

	// guarded by s.mu
	begun bool
	sent  int // parts
	taken int // parts that the asker has read
}

// beginLocked begins to answer, or refuses.
func (s *Streams) beginLocked(from string, m *message) {
	key := [2]string{from, m.token}
	if s.answering[key] != nil {
		return
	}
	a := &answer{s: s, to: from, token: m.token, news: make(chan struct{}, 1)}
	if len(s.answering) >= maxAnswers {
		a.tell("last", 0, "it answers too many questions; try again later")
		return
	}
	a.ctx, a.end = context.WithCancel(context.Background())
	a.lease = time.AfterFunc(lease, a.end)
	s.answering[key] = a
	go a.serve(m.body)
}

// handleLocked takes a message of the asker.
func (a *answer) handleLocked(m *message) {
	switch m.verb {
	case "go":
		a.begun, a.taken = true, max(a.taken, min(m.number, a.sent))
		a.lease.Reset(lease)
		select {
		case a.news <- struct{}{}:
		default:
		}
	case "end":
		a.end()
	}
}

// tell sends a message to the asker. If nobody listens there, the answer ends.
func (a *answer) tell(verb string, number int, body string) {
	a.s.bus.Tell(a.to, message{verb, a.token, number, body}.text(), func(got bool, err error) {
		if a.end != nil && (!got || err != nil) {
			a.end()
		}
	})
}

// serve answers one question.
func (a *answer) serve(question string) {
	defer func() {
		a.end()
		a.lease.Stop()
		a.s.mu.Lock()
		delete(a.s.answering, [2]string{a.to, a.token})
		a.s.mu.Unlock()
	}()
	a.tell("here", 0, a.s.name)
	if _, err := a.room(0); err != nil {
		return // nobody waits
	}
	var beating sync.WaitGroup
	beating.Go(a.beat)
	why := ""
	if err := a.s.answer(a.ctx, a.to, question, a); err != nil {
		why = err.Error()
	}
	a.s.mu.Lock()
	sent := a.sent
	a.s.mu.Unlock()
	a.tell("last", sent, why[:min(len(why), maxPart)])
	a.end()
	beating.Wait()
}

func (a *answer) beat() {
	every := time.NewTicker(beatInterval)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			a.tell("beat", 0, "")
		case <-a.ctx.Done():
			return
		}
	}
}

// Write is part of io.Writer. It waits until the asker has taken enough.
func (a *answer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		number, err := a.room(1)
		if err != nil {
			return n, err
		}
		part := b[n:min(len(b), n+maxPart)]
		a.tell("part", number, string(part))
		n += len(part)
	}
	return n, nil
}

// room waits until there is room for parts, and counts them as sent. number is that of the last.
func (a *answer) room(parts int) (number int, err error) {
	for {
		if err := a.ctx.Err(); err != nil {
			return 0, err
		}
		a.s.mu.Lock()
		free := a.begun && a.sent+parts-a.taken <= window
		if free {
			a.sent += parts
			number = a.sent
		}
		a.s.mu.Unlock()
		if free {
			return number, nil
		}
		select {
		case <-a.news:
		case <-a.ctx.Done():
		}
	}
}
