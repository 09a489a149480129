package test

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// turnsLimit bounds how long another app's ping and a new client may wait while one app has very
// much to deliver. Larger: the test misses a server that stands still. Smaller: it fails, because
// the machine is busy with the load too.
const turnsLimit = time.Second

// pingBeside connects to the app other-key and pings until the returned function is called. That
// function returns how long the pongs took, the shortest first.
func pingBeside(t *testing.T, addr string) (stop func() []time.Duration) {
	t.Helper()
	nc, err := dialApp(addr, "other-key", "quiet")
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var pings []time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer nc.Close()
		for br := bufio.NewReader(nc); !over.Load(); time.Sleep(2 * time.Millisecond) {
			// a pace, not a wait
			begin := time.Now()
			nc.SetDeadline(begin.Add(60 * time.Second))
			// an error shows with the pong
			nc.Write(clientFrame([]byte(`{"event":"pusher:ping"}`), 1))
			err := skipTo(br, `"pusher:pong","data":"{}"}`)
			if pings = append(pings, time.Since(begin)); err != nil {
				t.Errorf("no pong: %v", err)
				return
			}
		}
	}()
	stop = func() []time.Duration {
		over.Store(true)
		<-done
		slices.Sort(pings)
		return pings
	}
	t.Cleanup(func() { stop() })
	return stop
}

// quantile is the value below which the given share of a sorted list lies.
func quantile(sorted []time.Duration, part float64) time.Duration {
	return sorted[int(part*float64(len(sorted)-1))].Round(100 * time.Microsecond)
}

// TestOthersAreServed publishes for one app as fast as the server takes it, in ways that once made
// all others wait for seconds. It measures the pings and the new clients of another app.
// REVERB_TEST_PROGRAM names another program to measure.
func TestOthersAreServed(t *testing.T) {
	useOtherProgram(t)
	small := clientFrame([]byte(`{"event":"client-","channel":"z"}`), 1)
	large := clientFrame([]byte(`{"event":"client-e","channel":"z","data":"`+
		strings.Repeat("x", 9000)+`"}`), 1)
	for _, load := range []struct {
		name        string
		subscribers int
		reading     bool
		senders     int
		batch       string
	}{
		{"80,000 small events by the API to 1,000 members", 1000, false, 0, ""},
		{"small events of 40 clients to 200 members", 200, true, 40,
			strings.Repeat(string(small), 100)},
		{"events of 9 kB of 2 clients to 100 members", 100, true, 2,
			strings.Repeat(string(large), 4)},
	} {
		t.Run(load.name, func(t *testing.T) {
			apps := write(t, t.TempDir(), "apps.json",
				[]byte(`[{"app_id":"app-id","key":"app-key","secret":"app-secret",`+
					`"allowed_origins":["*"],"accept_client_events_from":"all"},`+
					`{"app_id":"other","key":"other-key","secret":"other-secret",`+
					`"allowed_origins":["*"]}]`))
			s := start(t, "REVERB_APPS_FILE="+apps)
			defer func() {
				if t.Failed() { // do not wait for a server that hangs
					s.cmd.Process.Kill()
					s.wait(10 * time.Second)
				}
			}()
			join := func() net.Conn {
				nc, err := dialPlain(s.addr, "z")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { nc.Close() })
				return nc
			}
			for range load.subscribers {
				if nc := join(); load.reading {
					go io.Copy(io.Discard, nc)
				}
			}
			bystander := pingBeside(t, s.addr)
			var over atomic.Bool
			var running, publishing sync.WaitGroup
			accepted := new(atomic.Int64)
			for range load.senders {
				nc := join()
				go io.Copy(io.Discard, nc)
				publishing.Go(func() {
					for !over.Load() {
						nc.SetWriteDeadline(time.Now().Add(3 * time.Second))
						if _, err := io.WriteString(nc, load.batch); err != nil {
							return
						}
					}
				})
			}
			if load.senders == 0 {
				for range 4 {
					nc, err := net.Dial("tcp", s.addr)
					if err != nil {
						t.Fatal(err)
					}
					defer nc.Close()
					publishing.Go(func() { publishRaw(nc, &over, accepted) })
				}
			}
			var joins []time.Duration
			running.Go(func() {
				for !over.Load() {
					begin := time.Now()
					nc, err := dialApp(s.addr, "other-key", "quiet")
					if joins = append(joins, time.Since(begin)); err != nil {
						t.Errorf("a new client does not get in: %v", err)
						return
					}
					nc.Close()
					time.Sleep(20 * time.Millisecond)
				}
			})
			time.Sleep(2 * time.Second) // the load
			over.Store(true)
			running.Wait()
			pings := bystander() // the last pong comes after everything before it
			slices.Sort(joins)
			t.Logf("%d events by the API; another app's %d pings: p50 %v, p99 %v, max %v; "+
				"its %d new clients: p50 %v, max %v", accepted.Load(),
				len(pings), quantile(pings, 0.5), quantile(pings, 0.99), quantile(pings, 1),
				len(joins), quantile(joins, 0.5), quantile(joins, 1))
			if longest := max(quantile(pings, 1), quantile(joins, 1)); longest > turnsLimit {
				t.Errorf("others waited for %v; at most %v are allowed", longest, turnsLimit)
			}
			publishing.Wait()
		})
	}
}
