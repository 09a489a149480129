package shield

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestDoubt: only a request whose end is certain leaves its connection open.
func TestDoubt(t *testing.T) {
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}), slog.New(slog.DiscardHandler))
	for head, close := range map[string]bool{"POST / HTTP/1.1\nContent-Length: 1": false,
		"POST / HTTP/1.1\nTransfer-Encoding: chunked": true, "GET / HTTP/1.0": true} {
		line, header, _ := strings.Cut(head, "\n")
		r := httptest.NewRequest(strings.Fields(line)[0], "/", strings.NewReader("x"))
		r.ProtoMajor, r.ProtoMinor = 1, int(line[len(line)-1]-'0')
		if strings.HasPrefix(header, "Transfer-Encoding") {
			r.TransferEncoding = []string{"chunked"}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Connection") == "close"; got != close {
			t.Errorf("%s: the connection is closed: %v", head, got)
		}
	}
}

// TestPanic: a panic is told with its place and without the query, and goes on as the one that
// net/http does not tell of.
func TestPanic(t *testing.T) {
	for _, cause := range []any{"oops", http.ErrAbortHandler} {
		var log bytes.Buffer
		h := Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(cause) }),
			slog.New(slog.NewTextHandler(&log, nil)))
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler {
					t.Errorf("%v: the panic goes on as %v", cause, p)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(),
				httptest.NewRequest("GET", "/x?auth_signature=secret", nil))
		}()
		text := log.String()
		if told := strings.Contains(text, "panic=oops") && strings.Contains(text, "path=/x ") &&
			strings.Contains(text, "shield_test.go"); told != (cause == "oops") ||
			strings.Contains(text, "secret") {
			t.Errorf("%v: the log has %s", cause, text)
		}
	}
}
