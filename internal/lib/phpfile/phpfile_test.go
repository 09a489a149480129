package phpfile

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"reverb/internal/lib/php"
)

func options() Options {
	return Options{File: "config/x.php", Folder: "/tmp", MaxDepth: 64, MaxSteps: 100_000,
		MaxResult: 1 << 20}
}

// TestExpressions compares values with those of PHP 8.2. testdata/expressions.txt has the
// expressions. Behind --> follows the JSON that PHP makes of the value, or ! if PHP refuses the
// expression. If this package's result differs, it follows behind ==>: ? and the first Problem, or
// ! and the error.
func TestExpressions(t *testing.T) {
	b, err := os.ReadFile("testdata/expressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(b), "\n%%\n") {
		expression, want, ok := strings.Cut(strings.TrimSuffix(block, "\n"), "\n--> ")
		if !ok {
			t.Fatalf("a block without a result: %s", block)
		}
		if _, ours, differs := strings.Cut(want, "\n==> "); differs {
			want = ours
		}
		v, err := Read("<?php\nreturn "+expression+";\n", options())
		got := ""
		switch {
		case err != nil:
			got = "!" + err.Error()
		case v.Problem() != nil:
			got = "?" + v.Problem().Error()
		default:
			got = string(v.AppendJSON(nil))
		}
		if want == got || strings.HasPrefix(want, "!") && !strings.Contains(want, ":") &&
			err != nil {
			continue
		}
		var x, y any
		if json.Unmarshal([]byte(got), &x) != nil || json.Unmarshal([]byte(want), &y) != nil ||
			!reflect.DeepEqual(x, y) {
			t.Errorf("%s\n--> %s\n==> %s", expression, want, got)
		}
	}
}

