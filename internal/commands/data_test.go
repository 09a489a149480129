package commands

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestData(t *testing.T) {
	file, bad := write(t, "\n {\"n\": 1}\r\n"), write(t, "{'n':1}")
	for _, tt := range []struct{ arg, stdin, want string }{
		{`{"n":1}`, "", `{"n":1}`}, {" 1 ", "", " 1 "}, {"-", " [1]\n", "[1]"},
		{"@" + file, "", `{"n": 1}`},
		{"{n:1}", "", "error the data is invalid JSON at byte 1: a key in quotes is missing " +
			"here; quote it for the shell, like '{\"n\":1}'"},
		{"-", "{n:1}", "error what standard input has is invalid JSON at byte 1: a key in quotes " +
			"is missing here"},
		{"@" + bad, "", "error what " + bad + " holds is invalid JSON at byte 1: "},
		{"-", "", "error what standard input has is invalid JSON at byte 0: "},
		{"@", "", "error read the data: open : no such file"},
		{"@/no/such/file", "", "error read the data: open /no/such/file: no such file"},
		{"@" + t.TempDir(), "", "error read the data: read "},
	} {
		got, err := Data(tt.arg, strings.NewReader(tt.stdin))
		if err != nil {
			got = "error " + err.Error()
		}
		if got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: got %s, want %s", tt.arg, got, tt.want)
		}
	}
	if _, err := Data("-", iotest.ErrReader(io.ErrUnexpectedEOF)); err == nil {
		t.Error("an error of standard input is lost")
	}
}

// What is read is bounded, however much there is.
func TestDataBounded(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`"`), zeros{})
	want := "what standard input has is larger than 64 MiB, which no server takes"
	if _, err := Data("-", endless); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}
