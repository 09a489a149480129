package hooks

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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
		s := webhooks.New(webhooks.Options{Transport: by, Now: time.Now,
			Draw: func(int64) int64 { return 0 }})
		Check(t.Context(), s, []webhooks.Account{
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

// TestCheckSpool has folders that a start takes, and some that it refuses.
func TestCheckSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	sender := func(room int64) *webhooks.Sender {
		return webhooks.New(webhooks.Options{QueueBytes: room, Now: time.Now, After: time.After,
			Log:       slog.New(slog.DiscardHandler),
			Transport: tripper(func(*http.Request) (*http.Response, error) { select {} }),
			Draw:      func(int64) int64 { return 0 }})
	}
	check := func(s *webhooks.Sender, dir string, running bool) (line string) {
		CheckSpool(s, dir, running, func(verdict, format string, args ...any) {
			line += verdict + " " + fmt.Sprintf(format, args...)
		})
		return line
	}
	is := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	const room = 64 << 20
	const nothing = " 0 events that were not delivered and 0 channels and members that were " +
		"there, in 0 B"
	is(check(sender(room), "", false), "")
	is(check(sender(room), dir, false), "ok webhook spool: "+dir+" has"+nothing)
	used := sender(room)
	if err := used.Keep(dir, false); err != nil {
		t.Fatal(err)
	}
	is(check(sender(room), dir, true), "ok webhook spool: "+dir+" is used by the server that "+
		"runs, and has"+nothing)
	is(check(sender(room), dir, false), "FAIL REVERB_WEBHOOK_SPOOL: "+dir+": another process uses "+
		"it; each server needs a folder of its own")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	used.Close(ended)
	for _, bad := range []struct {
		room int64
		mode os.FileMode
	}{{room, 0o750}, {97 << 20, 0o700}} {
		if err := os.Chmod(dir, bad.mode); err != nil {
			t.Fatal(err)
		}
		s := sender(bad.room)
		if err := s.Keep(dir, false); err == nil {
			t.Errorf("%+v: a start takes it", bad)
		} else {
			is(check(s, dir, false), "FAIL "+err.Error())
		}
	}
	is(check(sender(97<<20), dir, false), "FAIL REVERB_WEBHOOK_QUEUE_BYTES: 97.0 MiB may wait, "+
		"and REVERB_WEBHOOK_SPOOL can keep 96.0 MiB; set it to at most 96MiB, or leave the spool "+
		"out")
}
