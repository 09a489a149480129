package test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// stayers notes whether a member hears of users who stay, once all of them have come.
func (w *walker) stayers(prefix string, come *atomic.Bool) {
	w.other = func(b []byte) {
		if !come.Load() {
			return
		}
		text := string(b)
		member := strings.HasPrefix(text, `{"event":"pusher_internal:member_`)
		if member && strings.Contains(text, `\"user_id\":\"`+prefix) {
			w.fault("hears of a user who stays: %s", text)
		}
	}
}

// TestUpgradeCluster upgrades one of two nodes under load. On both, every event comes once and in
// order, and nobody hears of the users who stay.
func TestUpgradeCluster(t *testing.T) { upgradeNode(t, startRedis(t).env()) }

// TestUpgradeRedisCluster does that with three masters.
func TestUpgradeRedisCluster(t *testing.T) {
	_, env := startRedisCluster(t)
	upgradeNode(t, env)
}

// TestUpgradeClusterRefused keeps a node while Redis does not answer. The node goes on.
func TestUpgradeClusterRefused(t *testing.T) {
	r := startRedis(t)
	env := append(append(oneApp(), "REVERB_SCALING_ENABLED=true"), r.env()...)
	s := installed(t, env...)
	c := &throng{t: t}
	w := c.walk(s.addr, "private-room", 0)
	w.subscribe(w.room, "")
	go w.run()
	s.says("connected to Redis")
	refused := func(want string) {
		t.Helper()
		s.within("a refusal: "+want, func() bool {
			_, port, _ := net.SplitHostPort(s.addr)
			cmd := command(s.cmd.Path, "upgrade", "--port", port)
			cmd.Env = s.cmd.Env
			out, err := cmd.CombinedOutput()
			return err != nil && strings.Contains(string(out), want)
		})
	}
	s.within("an event", func() bool {
		return publisher(s.addr).Trigger(w.room, "n", map[string]int{"N": 1}) == nil &&
			w.heard.Load() > 0
	})
	r.cmd.Process.Signal(syscall.SIGSTOP)
	refused("Redis ") // it does not answer, or is away already
	r.cmd.Process.Signal(syscall.SIGCONT)
	s.within("a pong", func() bool {
		w.nc.Write(clientFrame([]byte(`{"event":"pusher:ping","data":{}}`), 1))
		time.Sleep(10 * time.Millisecond)
		return w.pongs.Load() > 0
	})
	s.within("an upgrade", func() bool {
		_, port, _ := net.SplitHostPort(s.addr)
		cmd := command(s.cmd.Path, "upgrade", "--port", port)
		cmd.Env = s.cmd.Env
		return cmd.Run() == nil
	})
	if w.ended.Load() {
		t.Error("the connection has ended")
	}
	w.nc.Close()
}

func upgradeNode(t *testing.T, redis []string) {
	size, rooms, upgrades := 300, 20, 3
	if os.Getenv("REVERB_TEST_LONG") != "" {
		size, rooms, upgrades = 3000, 50, 10
	}
	env := append(append(oneApp(), "REVERB_SCALING_ENABLED=true",
		"REVERB_APP_SUBSCRIPTION_COUNT=true"), redis...)
	s, far := installed(t, env...), start(t, env...)
	c := &throng{t: t}
	var come atomic.Bool
	var names []string
	for i := range rooms {
		names = append(names, fmt.Sprintf("private-room-%d", i))
	}
	for i := range size {
		at := s.addr
		if i%3 == 0 {
			at = far.addr
		}
		w := c.walk(at, names[i%rooms], 0)
		w.subscribe(w.room, "")
		w.subscribe(fmt.Sprintf("presence-p%d", i%7), fmt.Sprintf("stays-%d", i))
		w.subscribe("private-cache-x", "")
		w.stayers("stays-", &come)
		go w.run()
	}
	counts := func() {
		t.Helper()
		for i := range 7 {
			want := (size - i + 6) / 7
			for _, addr := range []string{s.addr, far.addr} {
				channel := fmt.Sprintf("presence-p%d", i)
				s.within(channel+": the counts", func() bool {
					users, err := publisher(addr).GetChannelUsers(channel)
					return err == nil && len(users.List) == want
				})
			}
		}
	}
	counts()
	stop := make(chan struct{})
	var beside sync.WaitGroup
	last := make([]map[string]int, 2)
	for i, addr := range []string{s.addr, far.addr} {
		beside.Go(func() {
			last[i] = publishNumbers(t, addr, names[i*rooms/2:(i+1)*rooms/2], 3*time.Millisecond,
				"", stop)
		})
		beside.Go(func() { crowdAround(t, addr, i, stop) })
	}
	c.hear(s, c.all) // behind the last who has come
	come.Store(true)
	for range upgrades {
		c.timing.Store(true)
		took := s.upgrade(t)
		c.hear(s, c.all)
		c.timing.Store(false)
		c.report(took)
	}
	close(stop)
	beside.Wait()
	maps.Copy(last[0], last[1])
	c.whole(s, last[0])
	counts()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			t.Error(line)
		}
	}
	t.Logf("%d and %d events of each room", last[0][names[0]], last[1][names[rooms-1]])
}

// crowdAround has users come to the presence channels and go again.
func crowdAround(t *testing.T, addr string, seed int, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	c := &throng{t: t}
	for i := 0; ; i++ {
		select {
		case <-stop:
			for _, w := range c.all {
				w.nc.Close()
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
		w := c.walk(addr, "", 0)
		w.subscribe(fmt.Sprintf("presence-p%d", rng.IntN(7)), fmt.Sprintf("goes-%d", rng.IntN(9)))
		go w.run()
		if len(c.all) > 20 {
			k := rng.IntN(len(c.all))
			c.all[k].nc.Close()
			c.all = slices.Delete(c.all, k, k+1)
		}
	}
}
