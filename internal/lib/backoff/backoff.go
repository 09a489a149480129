// Package backoff says how long to wait before a request is tried again: longer after each failure,
// with chance in it, so that many clients of a server that comes back do not come all at once; and
// as long as the server asks for (Retry-After, RFC 9110 §10.2.3).
//
// It reads no clock and draws nothing itself: time and chance are parameters.
package backoff

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Pauses grow from First, twice as long each time, to at most Max.
type Pauses struct{ First, Max time.Duration }

// Pause is the pause after so many failures, 1 or more. Its upper half is left to chance: draw
// returns a number from 0 to n-1.
func (p Pauses) Pause(failures int, draw func(n int64) int64) time.Duration {
	d := p.First
	for i := 1; i < failures && d < p.Max; i++ {
		d *= 2
	}
	d = min(d, p.Max)
	return d - time.Duration(draw(int64(d/2)+1))
}

// RetryAfter reads the header Retry-After: so many seconds, or a date. It is 0 for a date that has
// passed, and for a text that is neither. It is never more than limit.
func RetryAfter(value string, now time.Time, limit time.Duration) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n > int64(limit/time.Second) { // an error: more than 63 bits
			return limit
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), limit))
}
