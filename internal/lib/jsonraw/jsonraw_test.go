package jsonraw

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestCheck(t *testing.T) {
	for _, v := range []string{
		`{}`, ` { "a" : [ 1 , -0.5e+3 , true , false , null , "x" ] } `, `"\u00e9\ud83d\ude00\/"`,
		`0`,
		nested(MaxDepth), `{"a":1,"a":2}`, `"\ud800"`, `"\udc00"`, `"\ud800\u0041"`,
		`"\ud83d\ud83d\ude00"`, `{"\ud800":1}`,
	} {
		if err := Check([]byte(v)); err != nil {
			t.Errorf("%.40q: got %v, want valid", v, err)
		}
	}
	for _, v := range []string{
		``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,}`, `[1,]`, `{a:1}`, `01`, `1.`, `1e`, `-`,
		`+1`, `.5`, `NaN`,
		`tru`, `"`, `"\x"`, `"\u12"`, `"\ud800\u"`, `"\ud8"`, "\"\n\"", `1 2`, "\ufeff{}",
		nested(MaxDepth + 1), `'a'`, `{1:2}`, `[1 2]`, `{"a" 1}`,
	} {
		if Check([]byte(v)) == nil {
			t.Errorf("%.40q: got valid, want an error", v)
		}
	}
}

func TestObject(t *testing.T) {
	var got []string
	err := Object([]byte(` {"a":"x", "\u0062" : {"c":[1,2]} ,"d":1.0} `), func(k, v []byte) {
		got = append(got, string(k)+"="+string(v))
	})
	if want := `a="x" b={"c":[1,2]} d=1.0`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v, want %q", strings.Join(got, " "), err, want)
	}
	never := func(k, v []byte) { t.Errorf("reported %q", k) }
	if err := Object([]byte(`[1]`), never); err != ErrNotObject {
		t.Errorf("got %v, want ErrNotObject", err)
	}
	if err := Object([]byte(`{"a":1} x`), never); err == nil {
		t.Error("got valid, want an error")
	}
}

// Half a surrogate pair stands in values as it came and cannot be decoded.
func TestHalfSurrogatePair(t *testing.T) {
	for _, v := range []string{`"\ud83d"`, `"a\ude00b"`, `"\ud83dx"`, `"\ud83d\n"`,
		`"\ud83d\u0041"`, `"\ud83d\ud83d"`, `"\ude00\ud83d"`, `"\ud83d\\ude00"`} {
		if s, ok := String([]byte(v)); ok || s != "" {
			t.Errorf("%s: got %q, %v, want nothing", v, s, ok)
		}
		var got []string
		if err := Object([]byte(`{"k":`+v+`,"\ud83d":1}`),
			func(k, v []byte) { got = append(got, string(k), string(v)) }); err != nil {
			t.Errorf("%s: %v", v, err)
		}
		if want := []string{"k", v, "\uFFFD", "1"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for v, want := range map[string]string{`"\ud83d\ude00"`: "😀", `"\\ud83d"`: `\ud83d`,
		`"\uD83D\uDE00\u00e9"`: "😀é"} {
		if s, ok := String([]byte(v)); !ok || s != want {
			t.Errorf("%s: got %q, %v, want %q", v, s, ok, want)
		}
	}
}

func TestArray(t *testing.T) {
	var got []string
	err := Array([]byte(` [ "x" , {"a":[]} , 1 ] `),
		func(v []byte) { got = append(got, string(v)) })
	if want := `"x"|{"a":[]}|1`; err != nil || strings.Join(got, "|") != want {
		t.Errorf("got %q, %v, want %q", strings.Join(got, "|"), err, want)
	}
}

func FuzzAgainstEncodingJSON(f *testing.F) {
	for _, v := range []string{`{"a":[1,"\ud83d\ude00",{"b":null}],"c":-1.5e3}`, `"\ud800"`,
		`"\ud83d\ud83d\ude00\\ud83d\n"`, `[[]]`, `{"a":1,"a":2}`} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) {
			return
		}
		err := Check(b)
		if err == nil != json.Valid(b) && !bytes.Contains(b, []byte(strings.Repeat("[", 100))) &&
			depth(b) <= MaxDepth {
			t.Fatalf("got %v, encoding/json says valid: %v", err, json.Valid(b))
		}
		if err != nil {
			return
		}
		n := 0
		if Object(b, func(k, v []byte) {
			n++
			if Check(v) != nil {
				t.Fatalf("value %q is not valid", v)
			}
		}) == nil {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(b, &m); err != nil || len(m) > n {
				t.Fatalf("got %d members, encoding/json %d, %v", n, len(m), err)
			}
		}
		if v := bytes.TrimSpace(b); v[0] == '"' {
			var want string
			s, ok := String(v)
			if json.Unmarshal(b, &want); ok != !lone(v) || ok && s != want {
				t.Fatalf("got %q, %v, want %q, %v", s, ok, want, !lone(v))
			}
			if back, _ := String(AppendString(nil, s)); back != s {
				t.Fatalf("got %q, want %q", back, s)
			}
		}
	})
}

