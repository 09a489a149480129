// Package intern keeps texts that very many hold, once each, for as long as somebody holds
// them. A text is held as a number of two bytes.
//
// A Table is bounded: when it is full of texts that are held, a further one is held as 0,
// which stands for no text. So whoever invents texts takes the room of others only while it
// holds what it has invented.
package intern

import "sync"

// Table keeps texts. The zero Table is ready. Everybody may call its methods.
type Table struct {
	mu    sync.Mutex
	byTxt map[string]uint16
	texts []entry // at number-1
	free  []uint16
}

type entry struct {
	text    string
	holders int
}

// maxTexts is how many texts a Table keeps. The texts are what libraries call themselves, so
// there are some dozens; more would let strangers fill memory.
const maxTexts = 1024

// Hold is the number of a text, which somebody holds from now on; 0 for an empty text, and
// where no more can be kept.
func (t *Table) Hold(text string) (number uint16) {
	if text == "" {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	number = t.byTxt[text]
	switch n := len(t.free); {
	case number != 0:
	case n > 0:
		number, t.free = t.free[n-1], t.free[:n-1]
	case len(t.texts) < maxTexts:
		t.texts = append(t.texts, entry{})
		number = uint16(len(t.texts))
	default:
		return 0
	}
	if t.byTxt == nil {
		t.byTxt = map[string]uint16{}
	}
	e := &t.texts[number-1]
	if e.holders == 0 {
		t.byTxt[text], e.text = number, text
	}
	e.holders++
	return number
}

// Drop says that somebody does not hold a text any more.
func (t *Table) Drop(number uint16) {
	if number == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.texts[number-1]
	if e.holders--; e.holders == 0 {
		delete(t.byTxt, e.text)
		e.text = ""
		t.free = append(t.free, number)
	}
}

// Text is the text that a number stands for, which somebody holds.
func (t *Table) Text(number uint16) string {
	if number == 0 {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.texts[number-1].text
}
