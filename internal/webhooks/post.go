package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"reverb/internal/lib/backoff"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
)

const (
	// maxAnswer bounds what is read of the body of an answer. More of it ends the connection.
	// Larger: a receiver costs more. Smaller: connections to receivers with long answers are not
	// used again.
	maxAnswer = 64 << 10
	// statusGone says that a receiver does not want the batch (RFC 9110 §15.5.11).
	statusGone = http.StatusGone
)

// entrance is a transport that makes requests wait for one another. The wait is not a part of
// Hook.Timeout: the receiver is not to blame for it.
type entrance interface {
	Enter(ctx context.Context) (leave func(), err error)
}

// answer is what has become of a request.
type answer struct {
	status     int // 0: there was no answer
	retryAfter time.Duration
	err        error
	pushed     bool // onto a Queue
	full       bool // a Queue has had no room
}

func (a *answer) ok() bool { return a.status/100 == 2 || a.pushed }

// why says what was wrong, in one line.
func (a *answer) why() string {
	switch {
	case a.err != nil:
		return show.Line(a.err.Error())
	case a.status/100 == 3:
		return fmt.Sprintf("status %d; redirects are not followed", a.status)
	}
	return fmt.Sprintf("status %d", a.status)
}

// post makes one attempt to deliver a batch.
func (s *Sender) post(q *queue, id string, events []byte) answer {
	if t, waits := s.Transport.(entrance); waits {
		leave, err := t.Enter(q.ctx)
		if err != nil {
			return answer{err: err}
		}
		defer leave()
	}
	hook, set := q.hook.Load(), q.app.set.Load()
	ctx, cancel := context.WithTimeout(q.ctx, hook.Timeout)
	defer cancel()
	now := s.Now()
	content := body(now.UnixMilli(), events)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL.String(),
		strings.NewReader(content))
	if err != nil {
		return answer{err: errors.New("the URL makes no request")} // err has the URL
	}
	req.Header.Set("User-Agent", "reverb")
	for name, values := range hook.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if user := hook.URL.User; user != nil {
		if password, _ := user.Password(); req.Header.Get("Authorization") == "" {
			req.SetBasicAuth(user.Username(), password)
		}
		req.URL.User = nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Pusher-Key", set.Key)
	req.Header.Set("X-Pusher-Signature", protocol.Sign(set.Secret, content))
	req.Header.Set("X-Reverb-Webhook-Id", id)
	resp, err := s.Transport.RoundTrip(req) // not a Client: that follows redirects
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", hook.Timeout)
		}
		return answer{err: err}
	}
	defer resp.Body.Close()
	// The status has decided. The body is read so that the connection can be used again.
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return answer{status: resp.StatusCode, retryAfter: backoff.RetryAfter(
		resp.Header.Get("Retry-After"), s.Now(), longestPause)}
}
