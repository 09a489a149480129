package hooks

import (
	"context"
	"sync"
	"time"

	"reverb/internal/lib/findings"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/posts"
	"reverb/internal/webhooks"
)

// checksAtOnce bounds the requests of Check that are under way. Larger: more connections. Smaller:
// the check of many receivers that hang takes longer.
const checksAtOnce = 16

// CheckSpool says in a line of add what Keep of s would find in a folder. It changes nothing there.
// running says that the server whose folder it is runs. With an empty name it does nothing.
func CheckSpool(s *webhooks.Sender, dir string, running bool,
	add func(verdict, format string, args ...any)) {
	if dir == "" {
		return
	}
	switch kept, used, err := s.Look(dir); {
	case used && running:
		add(findings.OK, "webhook spool: %s is used by the server that runs, and has %s",
			show.Text(dir), kept)
	case err != nil:
		add(findings.Fail, "%s", show.Line(err.Error()))
	default:
		add(findings.OK, "webhook spool: %s has %s", show.Text(dir), kept)
	}
}

// Check sends an empty batch to each URL of each account, once, and says in a line of add how it
// was answered: the verdict is ok or FAIL. It tells nothing else, and takes only what is needed for
// requests from s.
func Check(ctx context.Context, s *webhooks.Sender, accounts []webhooks.Account,
	add func(verdict, format string, args ...any)) {
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
				begin := s.Now()
				v.answer = p.Send(ctx, s.Transport, s.Now)
				v.took = s.Now().Sub(begin)
				<-room
			})
		}
	}
	asking.Wait()
	for _, v := range lines {
		if took := v.took.Round(time.Millisecond); v.answer.OK() {
			add(findings.OK, "webhook: app %s: %s answers with %d after %v", show.Text(v.app),
				show.Text(v.url), v.answer.Status, took)
		} else {
			add(findings.Fail, "webhook: app %s: %s: %s after %v; it must answer a signed "+
				"request with 2xx", show.Text(v.app), show.Text(v.url), v.answer.Why(), took)
		}
	}
}
