package operator

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/protocol"
)

// tracing is a trace that somebody has asked for.
type tracing struct {
	nc net.Conn
	r  *bufio.Reader
}

// trace asks for a trace and waits until it is seen.
func (b *bench) trace(t *testing.T, f Filter) *tracing {
	t.Helper()
	nc, err := b.dial(Question, new(greeting))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(request{Command: "trace", Filter: f})
	if _, err := nc.Write(append(text, '\n')); err != nil {
		t.Fatal(err)
	}
	return &tracing{nc, bufio.NewReader(nc)}
}

func (tr *tracing) next(t *testing.T) string {
	t.Helper()
	text, err := tr.r.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return text
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		traces := b.server.Traces
		if traces.On() {
			t.Error("traced, and nobody has asked")
		}
		traces.Show(1, Event{What: "event"}) // to nobody
		channel := b.trace(t, Filter{Channels: []string{"news"}, App: "1"})
		user := b.trace(t, Filter{User: "u1"})
		for _, tr := range []*tracing{channel, user} {
			if got := tr.next(t); !strings.Contains(got, "tracing") {
				t.Errorf("got %q", got)
			}
		}
		m := Marks(b.source.peers[0][0].marks)
		if m == 0 || m != Marks(b.source.peers[1][0].marks) || b.source.peers[0][1].marks != 0 ||
			traces.OfPeer(b.source.peers[0][0]) != m {
			t.Errorf(
				"marks are %b, %b, %b",
				m,
				b.source.peers[0][1].marks,
				b.source.peers[1][0].marks,
			)
		}
		for _, other := range []Event{{App: "2", Channel: "news"}, {App: "1", Channel: "new"},
			{App: "1"}} {
			traces.ShowChannel(other) // the next line of the trace is not of these
		}
		message := []byte(`{"event":"pusher:subscribe","data":{"auth":"key:sig"}}`)
		traces.Show(
			m,
			Event{What: "in", App: "1", Socket: protocol.SocketIDOf(1<<32 | 1), Message: message},
		)
		clear(message) // the loop's buffer is used again
		traces.ShowChannel(
			Event{
				What:      "event",
				App:       "1",
				Channel:   "news",
				Receivers: 3,
				Message:   []byte(`{"event":"e"}`),
				Constant:  true,
			},
		)
		if got := user.next(t); !strings.Contains(got, `\"auth\":\"********\"`) ||
			strings.Contains(got, "sig") ||
			!strings.Contains(got, `"bytes":54`) {
			t.Errorf("got %q", got)
		}
		if got := channel.next(t); !strings.Contains(got, `"receivers":3`) ||
			!strings.Contains(got, `"what":"event"`) {
			t.Errorf("got %q", got)
		}
		traces.Show(m, Event{What: "out", Message: make([]byte, maxTracedBytes+1)})
		if got := user.next(t); !strings.Contains(got, "(65537 bytes)") {
			t.Errorf("got %q", got)
		}
		user.nc.Close()
		channel.nc.Close()
		b.talks.Wait()
		if traces.On() || b.source.peers[0][0].marks != 0 || traces.taken != 0 {
			t.Errorf(
				"on %v, marks %b, taken %b: something of a trace is left",
				traces.On(),
				b.source.peers[0][0].marks,
				traces.taken,
			)
		}
		if log := b.log.String(); strings.Count(log, "an operator traces") != 2 ||
			!strings.Contains(log, `uid=1000 what="user u1" lines=2 left_out=0`) {
			t.Errorf("the log has\n%s", log)
		}
	})
}

// TestTraceBounds has too many traces, too many lines, a reader that stalls and a trace that
// was forgotten.
func TestTraceBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		traces := b.server.Traces
		var all []*tracing
		for range maxTraces {
			all = append(all, b.trace(t, Filter{Channels: []string{"news"}}))
			all[len(all)-1].next(t)
		}
		one := b.trace(t, Filter{Channels: []string{"news"}})
		if got := one.next(t); !strings.Contains(got, "no more may at a time") {
			t.Errorf("one too many: got %q", got)
		}
		for _, tr := range all[1:] {
			tr.nc.Close()
		}
		synctest.Wait()
		tr := all[0]
		for i := range traceRate + 500 {
			traces.ShowChannel(Event{What: "event", App: "1", Channel: "news", Note: fmt.Sprint(i)})
		}
		// Nobody reads for five minutes. What does not fit is lost, and the server goes on.
		time.Sleep(5 * time.Minute)
		large := make([]byte, maxTracedBytes)
		for range 2 * traceQueueBytes / maxTracedBytes {
			traces.ShowChannel(Event{What: "event", App: "1", Channel: "news", Message: large})
		}
		rows, dropped := 0, 0
		for {
			got := tr.next(t)
			n := 0
			if _, err := fmt.Sscanf(got, `{"note":"%d lines are left out here"}`, &n); err == nil {
				dropped += n
			}
			if strings.HasPrefix(got, `{"row"`) {
				rows++
			}
			if strings.Contains(got, `{"end"`) {
				var l struct{ End end }
				json.Unmarshal([]byte(got), &l)
				if l.End.Rows != rows || int(l.End.Dropped) != dropped {
					t.Errorf("the end is %s, after %d rows and %d dropped", got, rows, dropped)
				}
				break
			}
			if got == "" {
				t.Fatal("the stream has no end")
			}
		}
		if want := traceRate + 500 + 2*traceQueueBytes/maxTracedBytes; rows+dropped != want ||
			dropped < 500 ||
			rows < traceRate {
			t.Errorf("%d rows and %d dropped, want %d", rows, dropped, want)
		}
		tr.nc.Close()
		b.talks.Wait()
		if log := b.log.String(); !strings.Contains(log, "after=10m0s") {
			t.Errorf("the log has\n%s", log)
		}
	})
}

// TestTraceTool prints a trace until the person has seen enough.
func TestTraceTool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan int)
		go func() {
			done <- b.tool.Run(ctx, asked{Command: "trace", Filter: Filter{Socket: "3.1"}}.typed())
		}()
		synctest.Wait()
		b.server.Traces.Show(
			Marks(b.source.peers[0][2].marks),
			Event{
				What:    "in",
				Socket:  protocol.SocketIDOf(3<<32 | 1),
				Channel: "news",
				Message: []byte(`{"event":"a"}`),
			},
		)
		synctest.Wait()
		stop()
		if code := <-done; code != 0 ||
			!strings.Contains(b.out.String(), `in           3.1 news {"event":"a"}`) ||
			!strings.Contains(b.err.String(), "tracing socket 3.1") {
			t.Errorf("got %d, %q, %q", code, b.out.String(), b.err.String())
		}
		b.talks.Wait()
	})
}
