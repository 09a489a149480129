package webhooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"reverb/internal/lib/backoff"
	"reverb/internal/lib/destinations"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
)

const (
	// maxAnswer bounds the header and the body of an answer. What is behind it in the body is not
	// read, and ends the connection. Larger: a receiver costs more. Smaller: connections to
	// receivers with long answers are not used again.
	maxAnswer = 64 << 10
	// maxIdle bounds the connections to one receiver that are kept, and keptFor how long. Larger:
	// more descriptors. Smaller: more handshakes.
	maxIdle = 64
	keptFor = 90 * time.Second
	// dialTime bounds a dial that no request waits for any more. Larger: a receiver that is away
	// costs descriptors for longer. Smaller: slow networks fail, whatever Hook.Timeout says.
	dialTime = 30 * time.Second
	// statusGone says that a receiver does not want the batch (RFC 9110 §15.5.11).
	statusGone = http.StatusGone
)

// NewTransport makes what a Sender sends with. It connects only to what guard allows, and asks that
// for each address, after DNS, at each attempt. It speaks HTTP/1.1 alone, ignores HTTP_PROXY, and
// reads little. roots are the certificates that are trusted; nil: those of the system. With a proxy
// guard judges the address of the proxy, and the proxy decides what it connects to.
func NewTransport(guard destinations.Guard, roots *x509.CertPool, proxy *url.URL) *http.Transport {
	t := &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialTime,
			Control: guard.Control}).DialContext,
		TLSHandshakeTimeout:    dialTime,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		Protocols:              new(http.Protocols),
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        keptFor,
		MaxResponseHeaderBytes: maxAnswer,
		DisableCompression:     true,
	}
	t.Protocols.SetHTTP1(true)
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
	}
	return t
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
