// Package asked knows the questions whose answers are to come, in the order in which they were
// asked. It is for answers that may be lost on their way: a question that has waited for too long
// may be asked again.
//
// The package reads no clock and has no lock: one goroutine uses a Queue and its Questions.
package asked

import (
	"slices"
	"time"
)

// Question is a question whose answer is to come.
type Question struct {
	Ask   func() // asks it
	Again bool   // it was asked again; the caller sets it
	at    time.Time
	came  bool
}

// Came notes that the answer has come, or that nobody waits for it any more.
func (q *Question) Came() { q.came = true }

// Answered says whether the answer has come.
func (q *Question) Answered() bool { return q.came }

// Queue has questions. The zero Queue is empty. An empty one keeps no memory.
type Queue struct{ all []*Question }

// Expect notes that the time of an answer begins now.
func (s *Queue) Expect(q *Question, now time.Time) {
	s.settle()
	q.at = now
	s.all = append(s.all, q)
}

// Overdue removes the oldest question without an answer, and returns it, if it has waited for
// longer than limit; nil: no question has.
func (s *Queue) Overdue(now time.Time, limit time.Duration) *Question {
	if s.settle(); len(s.all) == 0 || now.Sub(s.all[0].at) <= limit {
		return nil
	}
	q := s.all[0]
	s.drop()
	return q
}

// settle takes off the front the questions that are answered.
func (s *Queue) settle() {
	for len(s.all) > 0 && s.all[0].came {
		s.drop()
	}
}

// drop removes the first question.
func (s *Queue) drop() {
	s.all[0] = nil
	if s.all = s.all[1:]; len(s.all) == 0 {
		s.all = nil
	}
}

// Named has questions by name whose answers have only the name: an answer is that of the first
// question. The zero Named is empty. An empty one keeps no memory.
type Named struct{ all map[string][]*Question }

// Len is how many names have questions.
func (s *Named) Len() int { return len(s.all) }

// Add adds a question.
func (s *Named) Add(name string, q *Question) {
	if s.all == nil {
		s.all = make(map[string][]*Question)
	}
	s.all[name] = append(s.all[name], q)
}

// Came notes an answer. last says that no other one is to come; it is false for an answer too many.
func (s *Named) Came(name string) (last bool) {
	if len(s.all[name]) == 0 {
		return false
	}
	s.Drop(name, s.all[name][0])
	return len(s.all[name]) == 0
}

// Drop takes a question back: nobody waits for its answer.
func (s *Named) Drop(name string, q *Question) {
	q.Came()
	left := slices.DeleteFunc(s.all[name], func(other *Question) bool { return other == q })
	if s.all[name] = left; len(left) == 0 {
		delete(s.all, name)
	}
	if len(s.all) == 0 {
		s.all = nil
	}
}
