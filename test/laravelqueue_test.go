package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

const jobs = "shop-database-queues:default"

// laravelShop is the environment of a server beside a Laravel application with the queue in r.
func laravelShop(t *testing.T, r *redisServer, env ...string) []string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "artisan", "#!/usr/bin/env php\n")
	put(t, dir, ".env", "APP_NAME=Shop\nQUEUE_CONNECTION=redis\nREDIS_PORT="+r.port+"\n"+
		"REVERB_LARAVEL_QUEUE=default\n")
	put(t, dir, "config/database.php", `<?php return ['redis' => ['options' => ['prefix' =>
		Str::slug(env('APP_NAME', 'laravel')).'-database-'], 'default' => ['host' =>
		env('REDIS_HOST', '127.0.0.1'), 'port' => env('REDIS_PORT', '6379'),
		'password' => env('REDIS_PASSWORD'), 'database' => env('REDIS_DB', '0')]]];`)
	return slices.Concat(oneApp(), []string{"REVERB_ENV_FILE=" + filepath.Join(dir, ".env"),
		"REVERB_APP_DISCONNECT_GRACE_MS=0"}, env)
}

// called is what PHP calls for the jobs in the queue: class, method and arguments, in JSON.
func called(t *testing.T, r *redisServer) (calls []string) {
	t.Helper()
	payloads, err := redis.Strings(r.do("LRANGE", jobs, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	cmd := command("php", "clients/laravelqueue.php")
	cmd.Stdin = strings.NewReader(strings.Join(payloads, "\n"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// waitJobs waits until n jobs wait.
func waitJobs(t *testing.T, r *redisServer, n int, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func() string {
		if got, err := redis.Int(r.do("LLEN", jobs)); err != nil || got != n {
			return fmt.Sprintf("%d jobs wait, want %d; %v", got, n, err)
		}
		return ""
	})
}

// listenerArrays takes the arrays that listeners get out of calls, without what differs from run to
// run. prefix is what stands before the array.
func listenerArrays(t *testing.T, calls []string, prefix func(name string) string) (all []string) {
	t.Helper()
	ids := map[any]bool{}
	for _, call := range calls {
		var parts []json.RawMessage
		var array map[string]any
		err := json.Unmarshal([]byte(call), &parts)
		i := strings.Index(call, `{"name"`)
		if err != nil || len(parts) != 3 || i < 0 {
			t.Fatalf("%s: %v", call, err)
		}
		text, _, _ := strings.Cut(call[i:], "}]")
		if err := json.Unmarshal([]byte(text+"}"), &array); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
		if want := prefix(fmt.Sprint(array["name"])); call[:i] != want {
			t.Errorf("got %s, want %s…", call, want)
		}
		at, _ := array["time_ms"].(float64)
		if passed := time.Since(time.UnixMilli(int64(at))); passed < -time.Second ||
			passed > time.Minute || ids[array["id"]] || array["id"] == nil ||
			array["app_id"] != "app-id" {
			t.Errorf("got %v", array)
		}
		ids[array["id"]] = true
		line := ""
		for _, key := range []string{"name", "channel", "user_id", "event", "data",
			"subscription_count"} {
			if v, ok := array[key]; ok {
				line += fmt.Sprint(" ", v)
			}
		}
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

// TestLaravelQueue pushes events of all kinds onto the queue of an application, and has PHP read
// the jobs as Laravel's worker does: for Laravel's own events, and for a class.
func TestLaravelQueue(t *testing.T) {
	t.Parallel()
	need(t, "php")
	r := startRedis(t)
	for listener, prefix := range map[string]func(string) string{
		"": func(name string) string { return `["events","dispatch",["reverb.` + name + `",[` },
		`App\Listeners\ReverbEvents@on`: func(string) string {
			return `["App\\Listeners\\ReverbEvents","on",[`
		},
	} {
		r.must("FLUSHALL")
		s := start(t, laravelShop(t, r, "REVERB_LARAVEL_LISTENER="+listener,
			"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all", "REVERB_APP_SUBSCRIPTION_COUNT=true",
			"REVERB_WEBHOOK_EVENTS=channel_occupied,channel_vacated,member_added,member_removed,"+
				"client_event,cache_miss,subscription_count")...)
		n := &clusterNode{server: s}
		p := n.open(t, "private-cache-a")
		p.subscribe("presence-b", "Jürgen", "{}")
		p.mustJoin(t, "presence-b")
		p.send(`{"event":"client-t","channel":"presence-b","data":{"a": "\";}😀\u0000é"}}`)
		waitJobs(t, r, 6, 10*time.Second)
		p.unsubscribe("presence-b")
		waitJobs(t, r, 8, 10*time.Second)
		p.close()
		waitJobs(t, r, 9, 10*time.Second)
		got := listenerArrays(t, called(t, r), prefix)
		want := []string{"channel_occupied private-cache-a", "subscription_count private-cache-a 1",
			"cache_miss private-cache-a", "channel_occupied presence-b",
			"member_added presence-b Jürgen",
			`client_event presence-b Jürgen client-t {"a":"\";}😀\u0000é"}`,
			"member_removed presence-b Jürgen", "channel_vacated presence-b",
			"channel_vacated private-cache-a"}
		slices.Sort(got) // those of one call have no order among each other
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if notes, err := redis.Int(r.do("LLEN", jobs+":notify")); err != nil || notes != 9 {
			t.Errorf("%d workers are told, %v", notes, err)
		}
		if keys, err := redis.Strings(r.do("KEYS", "*")); err != nil || len(keys) != 2 {
			t.Errorf("keys %q, %v", keys, err)
		}
		s.stop()
	}
}

// TestLaravelQueueTroubles takes Redis away and brings it back, and fills the queue. Nothing is
// lost or comes out of order; reverb check says what it sees.
func TestLaravelQueueTroubles(t *testing.T) {
	t.Parallel()
	need(t, "php")
	need(t, "redis-server")
	r := newRedis(t, "--requirepass", "p4ssw0rd")
	r.password = "p4ssw0rd"
	r.start()
	env := laravelShop(t, r, "REDIS_PASSWORD=p4ssw0rd", "REVERB_LARAVEL_QUEUE_MAX=4",
		`REVERB_APPS=[{"app_id":"app-id","key":"app-key","secret":"app-secret"},`+
			`{"app_id":"other","key":"key-other","secret":"secret-other"}]`)
	s := start(t, env...)
	n := &clusterNode{server: s}
	nc, err := dialApp(s.addr, "key-other", "of-another-app")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	n.open(t, "a")
	waitJobs(t, r, 1, 10*time.Second)
	said := func(text string) {
		t.Helper()
		eventually(t, 20*time.Second, func() string {
			s.mu.Lock()
			defer s.mu.Unlock()
			if log := strings.Join(s.log, "\n"); !strings.Contains(log, text) {
				return "the log does not say " + text + ":\n" + log
			} else if strings.Contains(log, "p4ssw0rd") {
				return "the log has the password:\n" + log
			}
			return ""
		})
	}
	said("events of the app app-id are pushed onto " + jobs)
	closeIdle(t, r)
	n.open(t, "f")
	waitJobs(t, r, 2, 10*time.Second)
	s.mu.Lock()
	if log := strings.Join(s.log, "\n"); strings.Contains(log, "not delivered") {
		t.Errorf("a connection that Redis has closed costs a push:\n%s", log)
	}
	s.mu.Unlock()
	r.kill()
	n.open(t, "b", "c", "d")
	said("webhooks were not delivered")
	r.start()
	waitJobs(t, r, 3, 30*time.Second)
	said("webhooks are delivered again")
	r.must("RPUSH", jobs, "x")
	n.open(t, "e")
	said("4 jobs wait in the queue, REVERB_LARAVEL_QUEUE_MAX=4")
	r.must("RPOP", jobs)
	waitJobs(t, r, 4, 30*time.Second)
	var got []string
	for _, call := range called(t, r) {
		_, name, _ := strings.Cut(call, `"channel":"`)
		got = append(got, name[:1])
	}
	if strings.Join(got, "") != "bcde" {
		t.Errorf("got %q, want b, c, d, e", got)
	}
	check := command(program, "check")
	check.Env = append(env, "REVERB_SERVER_PORT=0")
	if out, _ := check.CombinedOutput(); !strings.Contains(string(out), "laravel queue: "+jobs+
		" has 4 of at most 4 jobs") || strings.Contains(string(out), "p4ssw0rd") {
		t.Errorf("reverb check says:\n%s", out)
	}
	r.kill()
	check = command(program, "check")
	check.Env = append(env, "QUEUE_CONNECTION=database")
	if out, err := check.CombinedOutput(); err == nil || !strings.Contains(string(out),
		"laravel queue: "+jobs+": connect to Redis: ") || !strings.Contains(string(out),
		"which is not Redis; php artisan queue:work redis is the worker") {
		t.Errorf("reverb check says:\n%s", out)
	}
	r.start()
}

// TestLaravelQueueCluster has two nodes and one queue: each transition is one job, whichever node
// has caused it, and whichever dies.
func TestLaravelQueueCluster(t *testing.T) {
	t.Parallel()
	need(t, "php")
	r := startRedis(t)
	env := laravelShop(t, r, "REVERB_SCALING_ENABLED=true", "REVERB_WEBHOOK_EVENTS="+
		"channel_occupied,channel_vacated,member_added,client_event",
		"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all")
	one := &clusterNode{server: start(t, env...)}
	two := &clusterNode{server: start(t, env...)}
	p := one.open(t)
	p.subscribe("presence-a", "7", "{}")
	p.mustJoin(t, "presence-a")
	waitJobs(t, r, 2, 20*time.Second)
	q := two.open(t)
	q.subscribe("presence-a", "8", "{}")
	q.mustJoin(t, "presence-a")
	waitJobs(t, r, 3, 20*time.Second)
	q.send(`{"event":"client-t","channel":"presence-a","data":{"a":"é"}}`)
	waitJobs(t, r, 4, 20*time.Second)
	eventually(t, 20*time.Second, func() string { // what is not settled is pushed again
		lanes, err := redis.Strings(r.do("KEYS", "*hooks:*:events"))
		for _, lane := range lanes {
			if n, _ := redis.Int(r.do("XLEN", lane)); n > 0 {
				return fmt.Sprint(n, " events of ", lane, " are not settled")
			}
		}
		return map[bool]string{true: fmt.Sprint(lanes, err)}[err != nil]
	})
	one.cmd.Process.Kill()
	one.wait(10 * time.Second)
	q.unsubscribe("presence-a")
	waitJobs(t, r, 5, 60*time.Second)
	got := listenerArrays(t, called(t, r), func(name string) string {
		return `["events","dispatch",["reverb.` + name + `",[`
	})
	want := []string{"channel_occupied presence-a", "member_added presence-a 7",
		"member_added presence-a 8", `client_event presence-a 8 client-t {"a":"é"}`,
		"channel_vacated presence-a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

var idleFor = regexp.MustCompile(` idle=([2-9]|\d\d) `)

// closeIdle closes the connections to r that were idle for 2 seconds, when there is one.
func closeIdle(t *testing.T, r *redisServer) {
	t.Helper()
	eventually(t, 20*time.Second, func() string {
		list, err := redis.String(r.do("CLIENT", "LIST"))
		for line := range strings.Lines(list) {
			for field := range strings.FieldsSeq(line) {
				id, isID := strings.CutPrefix(field, "id=")
				if isID && idleFor.MatchString(line) {
					r.must("CLIENT", "KILL", "ID", id)
					return ""
				}
			}
		}
		return fmt.Sprintf("no connection is idle: %v\n%s", err, list)
	})
}

// TestLaravelQueueReload moves the events to another queue, and then to none, without a restart.
func TestLaravelQueueReload(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	env := laravelShop(t, r)
	s := start(t, env...)
	n := &clusterNode{server: s}
	n.open(t, "a")
	waitJobs(t, r, 1, 10*time.Second)
	i := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "REVERB_ENV_") })
	_, name, _ := strings.Cut(env[i], "=")
	reload := func(queue string, times int) {
		t.Helper()
		put(t, filepath.Dir(name), ".env", "APP_NAME=Shop\nQUEUE_CONNECTION=redis\nREDIS_PORT="+
			r.port+"\nREVERB_LARAVEL_QUEUE="+queue+"\n")
		s.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, 10*time.Second, func() string {
			s.mu.Lock()
			defer s.mu.Unlock()
			if log := strings.Join(s.log, "\n"); strings.Count(log, "reloaded") != times {
				return "not reloaded:\n" + log
			}
			return ""
		})
	}
	reload("other", 1)
	n.open(t, "b")
	length := func() (string, error) {
		other, err := redis.Int(r.do("LLEN", "shop-database-queues:other"))
		usual, err2 := redis.Int(r.do("LLEN", jobs))
		return fmt.Sprint(usual, " ", other), errors.Join(err, err2)
	}
	eventually(t, 10*time.Second, func() string {
		if got, err := length(); got != "1 1" {
			return fmt.Sprint("jobs: ", got, err)
		}
		return ""
	})
	reload("", 2)
	n.open(t, "c")
	s.stop()
	if got, err := length(); got != "1 1" {
		t.Errorf("jobs: %s, %v", got, err)
	}
}

// TestLaravelQueueMany pushes 2,000 client events, or 100,000 with REVERB_TEST_LONG=1, and logs the
// time. They come in order, each once.
func TestLaravelQueueMany(t *testing.T) {
	events := 2_000
	if long() {
		events = 100_000
	} else {
		t.Parallel()
	}
	r := startRedis(t)
	s := start(t, laravelShop(t, r, "REVERB_WEBHOOK_EVENTS=client_event",
		"REVERB_LARAVEL_QUEUE_MAX=200000", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all",
		"REVERB_WEBHOOK_CLIENT_EVENTS_PER_SECOND=1000000")...)
	p := (&clusterNode{server: s}).open(t, "private-a")
	begin := time.Now()
	for i := range events {
		p.send(fmt.Sprintf(`{"event":"client-x","channel":"private-a","data":"<%d>"}`, i))
	}
	sent := time.Since(begin)
	waitJobs(t, r, events, 2*time.Minute)
	t.Logf("%d events: sent in %v, in the queue after %v", events, sent.Round(time.Millisecond),
		time.Since(begin).Round(time.Millisecond))
	for from := 0; from < events; from += 1000 {
		payloads, err := redis.Strings(r.do("LRANGE", jobs, from, from+999))
		if err != nil || len(payloads) != min(1000, events-from) {
			t.Fatal(len(payloads), err)
		}
		for i, payload := range payloads {
			if !strings.Contains(payload, fmt.Sprintf("<%d>", from+i)) {
				t.Fatalf("event %d is %s", from+i, payload)
			}
		}
	}
}
