// Package asked knows the questions whose answers are to come, in the order in which they were
// asked. It is for answers that may be lost on their way: a question that has waited for too long
// may be asked again.
//
// The package reads no clock and has no lock: one goroutine uses a Queue and its Questions.
package asked

import "time"

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
