package columns

import (
	"bufio"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	out := bufio.NewWriter(&b)
	table := New(out, 0, []string{"NAME", ">N", "LAST"})
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
	table := New(out, 0, []string{"A"})
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

// TestRoom prints tables that are too wide: texts lose their middle, and columns are left out.
func TestRoom(t *testing.T) {
	long := "private-" + strings.Repeat("x", 100) + "-42"
	for room, want := range map[int]string{
		0: "A  CHANNEL" + strings.Repeat(" ", 104) + "     N       MUCH\n" +
			"7  " + long + "  1000  123456789\n",
		60: "A  CHANNEL                                      N       MUCH\n" +
			"7  private-xxxxxxxxxxx...xxxxxxxxxxxxxxx-42  1000  123456789\n",
		40: "A  CHANNEL                             N\n" +
			"7  private-xxxxxx...xxxxxxxxxxx-42  1000\nnot shown, for lack of width: MUCH\n",
		30: "A  CHANNEL\n7  private-xxxx...xxxxxxxxx-42\nnot shown, for lack of width: N, MUCH\n",
		10: "A  CHANNEL\n7  private-xxx...xxxxxxx-42\nnot shown, for lack of width: N, MUCH\n",
	} {
		var b strings.Builder
		out := bufio.NewWriter(&b)
		table := New(out, room, []string{"A", "CHANNEL", ">N", ">MUCH"})
		table.Add([]string{"7", long, "1000", "123456789"})
		table.Finish()
		out.Flush()
		if b.String() != want {
			t.Errorf("%d: got\n%s\nwant\n%s", room, b.String(), want)
		}
		for _, l := range strings.Split(b.String(), "\n") {
			if room > 38 && len(l) > room {
				t.Errorf("%d: a line of %d: %s", room, len(l), l)
			}
		}
	}
}

func TestSort(t *testing.T) {
	var b strings.Builder
	out := bufio.NewWriter(&b)
	table := New(out, 0, []string{"A", "B"})
	for _, row := range []string{"2 1", "1 2", "1 1"} {
		table.Add(strings.Fields(row))
	}
	table.Sort()
	table.Finish()
	out.Flush()
	if want := "A  B\n1  1\n1  2\n2  1\n"; b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}
