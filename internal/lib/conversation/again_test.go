package conversation

import (
	"io"
	"net/http"
	"testing"
	"time"
)

func TestAgain(t *testing.T) {
	n := 0
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" || r.URL.Query().Get("auth_signature") == "" ||
			r.Method != "POST" || r.URL.Path != "/apps/1/events" || w.Header().Get("X") != "" {
			t.Errorf("got %s %s, %q, %v", r.Method, r.URL, body, err)
		}
		w.Header().Set("X", "y")
		if n++; n < 3 {
			w.WriteHeader(200 + n)
			io.WriteString(w, "{}")
		}
	})
	a := NewAgain(App{Key: "k", Secret: "s"}, "POST", "/apps/1/events", "body", time.Now())
	for i, want := range []string{"{}", "{}", ""} {
		a.Send(h)
		if status := []int{201, 202, 0}[i]; a.Status != status || string(a.Body) != want {
			t.Errorf("got %d %q, want %d %q", a.Status, a.Body, status, want)
		}
	}
}
