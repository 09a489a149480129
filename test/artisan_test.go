package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// restartLimit is the time in which a signal is seen: the interval of 5 seconds, and what a busy
// machine takes.
const restartLimit = 8 * time.Second

// laravelFiles are what a real Laravel has left in its cache, by name; see
// internal/laravel/testdata/README.md.
func laravelFiles(t *testing.T) map[string]string {
	t.Helper()
	dir, all := t.TempDir(), map[string]string{}
	if out, err := exec.Command("tar", "-xzf", "../internal/laravel/testdata/restart.tar.gz", "-C",
		dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names, _ := filepath.Glob(dir + "/*") // no error: the pattern is valid
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(b)
	}
	return all
}

// laravelApp makes the folder of an application and starts the server for it.
func laravelApp(t *testing.T, files map[string]string, env ...string) (dir string, s *server) {
	t.Helper()
	dir = t.TempDir()
	put(t, dir, "artisan", "#!/usr/bin/env php\n")
	put(t, dir, ".env", "APP_NAME=laravel\n")
	for name, text := range files {
		put(t, dir, name, text)
	}
	env = append(append(oneApp(), "REVERB_ENV_FILE="+filepath.Join(dir, ".env"),
		"REVERB_RESTART=drain"), env...)
	return dir, start(t, env...)
}

// put writes a file below a folder.
func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// restarted calls restart, which leaves the signal number n, every second until the server has
// ended by itself, and well: a signal that comes before the first look is no restart.
func restarted(t *testing.T, s *server, restart func(n int)) {
	t.Helper()
	for n, end := 0, time.Now().Add(2*restartLimit); ; n++ {
		restart(n)
		if err, over := ended(s, time.Second); over && err == nil {
			break
		} else if over || time.Now().After(end) {
			t.Fatalf("after php artisan reverb:restart: %v, %v", over, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	log := strings.Join(s.log, "\n")
	if !strings.Contains(log, "php artisan reverb:restart was called") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

// ended waits for the end of the server, for so long.
func ended(s *server, limit time.Duration) (err error, over bool) {
	select {
	case err = <-s.done:
		s.done <- err
		return err, true
	case <-time.After(limit):
		return nil, false
	}
}

// TestArtisanRestart ends the server by php artisan reverb:restart, wherever Laravel keeps the
// signal.
func TestArtisanRestart(t *testing.T) {
	files := laravelFiles(t)
	const signal = "storage/framework/cache/data/4f/e4/4fe44729b03e0a0a2586ebe0d445f50c083d0ff3"
	t.Run("file, and cache:clear before", func(t *testing.T) {
		t.Parallel()
		app := map[string]string{signal: files["file-after-1.bin"]}
		dir, s := laravelApp(t, app, "CACHE_STORE=file")
		if err := os.Remove(filepath.Join(dir, signal)); err != nil {
			t.Fatal(err)
		}
		if err, over := ended(s, restartLimit); over {
			t.Fatalf("cache:clear has ended the server: %v", err)
		}
		restarted(t, s, func(n int) {
			put(t, dir, signal, fmt.Sprintf("9999999999i:%d;", 1795711900+n))
		})
	})
	for _, set := range []string{"sqlite-l12-delete", "sqlite-l12-wal", "sqlite-l11-wal"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			const name = "database/database.sqlite"
			dir, s := laravelApp(t, map[string]string{name: files[set+"-1-restart.db"],
				name + "-wal": files[set+"-1-restart.db-wal"]}, "CACHE_STORE=database")
			restarted(t, s, func(n int) { // 5 seconds later it is the other one
				step := []string{"-2-restart.db", "-1-restart.db"}[n%2]
				put(t, dir, name+"-wal", files[set+step+"-wal"])
				put(t, dir, name, files[set+step])
			})
		})
	}
	const twelve = "laravel-database-laravel-cache-laravel:reverb:restart"
	for name, tt := range map[string]struct{ key, where string }{
		"Laravel 12": {twelve, "CACHE_STORE=redis REDIS_HOST=127.0.0.1 REDIS_PORT=@PORT"},
		"a URL":      {twelve, "CACHE_STORE=redis REDIS_URL=redis://127.0.0.1:@PORT"},
		"a user, socket": {twelve, "CACHE_STORE=redis REDIS_HOST=@SOCK REDIS_USERNAME=laravel " +
			"REDIS_PASSWORD=secret"},
		"Laravel 11": {"laravel_database_laravel_cache_laravel:reverb:restart",
			"CACHE_STORE=redis REDIS_HOST=127.0.0.1 REDIS_PORT=@PORT"},
		"cached": {"shop:cache:laravel:reverb:restart", ""},
	} {
		t.Run("Redis, "+name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "redis.sock")
			r := startRedis(t, "--unixsocket", socket)
			// Laravel's user may do little
			r.must("ACL", "SETUSER", "laravel", "on", ">secret", "~*", "-@all", "+get", "+select")
			app := map[string]string{}
			if tt.where == "" {
				app["bootstrap/cache/config.php"] = `<?php return array('cache' => array(
					'default' => 'redis', 'prefix' => 'cache:', 'stores' => array(
					'redis' => array('driver' => 'redis', 'connection' => 'c'))),
					'database' => array('redis' => array('options' => array('prefix' => 'shop:'),
					'c' => array('host' => '127.0.0.1', 'database' => '1',
					'port' => '` + r.port + `'))));`
			}
			_, s := laravelApp(t, app, strings.Fields(strings.NewReplacer("@PORT", r.port, "@SOCK",
				socket).Replace(tt.where))...)
			restarted(t, s, func(n int) {
				r.must("EVAL", "redis.call('SELECT', 1) redis.call('SET', KEYS[1], ARGV[1])", 1,
					tt.key, 1795711806+n)
			})
		})
	}
}

// TestArtisanHoldsPort has php artisan reverb:start, and php artisan dev, on the port.
func TestArtisanHoldsPort(t *testing.T) {
	need(t, "php")
	const script = `<?php // stands for Laravel: dev starts reverb:start, which listens
if ($argv[1] === 'dev') {
    $p = proc_open([PHP_BINARY, 'artisan', 'reverb:start', $argv[2]], [], $pipes);
    exit(proc_close($p));
}
$s = stream_socket_server('tcp://127.0.0.1:' . $argv[2]);
while (true) { @fclose(stream_socket_accept($s, 3600)); }
`
	for _, tt := range []struct{ command, want string }{
		{"reverb:start", " holds it; stop it, and let this program take its place in Supervisor"},
		{"dev", " of php artisan dev holds it; DevCommands::register('reverb start', 'reverb');"},
	} {
		dir, port := t.TempDir(), oddPort(t)
		put(t, dir, "artisan", script)
		put(t, dir, ".env", oneAppLines)
		cmd := command("php", "artisan", tt.command, port)
		cmd.Dir, cmd.SysProcAttr.Setpgid = dir, true
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			cmd.Wait()
		})
		answers(t, "127.0.0.1:"+port)
		for args, code := range map[string]int{"check": 1, "start": 1} {
			reverb := command(program, args, "--host=127.0.0.1", "--port="+port)
			reverb.Dir = dir
			out, _ := reverb.CombinedOutput()
			if got := reverb.ProcessState.ExitCode(); got != code || !strings.Contains(string(out),
				": php artisan reverb:start (pid ") || !strings.Contains(string(out), tt.want) {
				t.Errorf("%s beside %s: got exit code %d and\n%s", args, tt.command, got, out)
			}
		}
	}
}
