package jsonraw

import "testing"

func TestText(t *testing.T) {
	for value, want := range map[string]string{
		"": "", " \n": "", `"a\u00e9"`: "a\u00e9", `{ "a": [1, 2] }`: `{"a":[1,2]}`, " 7 ": "7",
		`"\ud83d!"`: "\ufffd!", "{no": "{no",
	} {
		if got := string(Text([]byte(value))); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}
