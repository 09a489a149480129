package webhooks

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestCheck asks receivers of two apps; one of them hangs.
func TestCheck(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(r *request, _ int) (*http.Response, error) {
			if !strings.HasSuffix(r.body, `"events":[]}`) ||
				r.header.Get("X-Pusher-Signature") == "" {
				t.Errorf("got %s", r.body)
			}
			switch {
			case strings.HasSuffix(r.url, "/hangs"):
				return nil, nil
			case strings.HasSuffix(r.url, "/fails"):
				return status(503), nil
			}
			return status(204), nil
		}
		var lines []string
		s.Check(s.t.Context(), []Account{
			{ID: "1", Key: "k", Secret: "s", Hooks: []*Hook{
				{URL: address("http://u:pass@a.example/fine?token=x"), Timeout: time.Second},
				{URL: address("http://a.example/hangs"), Timeout: time.Second}}},
			{ID: "2", Key: "k2", Secret: "s2",
				Hooks: []*Hook{{URL: address("http://b.example/fails"), Timeout: time.Second}}},
		}, func(verdict, format string, args ...any) {
			lines = append(lines, verdict+" "+fmt.Sprintf(format, args...))
		})
		want := `ok webhook: app 1: http://********@a.example/fine?******** answers with 204 ` +
			`after 0s
FAIL webhook: app 1: http://a.example/hangs: no answer within 1s after 1s
FAIL webhook: app 2: http://b.example/fails: status 503 after 0s`
		const remedy = "; it must answer a signed request with 2xx"
		if got := strings.ReplaceAll(strings.Join(lines, "\n"), remedy, ""); got != want {
			t.Errorf("got\n%s", got)
		}
	})
}
