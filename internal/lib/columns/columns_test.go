package columns

import (
	"bufio"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	out := bufio.NewWriter(&b)
	table := New(out, []string{"NAME", ">N", "LAST"})
	table.Finish()
	out.Flush()
	if b.Len() > 0 {
		t.Errorf("a table without rows prints %q", b.String())
	}
	table.Add([]string{"größer", "7", ""})
	table.Add([]string{"b\x1b", "1000", "x"})
	table.Finish()
	table.Add([]string{"later, and longer", "1", "y"})
	out.Flush()
	want := "NAME       N  LAST\ngrößer     7  -\nb?      1000  x\nlater, and longer     1  y\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestManyRows prints more rows than are looked at for the widths.
func TestManyRows(t *testing.T) {
	var b strings.Builder
	out := bufio.NewWriter(&b)
	table := New(out, []string{"A"})
	for range lookahead + 100 {
		table.Add([]string{"a"})
	}
	if len(table.rows) > 0 {
		t.Errorf("%d rows are kept", len(table.rows))
	}
	table.Finish()
	out.Flush()
	if n := strings.Count(b.String(), "\n"); n != lookahead+101 {
		t.Errorf("%d lines", n)
	}
}
