package dotenv

import (
	"fmt"
	"strings"
	"testing"
)

func env(name string) (string, bool) {
	if name == "REAL" {
		return "real", true
	}
	return "", false
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"A=b", "A=b@1"},
		{"\ufeffA=b\r\n\r\n# c\r\n  B = d \n", "A=b@1|B=d@4"},
		{"A=b\rB=c # d\r\r\nC=\"x\ry\"\nD=1\r", "A=b@1|B=c@2|C=x\ny@4|D=1@6"},
		{"export A=b", "A=b@1"},
		{"A=", "A=@1"},
		{"A=''", "A=@1"},
		{`A="x y" # comment`, "A=x y@1"},
		{`A='x "y" ${REAL} \n'`, `A=x "y" ${REAL} \n@1`},
		{`A="l1\nl2\t\"q\" \$B \\"`, "A=l1\nl2\t\"q\" $B \\@1"},
		{"A=\"one\ntwo\"\nB=3", "A=one\ntwo@1|B=3@3"},
		{"A='one\ntwo'\nB=3", "A=one\ntwo@1|B=3@3"},
		{"A=x # c", "A=x@1"},
		{"A=x#c", "A=x@1"},
		{"A=1\nB=${A}2\nC=\"${B}-${REAL}-${NONE}\"", "A=1@1|B=12@2|C=12-real-${NONE}@3"},
		{"REAL=file\nB=${REAL}", "REAL=file@1|B=real@2"},
		{"A=$x$", "A=$x$@1"},
		{"NAME\nA=1", "A=1@2"},
		{`VITE_A="${B}"`, "VITE_A=${B}@1"},
		{"A=b=c==", "A=b=c==@1"},
	} {
		entries, err := Parse(c.text, env)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name+"="+e.Value+"@"+string(rune('0'+e.Line)))
		}
		if s := strings.Join(got, "|"); s != c.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", c.text, s, err, c.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"A=1\nB=secret word", `line 2: the value of B holds a space; put it in quotes: B="..."`},
		{"A=x y\nB=1\n", `line 1: the value of A holds a space; put it in quotes: A="..."`},
		{"A='x'y\nB=1\n", "line 1: something follows the closing quote of A"},
		{`A="x`, "line 1: the value of A has no closing quote"},
		{`A='x`, "line 1: the value of A has no closing quote"},
		{`A="\x"`, `line 1: the value of A holds an unknown escape; write \\ for a backslash`},
		{`A="x"y`, "line 1: something follows the closing quote of A"},
		{"\n=1", "line 2: what begins it is not a name; a line is NAME=value"},
		{"A B=1", "line 1: what begins it is not a name; a line is NAME=value"},
		{"<?php", "line 1: what begins it is not a name; a line is NAME=value"},
		{"A=1\n=======\nB=2", "line 2: a merge conflict is not resolved"},
		{"SECRET: secret-word", "line 1: what begins it is not a name; a line is NAME=value"},
	} {
		_, err := Parse(c.text, env)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct {
		in, want string
		null     bool
	}{
		{"TRUE", "true", false}, {"(false)", "false", false}, {"empty", "", false},
		{"Null", "", true},
		{"(null)", "", true}, {`"x"`, "x", false}, {"'x'", "x", false}, {`"`, `"`, false},
		{"nullable", "nullable", false},
	} {
		if got, null := Value(c.in); got != c.want || null != c.null {
			t.Errorf("%q: got %q, %v, want %q, %v", c.in, got, null, c.want, c.null)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"A=b\nexport B=\"${A}\\n\"\n#c\nC='x\ny'", "A=\"", "\ufeffX=1 # y",
		"A=${", "\r!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		entries, err := Parse(s, env)
		lines := strings.Count(lineEnds.Replace(s), "\n") + 1
		if e, ok := err.(*Error); ok && (e.Line < 1 || e.Line > lines) {
			t.Fatalf("line %d of %d", e.Line, lines)
		}
		for _, e := range entries {
			if e.Line < 1 || e.Line > lines || !validName(e.Name) {
				t.Fatalf("entry %+v of %d lines", e, lines)
			}
			// In single quotes a value stands for itself, so it comes back.
			if strings.ContainsAny(e.Value, "'\r") {
				continue
			}
			back, err := Parse(e.Name+"='"+e.Value+"'", env)
			if err != nil || len(back) != 1 || back[0].Value != e.Value {
				t.Fatalf("%+v came back as %+v, %v", e, back, err)
			}
		}
	})
}

func TestQuote(t *testing.T) {
	for value, want := range map[string]string{"": "", "a-Z_0.9/+=": "a-Z_0.9/+=", "a b": "'a b'",
		"a#b": "'a#b'", "${A}": "'${A}'",
		`it's "$5"`: `"it's \"\$5\""`, "a\nb": `"a\nb"`, `\`: `'\'`, "ü": "'ü'"} {
		if got := Quote(value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}

// FuzzQuote checks that a written value is read as it was, and so is the line after it.
func FuzzQuote(f *testing.F) {
	for _, value := range []string{"", "a'b\"c", "$x ${A} #", "\\\n\r\t", "=", "export X"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		all, err := Parse("A="+Quote(value)+"\nB=2\n", env)
		if err != nil || len(all) != 2 || all[0] != (Entry{"A", value, 1}) ||
			all[1] != (Entry{"B", "2", 2}) {
			t.Errorf("%q: got %+v, %v", value, all, err)
		}
	})
}

// TestBounded has files whose values would take all memory, or all time.
func TestBounded(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	const tooLarge = "the values up to here are larger than 4194304 bytes"
	doubling := "V0=xxxxxxxx\n"
	for i := range 60 {
		doubling += fmt.Sprintf("V%d=${V%d}${V%d}\n", i+1, i, i)
	}
	long := "A=" + strings.Repeat("x", 100_000) + "\nB=" + strings.Repeat("${A}", 60_000)
	for text, want := range map[string]string{
		doubling: "line 19: " + tooLarge,
		long:     "line 2: " + tooLarge,
		long[:len("A=")+100_000] + "\nB=\"" + strings.Repeat("${A}", 60_000) + "\"": "line 2: " +
			tooLarge,
		"A=\"" + strings.Repeat("${x", 500_000): "line 1: the value of A has no closing quote",
	} {
		entries, err := Parse(text, none)
		if err == nil || err.Error() != want || entries != nil {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
	const at = maxName - len("${}") // the longest name that is replaced
	name := strings.Repeat("n", at)
	entries, err := Parse(name+"=x\nA=${"+name+"}\nB=${"+name+"n}", none)
	if err != nil || entries[1].Value != "x" || entries[2].Value != "${"+name+"n}" {
		t.Errorf("got %.40v and %v", entries, err)
	}
}
