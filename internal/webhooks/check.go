package webhooks

import (
	"context"
	"sync"
	"time"

	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// checksAtOnce bounds the requests of Check that are under way. Larger: more connections. Smaller:
// the check of many receivers that hang takes longer.
const checksAtOnce = 16

// Check sends an empty batch to each URL of each account, once, and says in a line of add how it
// was answered: the verdict is ok or FAIL. A Sender that checks tells nothing else.
func (s *Sender) Check(ctx context.Context, accounts []Account,
	add func(verdict, format string, args ...any)) {
	type line struct {
		app, url string
		took     time.Duration
		answer   answer
	}
	var lines []*line
	var asking sync.WaitGroup
	room := make(chan struct{}, checksAtOnce)
	for _, account := range accounts {
		a := s.App(account)
		for _, h := range account.Hooks {
			if h.URL == nil {
				continue // a Queue; the caller checks it
			}
			q := a.queues[h.Address()]
			stop := context.AfterFunc(ctx, q.cancel)
			defer stop()
			v := &line{app: a.id, url: redact.Parsed(h.URL)}
			lines = append(lines, v)
			asking.Go(func() {
				room <- struct{}{}
				begin := s.Now()
				v.answer = s.post(q, "check", nil)
				v.took = s.Now().Sub(begin)
				<-room
			})
		}
	}
	asking.Wait()
	for _, v := range lines {
		if took := v.took.Round(time.Millisecond); v.answer.ok() {
			add("ok", "webhook: app %s: %s answers with %d after %v", show.Text(v.app),
				show.Text(v.url), v.answer.status, took)
		} else {
			add("FAIL", "webhook: app %s: %s: %s after %v; it must answer a signed request "+
				"with 2xx",
				show.Text(v.app), show.Text(v.url), v.answer.why(), took)
		}
	}
}
