// Package names holds lists of names that an operator has written: whole names, and beginnings of
// names, and says which names are meant.
package names

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"reverb/internal/lib/show"
)

// List is a list of names. It never changes, and any number of goroutines may use it. The zero List
// has every name.
//
// texts are sorted, and no beginning stands before another text that it begins. So everything
// between a beginning and a name that it begins would begin with it too, and is not there: of all
// texts only the last one that is not above a name can mean it.
type List struct {
	texts []string
	open  []bool // of the text at this place: it is the beginning of names
}

// Parse reads names, comma-separated. A name may end in *, which stands for anything, also for
// nothing. Spaces around a name do not count. The error says which name is wrong, in one line.
func Parse(s string) (List, error) {
	var exact, prefixes []string
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimSpace(name)
		text, open := strings.CutSuffix(name, "*")
		switch {
		case name == "":
			return List{}, errors.New("a name between two commas is missing; leave the comma out")
		case strings.Contains(text, "*"):
			return List{}, fmt.Errorf("%s: * can stand only at the end of a name, such as news-*",
				show.Quoted(name))
		case strings.ContainsFunc(text, odd):
			return List{}, fmt.Errorf("%s: a name has no spaces; write a comma between names, "+
				"such as news,chat-*", show.Quoted(name))
		case open:
			prefixes = append(prefixes, text)
		default:
			exact = append(exact, text)
		}
	}
	return listOf(exact, prefixes), nil
}

// odd says that a character cannot stand in a name.
func odd(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// listOf sorts, and leaves out what another beginning says already.
func listOf(exact, prefixes []string) (l List) {
	slices.Sort(prefixes) // a beginning stands directly before what it begins
	for _, p := range prefixes {
		if n := len(l.texts); n == 0 || !strings.HasPrefix(p, l.texts[n-1]) {
			l.texts, l.open = append(l.texts, p), append(l.open, true)
		}
	}
	for _, name := range exact {
		if at, found := slices.BinarySearch(l.texts, name); !found && !l.has(name) {
			l.texts, l.open = slices.Insert(l.texts, at, name), slices.Insert(l.open, at, false)
		}
	}
	return l
}

// Match says whether a name is in the list. It does not allocate, and compares as many texts as the
// logarithm of the length of the list.
func (l List) Match(name string) bool { return len(l.texts) == 0 || l.has(name) }

// has is Match for a list that may have no names yet.
func (l *List) has(name string) bool {
	at, found := slices.BinarySearch(l.texts, name)
	return found || at > 0 && l.open[at-1] && strings.HasPrefix(name, l.texts[at-1])
}
