// Package columns prints tables: cells in columns that are as wide as they must be, and a table
// that is no wider than the terminal. It prints no character that a terminal would obey, and keeps
// a bounded number of rows.
package columns

import (
	"bufio"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/show"
)

// lookahead is how many rows decide how wide the columns are. The table prints later rows as they
// come, so that very many rows cost no memory. Larger: the first rows come later. Smaller: later
// rows are wider than their columns.
const lookahead = 2000

// enough is the width that a column of text keeps when the table is too wide. Larger: more columns
// are left out. Smaller: texts are harder to recognize.
const enough = 24

// Table is one table.
type Table struct {
	out    *bufio.Writer
	titles []string
	room   int // the width of the terminal; 0: there is no bound
	widths []int
	shown  int        // the first columns are; the others do not fit
	rows   [][]string // that wait for the widths
	begun  bool       // the widths are known
}

// New begins a table of at most room columns of characters; 0: of any width. A title that begins
// with > has a column of numbers, which stand to the right. If the table is too wide, long texts
// lose their middle, and then the last columns are left out. A line at the end names these.
func New(out *bufio.Writer, room int, titles []string) *Table {
	return &Table{out: out, titles: titles, room: room}
}

// Add adds a row, which has a cell for each title. The table keeps and changes cells. An empty cell
// is a dash.
func (t *Table) Add(cells []string) {
	for i, cell := range cells {
		if cells[i] = show.Line(cell); cell == "" {
			cells[i] = "-"
		}
	}
	if t.begun {
		t.write(cells)
	} else if t.rows = append(t.rows, cells); len(t.rows) >= lookahead {
		t.begin()
	}
}

// Sort puts the rows that wait in the order of their cells. Rows that are printed already stay.
func (t *Table) Sort() {
	sort.SliceStable(t.rows, func(i, j int) bool {
		return slices.Compare(t.rows[i], t.rows[j]) < 0
	})
}

// Finish prints the rows that have waited. A table without rows is nothing.
func (t *Table) Finish() {
	if !t.begun && len(t.rows) > 0 {
		t.begin()
	}
	if t.begun && t.shown < len(t.titles) {
		left := strings.ReplaceAll(strings.Join(t.titles[t.shown:], ", "), ">", "")
		t.out.WriteString("not shown, for lack of width: " + left + "\n")
	}
}

// begin prints the titles and the rows that have waited.
func (t *Table) begin() {
	titles := make([]string, len(t.titles))
	for i, title := range t.titles {
		titles[i] = strings.TrimPrefix(title, ">")
	}
	rows := append([][]string{titles}, t.rows...)
	t.widths = make([]int, len(titles))
	for _, cells := range rows {
		for i, cell := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	t.begun, t.rows = true, nil
	t.fit()
	for _, cells := range rows {
		t.write(cells)
	}
}

// fit makes columns of text narrower, and leaves out the last columns, until the table fits.
func (t *Table) fit() {
	t.shown = len(t.widths)
	for natural := t.widths; t.room > 0; t.shown-- {
		t.widths = slices.Clone(natural)
		over := 2*(t.shown-1) - t.room
		for _, w := range t.widths[:t.shown] {
			over += w
		}
		for over > 0 {
			widest := 0
			for i, w := range t.widths[:t.shown] {
				if !strings.HasPrefix(t.titles[i], ">") && w > t.widths[widest] ||
					strings.HasPrefix(t.titles[widest], ">") {
					widest = i
				}
			}
			if t.widths[widest] <= enough {
				break
			}
			t.widths[widest]--
			over--
		}
		if over <= 0 || t.shown <= 2 {
			return
		}
	}
}

// cut takes the middle out of a text that is longer than n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 5 {
		return s
	}
	head := (n - 2) / 2
	return string(r[:head]) + "..." + string(r[len(r)-(n-3-head):])
}

func (t *Table) write(cells []string) {
	cells = cells[:t.shown]
	for i, cell := range cells {
		if t.room > 0 {
			cell = cut(cell, t.widths[i])
		}
		pad := strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(cell), 0))
		switch {
		case strings.HasPrefix(t.titles[i], ">"):
			cell = pad + cell
		case i < len(cells)-1:
			cell += pad
		}
		if i > 0 {
			t.out.WriteString("  ")
		}
		t.out.WriteString(cell)
	}
	t.out.WriteByte('\n')
}
