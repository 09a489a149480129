package protocol

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// Every row of the table tells the truth: 40xx to 42xx only where the connection closes
// or Reverb sends that code for that cause.
func TestErrors(t *testing.T) {
	for i, e := range Errors() {
		if e.Row != i || e.Word == "" || e.Message == "" {
			t.Errorf("%+v: got no word or no message, or row %d", e, i)
		}
		if e.Code >= 4000 && e.Code < 4300 && e.Close == 0 && !e.Reverb {
			t.Errorf("%s: got code %d for a connection that stays open", e.Word, e.Code)
		}
		if (e.Kind == "") != (e.Status == 0) {
			t.Errorf("%s: got kind %q with status %d", e.Word, e.Kind, e.Status)
		}
		if e.Close != 0 && (len(e.Message) > 123 || !utf8.ValidString(e.Message)) {
			// RFC 6455 §5.5
			t.Errorf("%s: the message does not fit a close frame", e.Word)
		}
		if with := e.because("x"); with.Row != i || with.Message != e.Message+": x" ||
			e.Message == with.Message {
			t.Errorf("%s: got %+v with a reason", e.Word, with)
		}
	}
	want := `{"event":"pusher:error","data":{"code":null,"message":"Invalid channel name"}}`
	if got := string(EncodeError(errChannelName)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want = `{"event":"pusher:error","data":{"code":4201,"message":"Pong reply not received in ` +
		`time"}}`
	if got := string(EncodeError(ErrNoPong)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Rows are made by the function that registers them, and nowhere else.
func TestErrorsAreRegistered(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "newError" {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if lit, ok := n.(*ast.CompositeLit); ok {
					if id, ok := lit.Type.(*ast.Ident); ok && id.Name == "Error" {
						t.Errorf("%s: an Error is made without being registered", file.Name())
					}
				}
				return true
			})
		}
	}
}

// A client reads Reverb's own text in pusher:error, and every reason elsewhere.
func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		e                 *Error
		reason, told, why string
	}{
		{errUnauthorized, "", "Connection is unauthorized", "Connection is unauthorized"},
		{errUnauthorized, "x", "Connection is unauthorized", "Connection is unauthorized: x"},
		{ErrMembers, "", "Too many members", "Too many members"},
		{ErrMembers, "x", "Too many members: x", "Too many members: x"},
	} {
		told, why, _ := tt.e.Refusal("x", tt.reason)
		if told.Message != tt.told || why != tt.why || told.Row != tt.e.Row {
			t.Errorf("%s, %q: got %q, %q", tt.e.Word, tt.reason, told.Message, why)
		}
	}
}
