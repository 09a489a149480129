package profiles

import (
	"bytes"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// TestHandler asks for each kind of profile.
func TestHandler(t *testing.T) {
	h := Handler("/p/", nil)
	for _, tt := range []struct {
		target string
		code   int
		kind   string
		begins string
	}{
		{"/p/", 200, "text/plain; charset=utf-8", ""},
		{"/p/cmdline", 200, "text/plain; charset=utf-8", os.Args[0]},
		{"/p/heap", 200, "application/octet-stream", "\x1f\x8b"},
		{"/p/heap?debug=1&gc=1", 200, "text/plain; charset=utf-8", "heap profile: "},
		{"/p/goroutine?debug=2", 200, "text/plain; charset=utf-8", "goroutine "},
		{"/p/profile?seconds=0.01", 200, "application/octet-stream", "\x1f\x8b"},
		{"/p/trace?seconds=0.01", 200, "application/octet-stream", "go 1."},
		{"/p/profile?seconds=601", 400, "text/plain; charset=utf-8", "seconds: "},
		{"/p/profile?seconds=NaN", 400, "text/plain; charset=utf-8", "seconds: "},
		{"/p/heap?seconds=1", 400, "text/plain; charset=utf-8", "seconds: only profile and "},
		{"/p/nothing", 404, "text/plain; charset=utf-8", "Unknown profile."},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", tt.target, nil))
		if kind := w.Header().Get("Content-Type"); w.Code != tt.code || kind != tt.kind ||
			!strings.HasPrefix(w.Body.String(), tt.begins) {
			t.Errorf("%s: got %d, %s, %.40q", tt.target, w.Code, kind, w.Body)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/p/", nil))
	for _, name := range []string{"heap", "goroutine", "allocs", "profile", "trace"} {
		if !strings.Contains(w.Body.String(), "\t"+name+"\n") {
			t.Errorf("the list lacks %s: %s", name, w.Body)
		}
	}
}

// TestBody sends seconds in a body, which is not read.
func TestBody(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/p/trace",
		strings.NewReader("seconds=601"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	Handler("/p/", ended).ServeHTTP(w, r)
	if w.Code != 200 {
		t.Errorf("got %d, %s", w.Code, w.Body)
	}
}

// TestRecordingEnds closes ended during a recording, and asks for a second one meanwhile.
func TestRecordingEnds(t *testing.T) {
	ended := make(chan struct{})
	h := Handler("/p/", ended)
	first, began := httptest.NewRecorder(), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(&told{first, began}, httptest.NewRequest("GET", "/p/trace?seconds=600", nil))
	}()
	<-began
	second := httptest.NewRecorder()
	h.ServeHTTP(second, httptest.NewRequest("GET", "/p/trace?seconds=600", nil))
	if second.Code != 500 || second.Header().Get("Content-Disposition") != "" {
		t.Errorf("a second recording: %d, %v", second.Code, second.Header())
	}
	close(ended)
	<-done
	if !bytes.HasPrefix(first.Body.Bytes(), []byte("go 1.")) {
		t.Errorf("got %.20q", first.Body)
	}
}

// told closes began with the first bytes.
type told struct {
	*httptest.ResponseRecorder
	began chan struct{}
}

func (w *told) Write(b []byte) (int, error) {
	if w.began != nil {
		close(w.began)
		w.began = nil
	}
	return w.ResponseRecorder.Write(b)
}
