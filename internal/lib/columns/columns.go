// Package columns prints tables: cells in columns that are as wide as they must be. It prints no
// character that a terminal would obey, and keeps a bounded number of rows.
package columns

import (
	"bufio"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/show"
)

// lookahead is how many rows decide how wide the columns are. The table prints later rows as they
// come, so that very many rows cost no memory. Larger: the first rows come later. Smaller: later
// rows are wider than their columns.
const lookahead = 2000

// Table is one table.
type Table struct {
	out    *bufio.Writer
	titles []string
	widths []int
	rows   [][]string // that wait for the widths
	begun  bool       // the widths are known
}

// New begins a table. A title that begins with > has a column of numbers, which stand to the right.
func New(out *bufio.Writer, titles []string) *Table { return &Table{out: out, titles: titles} }

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

// Finish prints the rows that have waited. A table without rows is nothing.
func (t *Table) Finish() {
	if !t.begun && len(t.rows) > 0 {
		t.begin()
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
	for _, cells := range rows {
		t.write(cells)
	}
}

func (t *Table) write(cells []string) {
	for i, cell := range cells {
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
