// Package logs keeps a log from being flooded. It writes only some lines of each message in a
// while; the next line says how many were left out. Debug lines are not
// limited: whoever asks for them wants all of them.
package logs

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// burst bounds the lines of one message in a row. Larger: a flood takes more of the disk.
	// Smaller: less is known of a short burst.
	burst = 20
	// every is how often one more line of a message is allowed. Larger: less is known of what goes
	// on. Smaller: a flood takes more of the disk.
	every = time.Second
	// maxMessages bounds the messages that have a budget of their own; the others share one.
	// Larger: more memory. Smaller: more messages suffer from a flood of another.
	maxMessages = 256
)

// New returns a logger that writes lines of at least a level to w, in JSON or as text, within the
// limit.
func New(w io.Writer, level slog.Level, inJSON bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if inJSON {
		return slog.New(Limit(slog.NewJSONHandler(w, options)))
	}
	return slog.New(Limit(slog.NewTextHandler(w, options)))
}

// Limit returns a handler that passes to h the records within the limit. Records of warn and above
// count too, because an attacker can cause them.
func Limit(h slog.Handler) slog.Handler {
	return &handler{h, &limiter{buckets: map[string]*bucket{}}}
}

type handler struct {
	slog.Handler
	limiter *limiter
}

type limiter struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	tokens  float64
	at      time.Time
	dropped int
}

// take says whether a line of message may be written at now, and how many lines were left out
// before it.
func (l *limiter) take(message string, now time.Time) (ok bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[message]
	if b == nil {
		if len(l.buckets) >= maxMessages {
			message = ""
			b = l.buckets[""]
		}
		if b == nil {
			b = &bucket{tokens: burst, at: now}
			l.buckets[message] = b
		}
	}
	b.tokens = min(b.tokens+float64(now.Sub(b.at))/float64(every), burst)
	b.at = now
	if b.tokens < 1 {
		b.dropped++
		return false, 0
	}
	b.tokens--
	dropped, b.dropped = b.dropped, 0
	return true, dropped
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	ok, dropped := h.limiter.take(r.Message, r.Time)
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.limiter}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.limiter}
}

// Whole returns a handler that writes everything where h writes: without a limit, and
// whatever level h is for. It is for lines that somebody has asked for one by one.
func Whole(h slog.Handler) slog.Handler {
	if limited, ok := h.(*handler); ok {
		h = limited.Handler
	}
	return whole{h}
}

type whole struct{ slog.Handler }

func (whole) Enabled(context.Context, slog.Level) bool { return true }

func (h whole) WithAttrs(
	attrs []slog.Attr,
) slog.Handler {
	return whole{h.Handler.WithAttrs(attrs)}
}

func (h whole) WithGroup(name string) slog.Handler { return whole{h.Handler.WithGroup(name)} }