var escapes = regexp.MustCompile(`(?s)\\(u[0-9a-fA-F]{4}|.)`)

// lone says that the JSON string b holds half a surrogate pair: encoding/json
// replaces it, String declines it.
func lone(b []byte) bool {
	units := []uint64{0}
	end := 0
	for _, at := range escapes.FindAllSubmatchIndex(b, -1) {
		if at[0] != end {
			units = append(units, 0) // something stands between
		}
		n, _ := strconv.ParseUint(string(b[at[2]+1:at[3]]), 16, 32) // 0 for other escapes
		units, end = append(units, n), at[1]
	}
	units = append(units, 0)
	for i := 1; i < len(units); i++ {
		high, low := units[i-1]>>10 == 0xd800>>10, units[i]>>10 == 0xdc00>>10
		if high != low {
			return true
		}
	}
	return false
}

func depth(b []byte) int { return bytes.Count(b, []byte("[")) + bytes.Count(b, []byte("{")) }

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "a\"b\\c\n\r\t\x00\x1f", "é😀", "\xff", "/<>&\u2028"} {
		got := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil ||
			back != strings.ToValidUTF8(s, "\uFFFD") {
			t.Errorf("%q: got %s, %v", s, got, err)
		}
		if !bytes.Equal(got, AppendString(nil, []byte(s))) {
			t.Errorf("%q: bytes differ from string", s)
		}
	}
}

// A value begins at the capacity of the text less that of the value, with spare memory or without.
func TestCapacity(t *testing.T) {
	const text = ` {"a" : 7, "b":[1,{"c":true}] ,"d":"x"} `
	for _, spare := range []int{0, 9} {
		b := append(make([]byte, 0, len(text)+spare), text...)
		check := func(value []byte) {
			if at := cap(b) - cap(value); at < 0 || &b[at] != &value[0] {
				t.Errorf("%s does not begin at %d", value, at)
			}
		}
		if err := Object(b, func(_, value []byte) {
			if check(value); value[0] == '[' {
				if err := Array(value, check); err != nil {
					t.Error(err)
				}
			}
		}); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkObject(b *testing.B) {
	m := []byte(`{"event":"client-typing","channel":"private-room.1","data":{"user":17,` +
		`"name":"Ann","text":"` + strings.Repeat("hello ", 20) + `"}}`)
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	for b.Loop() {
		Object(m, func(k, v []byte) {})
	}
}

func TestFit(t *testing.T) {
	for value, want := range map[string]string{"": "", `{"a":1}`: `{"a":1}`,
		`{"a":12}`: `"{\"a\":12..."`, "{": `"{..."`, `"aaaaaä"`: `"\"aaaaa..."`} {
		if got := string(Fit([]byte(value), 7)); got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
}

// TestList reads lists in the JSON that PHP writes.
func TestList(t *testing.T) {
	for text, want := range map[string]string{`[1,2]`: "1 2", `{"0":1,"2":3}`: "1 3"} {
		var got []string
		err := List([]byte(text), func(v []byte) { got = append(got, string(v)) })
		if s := strings.Join(got, " "); err != nil || s != want {
			t.Errorf("%s: got %s and %v, want %s", text, s, err, want)
		}
	}
	if List([]byte("5"), func([]byte) {}) == nil {
		t.Error("a number is a list")
	}
}
