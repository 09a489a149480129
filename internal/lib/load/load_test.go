package load

import "testing"

func TestClaims(t *testing.T) {
	a, b := new(Loop), new(Loop)
	s := NewLoops([]*Loop{a, b}, 40)
	a.Add(1000, 10)
	b.Add(500, 3)
	if s.Claimed() != 1000+500+2*MessageCost+13*40 || a.Backlog() != 1000+MessageCost ||
		a.Owed() != 10 {
		t.Errorf("%d bytes are claimed, backlog %d, owed %d", s.Claimed(), a.Backlog(), a.Owed())
	}
	a.NoteLinks(10) // delivered: the links are there before the message is counted off
	a.Done(1000, 10)
	a.NoteQueued(7000)
	if s.Claimed() != 500+MessageCost+13*40 || a.Backlog() != 0 || a.Owed() != 0 ||
		a.Queued() != 7000 || s.QueueMemory() != 7000+10*40 {
		t.Errorf("%d bytes are claimed, queues take %d", s.Claimed(), s.QueueMemory())
	}
}

func TestRoom(t *testing.T) {
	l := new(Loop)
	s := NewLoops([]*Loop{l}, 40)
	if l.Add(LeastRoom*10, 0); s.Crowded() {
		t.Error("crowded without a limit")
	}
	s.SetRoom(s.Claimed(), 0)
	if l.Add(LeastRoom-MessageCost, 0); s.Crowded() {
		t.Error("crowded although there is the least room")
	}
	if l.Add(0, 0); !s.Crowded() {
		t.Error("not crowded, although the least room is used up")
	}
	if s.SetRoom(s.Claimed(), 3*LeastRoom); s.Crowded() {
		t.Error("crowded although there is room")
	}
}

func TestOverloaded(t *testing.T) {
	a, b := new(Loop), new(Loop)
	s := NewLoops([]*Loop{a, b}, 40)
	if b.Add(maxBacklogBytes-MessageCost, 1); s.Overloaded() {
		t.Error("overloaded at the bound")
	}
	if b.Add(0, 0); !s.Overloaded() {
		t.Error("not overloaded above the bound")
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	l := new(Loop)
	s := NewLoops([]*Loop{l}, 40)
	if n := testing.AllocsPerRun(100, func() {
		l.Add(10, 1)
		l.NoteLinks(1)
		l.Done(10, 1)
		if s.Overloaded() || s.Crowded() {
			t.Fatal("one message is too much")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
