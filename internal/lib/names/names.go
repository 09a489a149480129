// Package names holds lists of names that an operator has written: whole names, and beginnings of
// names, and says which names are meant.
package names

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"reverb/internal/lib/show"
)

// List is a list of names. It never changes, and any number of goroutines may use it. A nil List
// has every name.
type List struct {
	whole []string // sorted
	// begin has beginnings of names, sorted. None of them begins another one. So what stands
	// between a beginning and a name that it begins would begin with it too, and is not there: of
	// all beginnings only the last one that is not above a name can mean it.
	begin []string
}

// Parse reads names, comma-separated. A name may end in *, which stands for anything, also for
// nothing. Spaces around a name do not count. The error says which name is wrong, in one line.
func Parse(s string) (*List, error) {
	l := &List{}
	for _, name := range strings.Split(s, ",") {
		name = strings.TrimSpace(name)
		text, open := strings.CutSuffix(name, "*")
		switch {
		case name == "":
			return nil, errors.New("a name between two commas is missing; leave the comma out")
		case strings.Contains(text, "*"):
			return nil, fmt.Errorf("%s: * can stand only at the end of a name, such as news-*",
				show.Quoted(name))
		case strings.ContainsAny(text, " \t\r\n"):
			return nil, fmt.Errorf("%s: a name has no spaces; write a comma between names, such "+
				"as news,chat-*", show.Quoted(name))
		case open:
			l.begin = append(l.begin, text)
		default:
			l.whole = append(l.whole, text)
		}
	}
	slices.Sort(l.whole)
	slices.Sort(l.begin)
	all := l.begin
	l.begin = nil
	for _, text := range all { // a beginning stands before all that it begins
		if !l.begun(text) {
			l.begin = append(l.begin, text)
		}
	}
	return l, nil
}

// Match says whether a name is in the list. It does not allocate, and compares as many texts as the
// logarithm of the length of the list.
func (l *List) Match(name string) bool {
	if l == nil {
		return true
	}
	_, found := slices.BinarySearch(l.whole, name)
	return found || l.begun(name)
}

// begun says whether the beginning of a name is in the list.
func (l *List) begun(name string) bool {
	at, found := slices.BinarySearch(l.begin, name)
	return found || at > 0 && strings.HasPrefix(name, l.begin[at-1])
}
