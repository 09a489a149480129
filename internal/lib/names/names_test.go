package names

import (
	"strings"
	"testing"
)

// plain is Match without order: it compares every name of the text.
func plain(list, name string) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimSpace(one)
		prefix, open := strings.CutSuffix(one, "*")
		if one == name || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct{ list, in, out string }{
		{"news", "news", "new newsx News private-news"},
		{"news*", "news news1 news-today", "new private-news"},
		{"*", "a #server-to-user-1 *", ""},
		{"b,a , c", "a b c", "ab d"},
		{"a,a,a*,ab*,a", "a ab abc ac", "b A"},
		{"ab*,a,abc", "a ab abc abd", "aa ac"},
		{"private-chat-*,private-*,presence-x", "private-a private-chat-1 presence-x",
			"presence- presence-xy"},
		{"#server-to-user-*", "#server-to-user-7", "server-to-user-7"},
		{"m*,mz,n,l", "m mzz n l", "nm lm k"},
	} {
		l, err := Parse(tt.list)
		if err != nil {
			t.Errorf("%s: got %v", tt.list, err)
		}
		for _, name := range strings.Fields(tt.in) {
			if !l.Match(name) || !plain(tt.list, name) {
				t.Errorf("%s: %s is not in it", tt.list, name)
			}
		}
		for _, name := range strings.Fields(tt.out) {
			if l.Match(name) || plain(tt.list, name) {
				t.Errorf("%s: %s is in it", tt.list, name)
			}
		}
	}
	if l := (List{}); !l.Match("any") {
		t.Error("the zero List lacks a name")
	}
}

func TestParse(t *testing.T) {
	for list, want := range map[string]string{
		"":     "a name between two commas is missing; leave the comma out",
		"a,,b": "a name between two commas is missing; leave the comma out",
		"a, ":  "a name between two commas is missing; leave the comma out",
		"a*b":  `"a*b": * can stand only at the end of a name, such as news-*`,
		"x,*b": `"*b": * can stand only at the end of a name, such as news-*`,
		"a**":  `"a**": * can stand only at the end of a name, such as news-*`,
		"x y":  `"x y": a name has no spaces; write a comma between names, such as news,chat-*`,
	} {
		if _, err := Parse(list); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", list, err, want)
		}
	}
}

// FuzzMatch compares Match with the plain way to answer.
func FuzzMatch(f *testing.F) {
	f.Add("news,chat-*, private-*", "chat-1")
	f.Add("a,a*,ab,ab*,b", "abc")
	f.Add("*", "")
	f.Add("b*,ba,c,a", "c")
	f.Fuzz(func(t *testing.T, list, name string) {
		l, err := Parse(list)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: more than a line: %v", list, err)
			}
			return
		}
		if got, want := l.Match(name), plain(list, name); got != want {
			t.Fatalf("%q in %q: got %v, want %v", name, list, got, want)
		}
	})
}

// TestMatchIsCheap holds that the question of each event costs no memory.
func TestMatchIsCheap(t *testing.T) {
	l, err := Parse("news,chat-*,private-orders-*,presence-room-*,private-user-*,board,cache-x")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { l.Match("private-user-12345") }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}
