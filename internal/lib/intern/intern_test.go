package intern

import (
	"fmt"
	"sync"
	"testing"
)

func TestTable(t *testing.T) {
	var table Table
	a, b := table.Hold("a"), table.Hold("b")
	if again := table.Hold("a"); a == 0 || b == 0 || a == b || again != a || table.Hold("") != 0 ||
		table.Text(0) != "" {
		t.Errorf("got %d, %d, %d", a, b, again)
	}
	table.Drop(a)
	table.Drop(0)
	if got := table.Text(a); got != "a" {
		t.Errorf("got %q while one holds it", got)
	}
	table.Drop(a)
	c := table.Hold("c")
	if c != a || table.Text(c) != "c" || table.Text(b) != "b" {
		t.Errorf("got %d, %q, %q", c, table.Text(c), table.Text(b))
	}
}

// TestFull has more texts than are kept: those beyond have no number, and get one when
// another is dropped.
func TestFull(t *testing.T) {
	var table Table
	var numbers []uint16
	for i := range maxTexts {
		numbers = append(numbers, table.Hold(fmt.Sprint(i)))
	}
	if n := table.Hold("more"); n != 0 {
		t.Errorf("got %d", n)
	}
	if n := table.Hold("7"); n != numbers[7] {
		t.Errorf("a text that is kept has %d, want %d", n, numbers[7])
	}
	table.Drop(numbers[3])
	if n := table.Hold("more"); n != numbers[3] || table.Text(n) != "more" {
		t.Errorf("got %d, %q", n, table.Text(n))
	}
}

func TestTogether(t *testing.T) {
	var table Table
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 1000 {
				text := fmt.Sprint((g + i) % 5)
				n := table.Hold(text)
				if got := table.Text(n); got != text {
					t.Errorf("got %q, want %q", got, text)
				}
				table.Drop(n)
			}
		})
	}
	all.Wait()
	if len(table.byTxt) != 0 || len(table.free) != len(table.texts) {
		t.Errorf("%d texts are left", len(table.byTxt))
	}
}
