package upgrade

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// shelf has texts by name, and one text.
type shelf struct {
	by    map[string]string
	title string
	notes [][]byte
}

func (s *shelf) sections() Sections {
	notEmpty := func(b []byte) bool { return len(b) > 0 }
	return Sections{
		Each("book", slices.Values(slices.Sorted(maps.Keys(s.by))),
			func(name string) string { return name },
			func(id string) (string, bool) { _, ok := s.by[id]; return id, ok },
			func(name string) []byte { return []byte(s.by[name]) },
			func(name string, b []byte) bool { s.by[name] = string(b); return notEmpty(b) }),
		One("title", func() []byte { return []byte(s.title) },
			func(b []byte) bool { s.title = string(b); return notEmpty(b) }),
		Many("note", func() [][]byte { return s.notes },
			func(b []byte) bool { s.notes = append(s.notes, b); return notEmpty(b) }),
	}
}

// What is given comes back; what the taker does not have, or does not know, is left out.
func TestSections(t *testing.T) {
	from := &shelf{map[string]string{"a": "one", "b": "two", "c": "three"}, "numbers",
		[][]byte{{7}, {8}}}
	to := &shelf{map[string]string{"a": "", "c": "", "d": "four"}, "", nil}
	taker, names := to.sections(), ""
	err := from.sections().Give(func(name string, state []byte, _ ...int) error {
		names += name + " "
		return taker.Take(name, state)
	})
	if want := "book book book title note note "; err != nil || names != want {
		t.Errorf("got %q and %v, want %q", names, err, want)
	}
	if got, want := fmt.Sprint(*to), "{map[a:one c:three d:four] numbers [[7] [8]]}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := taker.Take("later", []byte("x")); err != nil {
		t.Errorf("a name that nobody knows: %v", err)
	}
}

// A record that makes no sense is an error, and so is what send says.
func TestBadSections(t *testing.T) {
	all := (&shelf{by: map[string]string{"a": "one"}}).sections()
	for _, c := range []struct{ name, state string }{{"title", ""}, {"book", ""}, {"book", "\x05a"},
		{"book", "\x01a"}} {
		if all.Take(c.name, []byte(c.state)) == nil {
			t.Errorf("%s %q is taken", c.name, c.state)
		}
	}
	for _, fails := range []string{"book", "title"} {
		err := all.Give(func(name string, _ []byte, _ ...int) error {
			if name == fails {
				return errors.New("lost at " + name)
			}
			return nil
		})
		if err == nil || !strings.HasSuffix(err.Error(), fails) {
			t.Errorf("%s: got %v", fails, err)
		}
	}
}
