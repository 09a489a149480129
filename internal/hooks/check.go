package hooks

import (
	"context"
	"net/http"
	"sync"
	"time"

	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/posts"
	"reverb/internal/webhooks"
)

// checksAtOnce bounds the requests of Check that are under way. Larger: more connections. Smaller:
// the check of many receivers that hang takes longer.
const checksAtOnce = 16

// Check sends an empty batch to each URL of each account, once, and says in a line of add how it
// was answered: the verdict is ok or FAIL. now is the time.
func Check(ctx context.Context, by http.RoundTripper, now func() time.Time,
	accounts []webhooks.Account, add func(verdict, format string, args ...any)) {
	type line struct {
		app, url string
		took     time.Duration
		answer   posts.Answer
	}
	var lines []*line
	var asking sync.WaitGroup
	room := make(chan struct{}, checksAtOnce)
	for _, a := range accounts {
		for _, h := range a.Hooks {
			if h.URL == nil {
				continue // a Queue; the caller checks it
			}
			v := &line{app: a.ID, url: redact.Parsed(h.URL)}
			lines = append(lines, v)
			p := posts.Post{URL: h.URL, Headers: h.Headers, Timeout: h.Timeout, Key: a.Key,
				Secret: a.Secret, ID: "check"}
			asking.Go(func() {
				room <- struct{}{}
				begin := now()
				v.answer = p.Send(ctx, by, now)
				v.took = now().Sub(begin)
				<-room
			})
		}
	}
	asking.Wait()
	for _, v := range lines {
		if took := v.took.Round(time.Millisecond); v.answer.OK() {
			add("ok", "webhook: app %s: %s answers with %d after %v", show.Text(v.app),
				show.Text(v.url), v.answer.Status, took)
		} else {
			add("FAIL", "webhook: app %s: %s: %s after %v; it must answer a signed request "+
				"with 2xx",
				show.Text(v.app), show.Text(v.url), v.answer.Why(), took)
		}
	}
}
