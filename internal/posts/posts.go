// Package posts makes one signed request of a webhook, in the form in which Pusher makes it. It
// repeats nothing and keeps nothing.
//
// # The form
//
// A request has the headers Content-Type: application/json (exactly so), X-Pusher-Key and
// X-Pusher-Signature (so spelt: HTTP/1.1 only), the lower-case hex HMAC-SHA256 of the body, and
// X-Reverb-Webhook-Id. The body has the events:
//
//	{"time_ms":1795709778123,"events":[…]}
//	{"name":"channel_occupied","channel":"…"}     also channel_vacated, cache_miss
//	{"name":"member_added","channel":"…","user_id":"7"}     also member_removed
//	{"name":"client_event","channel":"…","event":"client-…","data":"…","socket_id":"1.2",
//	 "user_id":"7"}     user_id on presence channels only
//	{"name":"subscription_count","channel":"…","subscription_count":3}
//
// A redirect is not followed. A user and a password of the URL become an Authorization.
package posts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/backoff"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
)

const (
	// MaxEvents bounds the events of a request. Larger: a receiver needs longer for one, and a
	// failed request repeats more. Smaller: more requests after a pause.
	MaxEvents = 50
	// MaxBody bounds the bytes of a body; an event that is larger travels alone. Larger: servers
	// refuse it. Smaller: more requests.
	MaxBody = 256 << 10
	// MaxList bounds the bytes of its events, with the commas between them.
	MaxList = MaxBody - bodyCost
	// bodyCost is at least what a body has beside its events.
	bodyCost = 64
	// maxAnswer bounds what is read of the body of an answer. More of it ends the connection.
	// Larger: a receiver costs more. Smaller: connections to receivers with long answers are not
	// used again.
	maxAnswer = 64 << 10
	// longestWait bounds a Retry-After. Larger: a receiver can hold up its events for longer.
	// Smaller: one in trouble gets more requests than it wants.
	longestWait = time.Minute
)

// Post is a request that is to be made.
type Post struct {
	URL     *url.URL    // http or https
	Headers http.Header // those of the form count above them
	Timeout time.Duration
	Key     string // of the app
	Secret  string // of the app; signs the body
	ID      string // X-Reverb-Webhook-Id
	Events  []byte // JSON, with commas between them
}

// Answer is what has become of a request.
type Answer struct {
	Status     int // 0: there was no answer
	RetryAfter time.Duration
	Err        error
}

// OK says whether the receiver has taken the events.
func (a *Answer) OK() bool { return a.Status/100 == 2 }

// Why says what was wrong, in one line.
func (a *Answer) Why() string {
	switch {
	case a.Err != nil:
		return show.Line(a.Err.Error())
	case a.Status/100 == 3:
		return fmt.Sprintf("status %d; redirects are not followed", a.Status)
	}
	return fmt.Sprintf("status %d", a.Status)
}

// entrance is a transport that makes requests wait for one another. The wait is not a part of
// Post.Timeout: the receiver is not to blame for it.
type entrance interface {
	Enter(ctx context.Context) (leave func(), err error)
}

// Send makes a request. now is the time at its beginning.
func (p *Post) Send(ctx context.Context, by http.RoundTripper, now func() time.Time) Answer {
	if t, waits := by.(entrance); waits {
		leave, err := t.Enter(ctx)
		if err != nil {
			return Answer{Err: err}
		}
		defer leave()
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	req, err := p.request(ctx, now())
	if err != nil {
		return Answer{Err: errors.New("the URL makes no request")} // err has the URL
	}
	resp, err := by.RoundTrip(req) // not a Client: that follows redirects
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", p.Timeout)
		}
		return Answer{Err: err}
	}
	defer resp.Body.Close()
	// The status has decided. The body is read so that the connection can be used again.
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return Answer{Status: resp.StatusCode, RetryAfter: backoff.RetryAfter(
		resp.Header.Get("Retry-After"), now(), longestWait)}
}

func (p *Post) request(ctx context.Context, at time.Time) (*http.Request, error) {
	content := body(at.UnixMilli(), p.Events)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL.String(),
		strings.NewReader(content))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "reverb")
	for name, values := range p.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if user := p.URL.User; user != nil {
		if password, _ := user.Password(); req.Header.Get("Authorization") == "" {
			req.SetBasicAuth(user.Username(), password)
		}
		req.URL.User = nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Pusher-Key", p.Key)
	req.Header.Set("X-Pusher-Signature", protocol.Sign(p.Secret, content))
	req.Header.Set("X-Reverb-Webhook-Id", p.ID)
	return req, nil
}

// body is the body of a request, for a time in milliseconds since 1970.
func body(ms int64, events []byte) string {
	b := make([]byte, 0, len(events)+bodyCost)
	b = strconv.AppendInt(append(b, `{"time_ms":`...), ms, 10)
	b = append(append(b, `,"events":[`...), events...)
	return string(append(b, "]}"...))
}