// TestTrouble has the texts of errors. They never hold the text of a literal.
func TestTrouble(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "config/x.php:1:1: the file does not begin with <?php"},
		{"<html>", "config/x.php:1:1: the file does not begin with <?php"},
		{"<?phpreturn 1;", "config/x.php:1:1: the file does not begin with <?php"},
		{"<?php\n", "config/x.php:2:1: the file returns nothing"},
		{"<?php\n$s3cret = 1;", "config/x.php:2:1: a variable begins a statement, and the one " +
			"that is read is return"},
		{"<?php return ['s3cret' 's3cret'];",
			"config/x.php:1:24: a text stands where , or ] is expected"},
		{"<?php return [\n 's3cret => 's3cret(1)',\n];",
			"config/x.php:2:14: a name stands where , or ] is expected"},
		{"<?php return ['s3cret", "config/x.php:1:15: a text in single quotes is not closed"},
		{"<?php return \"s3cret", "config/x.php:1:14: a text in double quotes is not closed"},
		{"<?php return <<<X\ns3cret\n", "config/x.php:1:14: a heredoc is not closed"},
		{"<?php return <<<X\ns3cret\n X;",
			"config/x.php:1:14: a line of a heredoc is indented less than its end"},
		{"<?php return ['a' => s3cret];", "config/x.php:1:22: a constant is not known here"},
		{"<?php return ['a' => 's3cret' * 2];",
			"config/x.php:1:31: the operator * is given what is not a number"},
		{"<?php return 's3cret' . [];", "config/x.php:1:23: the operator . is given an array"},
		{"<?php return 12s3cret;", "config/x.php:1:14: a number is followed by a letter"},
		{"<?php return 1; 's3cret';", "config/x.php:1:17: a text follows the value that is " +
			"returned"},
		{"<?php return 1 /* s3cret", "config/x.php:1:16: a comment is not closed"},
		{"<?php return [1", "config/x.php:1:16: the end of the file stands where , or ] is " +
			"expected"},
		{"<?php return [f(1};", "config/x.php:1:18: } stands where , or ) is expected"},
		{"<?php return \x01;", "config/x.php:1:14: a control character stands outside of a text"},
		{"<?php\r\nreturn\r  [$x ;", "config/x.php:3:7: ; stands inside of an array"},
		{"<?php use A B; return 1;", "config/x.php:1:13: a name stands where ; is expected"},
		{"<?php return explode(',', 's3cret', 5)", "config/x.php:1:14: explode() is given a limit"},
		{"<?php return trim(string: 's3cret')",
			"config/x.php:1:14: trim() with names of arguments is not known here"},
		{"<?php return " + strings.Repeat("[", 65),
			"config/x.php:1:78: the file is nested deeper than 64"},
		{"<?php return " + strings.Repeat("(", 65),
			"config/x.php:1:78: the file is nested deeper than 64"},
		{"<?php return " + strings.Repeat("-", 65),
			"config/x.php:1:78: the operator -- is not known here"},
		{"<?php return 1" + strings.Repeat("+1", 60_000),
			"config/x.php:1:100014: the file takes more than 100000 steps to compute"},
		{"<?php return '" + strings.Repeat("s3cret", 20_000) + "'" +
			strings.Repeat(" . trim('"+strings.Repeat("s3cret", 20_000)+"')", 10),
			"config/x.php:1:360039: the values of the file are larger than 1048576 bytes"},
		{"<?php return [" + strings.Repeat("1,", 20_000) + "];",
			"config/x.php:1:30730: the values of the file are larger than 1048576 bytes"},
		{"<?php return explode(',', '" + strings.Repeat(",", 20_000) + "');",
			"config/x.php:1:20030: the values of the file are larger than 1048576 bytes"},
		{"<?php use " + strings.Repeat("A", 1000) + "\\{" + strings.Repeat("B,", 1000) +
			"}; return 1;", "config/x.php:1:2977: the values of the file are larger than 1048576 " +
			"bytes"},
		{"<?php namespace " + strings.Repeat("A", 1025), "config/x.php:1:17: a name is too long"},
		{"<?php return [" + strings.Repeat("1,", 5000) + "]" + strings.Repeat("+[1]", 10),
			"config/x.php:1:10028: the values of the file are larger than 1048576 bytes"},
		{"<?php return array_map('long', [" + strings.Repeat("1,", 1000) + "]);",
			"config/x.php:1:2035: the values of the file are larger than 1048576 bytes"},
		{"<?php return array_filter([" + strings.Repeat("1,", 1000) + "], 'long');",
			"config/x.php:1:2038: the values of the file are larger than 1048576 bytes"},
	}
	o := options()
	o.Functions = map[string]Function{"long": func(Args) (php.Value, error) {
		return php.Of(strings.Repeat("s3cret", 1000)), nil
	}}
	for _, test := range tests {
		v, err := Read(test.text, o)
		if err == nil {
			err = v.Problem()
		}
		if err == nil || err.Error() != test.want && !strings.Contains(test.want, "--") ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.60q: got %v, want %s", test.text, err, test.want)
		}
	}
}

// TestAround has statements and comments around the value.
func TestAround(t *testing.T) {
	for _, text := range []string{
		"\ufeff<?php return 'a';", "<?PHP\nRETURN 'a'", "<?php return 'a' ?>\n",
		"<?php return 'a'; // ?>",
		"<?php declare(strict_types=1); return 'a';",
		"<?php namespace A\\B; use C; use D\\E as F, G; return 'a';;",
		"<?php use A\\{B, C as D,}; use function e\\f; use const G\\H; return 'a';",
		"<?php #c\n// d\n/* e */ return /** f */ 'a' # g",
	} {
		if v, err := Read(text, options()); err != nil || v.Text() != "a" {
			t.Errorf("%q: got %q and %v", text, v.Text(), err)
		}
	}
	v, err := Read(`<?php use A\B as C; use D\{E, F\G as H};
		return [C::class, C\I::class, E::class, H::class, J::class, \J::class];`, options())
	const want = `["A\\B","A\\B\\I","D\\E","D\\F\\G","J","J"]`
	if got := string(v.AppendJSON(nil)); err != nil || got != want {
		t.Errorf("got %s and %v, want %s", got, err, want)
	}
}

