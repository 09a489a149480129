package asked

import (
	"testing"
	"time"
)

// TestQueue asks three questions, one of which is answered, and finds the others when they have
// waited for too long.
func TestQueue(t *testing.T) {
	const limit = time.Second
	now := time.Unix(1, 0)
	var s Queue
	var a, b, c Question
	s.Expect(&a, now)
	s.Expect(&b, now.Add(1))
	s.Expect(&c, now.Add(2))
	if b.Came(); !b.Answered() || a.Answered() {
		t.Error("not the second question is answered")
	}
	for _, of := range []struct {
		after time.Duration
		want  *Question
	}{{limit, nil}, {limit + 1, &a}, {limit + 1, nil}, {limit + 2, nil}, {limit + 3, &c},
		{3 * limit, nil}} {
		if got := s.Overdue(now.Add(of.after), limit); got != of.want {
			t.Errorf("after %v: got %p, want %p (%p, %p, %p)", of.after, got, of.want, &a, &b, &c)
		}
	}
	if s.all != nil {
		t.Errorf("an empty queue keeps %d places", cap(s.all))
	}
}

// TestQueueAgain asks a question again: its time begins anew.
func TestQueueAgain(t *testing.T) {
	const limit = time.Second
	now := time.Unix(1, 0)
	var s Queue
	asked := 0
	q := &Question{}
	q.Ask = func() { asked++; s.Expect(q, now) }
	q.Ask()
	now = now.Add(2 * limit)
	if got := s.Overdue(now, limit); got != q {
		t.Fatalf("got %p, want the question", got)
	}
	q.Ask()
	if got := s.Overdue(now.Add(limit), limit); got != nil || asked != 2 {
		t.Errorf("it is overdue at once; asked %d times", asked)
	}
}

// TestQueueShrinks answers each of very many questions before the next: the queue stays short.
func TestQueueShrinks(t *testing.T) {
	var s Queue
	for range 10_000 {
		q := new(Question)
		s.Expect(q, time.Time{})
		q.Came()
	}
	if len(s.all) != 1 || cap(s.all) > 16 {
		t.Errorf("%d questions, %d places", len(s.all), cap(s.all))
	}
}

// TestNamed has three questions of two names.
func TestNamed(t *testing.T) {
	var s Named
	var a, again, b Question
	s.Add("a", &a)
	s.Add("a", &again)
	s.Add("b", &b)
	if s.Len() != 2 || s.Came("a") || !a.Answered() || again.Answered() {
		t.Error("the first answer is not that of the first question")
	}
	if !s.Came("a") || s.Came("a") || s.Came("c") || s.Len() != 1 {
		t.Error("the second answer is not the last one")
	}
	if s.Drop("b", &b); !b.Answered() || s.Len() != 0 || s.all != nil {
		t.Errorf("got %v after all", s.all)
	}
}
