package logs

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		log := slog.New(Limit(slog.NewTextHandler(&b, nil))).With("node", 1)
		for range 1000 {
			log.Warn("refused", "who", "x")
		}
		log.Info("another")
		if n := strings.Count(b.String(), "refused"); n != burst {
			t.Errorf("%d lines, want %d", n, burst)
		}
		if !strings.Contains(b.String(), "another") {
			t.Error("a flood of one message drowned another")
		}
		b.Reset()
		time.Sleep(1500 * time.Millisecond) // of the bubble
		log.Warn("refused")
		if got := b.String(); !strings.Contains(got, "left_out=980") {
			t.Errorf("got %s, want left_out=980", got)
		}
		for i := range 1000 {
			log.Info(strconv.Itoa(i))
		}
		if n := len(log.Handler().(*handler).limiter.buckets); n > maxMessages+1 {
			t.Errorf("%d messages are remembered, want at most %d", n, maxMessages+1)
		}
	})
}

// TestWhole has what is not limited: debug lines, and those that were asked for.
func TestWhole(t *testing.T) {
	var b strings.Builder
	limited := slog.New(
		Limit(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})),
	)
	for range 3 * burst {
		limited.Debug("detail")
	}
	if n := strings.Count(b.String(), "detail"); n != 3*burst {
		t.Errorf("%d debug lines, want %d", n, 3*burst)
	}
	b.Reset()
	errors := &slog.HandlerOptions{Level: slog.LevelError}
	access := slog.New(Whole(Limit(slog.NewTextHandler(&b, errors)))).With("a", 1)
	for range 3 * burst {
		access.WithGroup("g").Info("request", "b", 2)
	}
	if n := strings.Count(b.String(), "msg=request a=1 g.b=2\n"); n != 3*burst {
		t.Errorf("%d lines, want %d:\n%s", n, 3*burst, b.String())
	}
}

func TestNew(t *testing.T) {
	for inJSON, want := range map[bool]string{true: `"msg":"a"`, false: "msg=a"} {
		var b strings.Builder
		log := New(&b, slog.LevelWarn, inJSON)
		log.Info("b")
		for range 3 * burst {
			log.Warn("a")
		}
		if got := b.String(); strings.Count(got, want) != burst || strings.Contains(got, "b") {
			t.Errorf("got %s", got)
		}
	}
}