// TestFunctions has calls of functions of the reader's user.
func TestFunctions(t *testing.T) {
	o := options()
	o.Functions = map[string]Function{
		"env": func(a Args) (php.Value, error) {
			name, _ := a.At(0, "key")
			fallback, ok := a.At(1, "default")
			if name.Text() == "SET" {
				return php.Of("value"), nil
			}
			if !ok {
				return php.Value{}, nil
			}
			return fallback, nil
		},
		`illuminate\support\str::upper`: func(a Args) (php.Value,
			error) {
			return php.Of(strings.ToUpper(a.Values[0].Text())), nil
		},
	}
	v, err := Read(`<?php
use Illuminate\Support\Str;
return [
	'a' => env('SET'), 'b' => \ENV('NOT', 'c'),
	'd' => env(default: 5, key: 'NOT'),
	'e' => Str::upper('x'), 'f' => false ? env('SET') : 1, 'g' => array_map('env', ['SET', 'NOT']),
];`, o)
	const want = `{"a":"value","b":"c","d":5,"e":"X","f":1,"g":["value",null]}`
	if got := string(v.AppendJSON(nil)); err != nil || got != want {
		t.Errorf("got %s and %v, want %s", got, err, want)
	}
	for name, line := range map[string]int{"a": 4, "b": 4, "d": 5, "e": 6} {
		if got := v.Get(name).Line; got != line {
			t.Errorf("%s: got line %d, want %d", name, got, line)
		}
	}
}

// TestKeep leaves out elements that Keep does not name, in every way to write them.
func TestKeep(t *testing.T) {
	o := options()
	o.Keep = func(key string) bool { return key == "a" || key == "5" }
	v, err := Read("<?php return ["+strings.Repeat("'x' => ["+strings.Repeat("[",
		100)+strings.Repeat("]", 100)+", $y, fn () => 1, function () { return; }],", 2000)+
		"'a' => ['x' => 1], 5 => 'five', ['x']];", o)
	const want = `{"a":{"x":1},"5":"five","6":["x"]}`
	if got := string(v.AppendJSON(nil)); err != nil || got != want {
		t.Errorf("got %s and %v, want %s", got, err, want)
	}
}

// export writes a value as PHP's var_export does.
func export(v php.Value) string {
	switch v.Kind {
	case php.Null:
		return "NULL"
	case php.Bool:
		return strconv.FormatBool(v.Truth())
	case php.Int:
		if v.Int() == math.MinInt64 {
			return "-9223372036854775807-1"
		}
		return v.Text()
	case php.Float:
		if f := v.Float(); math.IsInf(f, 0) || math.IsNaN(f) {
			return v.Text()
		}
		s := strconv.FormatFloat(v.Float(), 'e', -1, 64)
		return strings.Replace(s, "e", ".0e", min(1, 1-min(1, strings.Count(s, "."))))
	case php.String:
		s := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v.Text())
		return "'" + strings.ReplaceAll(s, "\x00", `' . "\0" . '`) + "'"
	}
	var b strings.Builder
	b.WriteString("array (\n")
	for _, e := range v.Elements() {
		b.WriteString(export(e.Key.Value()) + " => " + export(e.Value) + ",\n")
	}
	return b.String() + ")"
}

// FuzzRead reads anything. A value that was read can be written as var_export does, and is then
// read as the same value. An error has a place in the file.
func FuzzRead(f *testing.F) {
	b, err := os.ReadFile("testdata/expressions.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, block := range strings.Split(string(b), "\n%%\n") {
		expression, _, _ := strings.Cut(block, "\n--> ")
		f.Add("<?php return " + expression + ";")
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := Read(text, options())
		if err == nil {
			err = v.Problem()
		}
		if err != nil {
			e := err.(*Error)
			lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r",
				"\n").Replace(strings.TrimPrefix(text, "\ufeff")), "\n")
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 ||
				e.Column > len(lines[e.Line-1])+1 {
				t.Fatalf("%v is no place in %d lines", err, len(lines))
			}
			return
		}
		o := options()
		o.MaxDepth, o.MaxSteps, o.MaxResult = 1000, 10_000_000, 1<<27
		again, err := Read("<?php return "+export(v)+";", o)
		if err != nil {
			t.Fatalf("%s: %v", export(v), err)
		}
		if !php.Identical(v, again) && !strings.Contains(export(v), "NAN") {
			t.Fatalf("got %s, want %s", export(again), export(v))
		}
	})
}
