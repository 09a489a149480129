package hooks

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/webhooks"
)

// tripper answers requests in memory.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func address(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestCheck asks receivers of two apps; one of them hangs.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by := tripper(func(r *http.Request) (*http.Response, error) {
			b, err := io.ReadAll(r.Body)
			if err != nil || !strings.HasSuffix(string(b), `"events":[]}`) ||
				r.Header.Get("X-Pusher-Signature") == "" ||
				r.Header.Get("X-Reverb-Webhook-Id") != "check" {
				t.Errorf("got %s, %v, %v", b, r.Header, err)
			}
			status := 204
			switch {
			case strings.HasSuffix(r.URL.Path, "/hangs"):
				<-r.Context().Done()
				return nil, r.Context().Err()
			case strings.HasSuffix(r.URL.Path, "/fails"):
				status = 503
			}
			return &http.Response{StatusCode: status, Header: http.Header{},
				Body: http.NoBody}, nil
		})
		var lines []string
		at := func(s string) *webhooks.Hook {
			return &webhooks.Hook{URL: address(t, s), Timeout: time.Second}
		}
		Check(t.Context(), by, time.Now, []webhooks.Account{
			{ID: "1", Key: "k", Secret: "s", Hooks: []*webhooks.Hook{
				at("http://u:pass@a.example/fine?token=x"), at("http://a.example/hangs")}},
			{ID: "2", Key: "k2", Secret: "s2", Hooks: []*webhooks.Hook{
				at("http://b.example/fails")}},
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
