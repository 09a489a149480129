package test

import (
	"net/http"
	"strings"
	"testing"
)

// TestAccessLog has a line for each request, without the signature, however many there are
// and whatever the level of the log is.
func TestAccessLog(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_ACCESS_LOG=true")...)
	for range 30 {
		resp, err := http.Get("http://" + s.addr + "/apps/app-id/channels?auth_signature=hidden")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	resp, err := http.Get("http://" + s.addr + "/up")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.says("msg=request method=GET path=/up remote=127.0.0.1:")
	s.mu.Lock()
	defer s.mu.Unlock()
	log := strings.Join(s.log, "\n")
	if n := strings.Count(log, "msg=request method=GET path=/apps/app-id/channels app=app-id remote=127.0.0.1:"); n != 30 {
		t.Errorf("%d requests, want 30:\n%s", n, log)
	}
	if strings.Contains(log, "hidden") {
		t.Errorf("a signature is told:\n%s", log)
	}
}
