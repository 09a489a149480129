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
