package held

import (
	"slices"
	"strings"
	"testing"
)

// house is two lines of senders, and who has gone on.
type house struct {
	lines Lines[string]
	line  [2]Line[string]
	room  [2]int // for so many senders
	gone  string
	told  []string
	again map[string]int // who is held again, and in which line
	turns int            // that enough allows
}

func newHouse() *house {
	h := &house{again: map[string]int{}, turns: 1 << 20}
	for i := range h.line {
		h.line[i].Full = func() bool { return h.room[i] == 0 }
	}
	return h
}

func (h *house) release(now uint32) string {
	h.told = nil
	h.lines.Release(now, func() bool { h.turns--; return h.turns < 0 },
		func(s string) bool { return s == h.gone },
		func(s string, rest []byte) {
			h.told = append(h.told, s+"="+string(rest))
			i := int(s[0] - 'a')
			h.room[i]--
			if _, ok := h.again[s]; ok {
				delete(h.again, s)
				h.lines.Hold(&h.line[i], s, append(rest, '+'))
			}
		})
	return strings.Join(h.told, " ")
}

func (h *house) hold(senders ...string) {
	for _, s := range senders {
		rest := []byte("of " + s)
		h.lines.Hold(&h.line[s[0]-'a'], s, rest)
		clear(rest) // the line has a copy
	}
}

func TestSendersGoOnInOrder(t *testing.T) {
	h := newHouse()
	h.hold("a1", "a2", "b1", "a3")
	if h.lines.Len() != 2 {
		t.Errorf("%d lines, want 2", h.lines.Len())
	}
	for i, want := range []string{"", "a1=of a1 b1=of b1", "a2=of a2 a3=of a3", ""} {
		if h.room = [2]int{i, i}; h.release(0) != want {
			t.Errorf("step %d: got %q, want %q", i, h.told, want)
		}
	}
	if h.lines.Len() != 0 || len(h.line[0].senders) > 0 {
		t.Errorf("%d lines are left", h.lines.Len())
	}
}

// One sender of each line goes on although the time is up, so that every line gets on.
func TestTimeIsUp(t *testing.T) {
	h := newHouse()
	h.hold("a1", "a2", "a3", "b1", "b2")
	h.room, h.turns = [2]int{9, 9}, 1
	for _, want := range []string{"a1=of a1 a2=of a2 b1=of b1", "a3=of a3 b2=of b2"} {
		if h.release(0) != want {
			t.Errorf("got %q, want %q", h.told, want)
		}
	}
}

// A sender that is held again waits at the end of its line with its new rest.
func TestHeldAgain(t *testing.T) {
	h := newHouse()
	h.hold("a1", "a2")
	h.again["a1"], h.room = 0, [2]int{1, 0}
	if h.release(0) != "a1=of a1" || h.lines.Len() != 1 {
		t.Errorf("got %q, %d lines", h.told, h.lines.Len())
	}
	h.room[0] = 5
	if h.release(0) != "a2=of a2 a1=of a1+" || h.lines.Len() != 0 {
		t.Errorf("got %q, %d lines", h.told, h.lines.Len())
	}
	h.hold("a1")
	h.again["a1"] = 0
	if h.release(0) != "a1=of a1 a1=of a1+" || h.lines.Len() != 0 {
		t.Errorf("alone: got %q, %d lines", h.told, h.lines.Len())
	}
}

// Senders that have gone are forgotten once a tick, also while there is no room.
func TestGone(t *testing.T) {
	h := newHouse()
	h.hold("a1", "a2")
	h.gone = "a1"
	if h.release(0); len(h.line[0].senders) != 2 {
		t.Error("it was asked in the same tick")
	}
	if h.release(1); len(h.line[0].senders) != 1 || h.lines.Len() != 1 {
		t.Errorf("%d senders wait, want 1", len(h.line[0].senders))
	}
	h.gone = "a2"
	if h.release(2); h.lines.Len() != 0 {
		t.Error("a line without senders is kept")
	}
}

// A burst leaves no memory behind.
func TestBurst(t *testing.T) {
	h := newHouse()
	h.hold(slices.Repeat([]string{"a1"}, keepSenders*2)...)
	h.room[0] = keepSenders * 2
	if h.release(0); cap(h.line[0].senders) > keepSenders {
		t.Errorf("room for %d senders is kept", cap(h.line[0].senders))
	}
}
