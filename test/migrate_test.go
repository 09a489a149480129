package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ways has the blocks of deploy/migrate.md by their headings.
func ways(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../deploy/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, part := range strings.Split(string(b), "\n## ")[1:] {
		heading, rest, _ := strings.Cut(part, "\n")
		blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n").FindAllStringSubmatch(rest, -1)
		if len(blocks) != 1 {
			t.Fatalf("%s: %d blocks, want one", heading, len(blocks))
		}
		block := blocks[0][1]
		if n := strings.Count(block, "\n"); n > 10 {
			t.Errorf("%s: %d lines, want ten at most", heading, n)
		}
		found[heading] = block
	}
	return found
}

// machine is a machine on which somebody moves to reverb: a folder in the place of /, with the
// application in srv/app, and the programs that the blocks call.
type machine struct {
	t    *testing.T
	root string
	old  *server // the server that is left, whatever its name is
	port string  // in the place of 8080
	next string  // in the place of 8081 and 6001
}

// newMachine makes a machine with these files, and starts the old server on port.
func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), port: oddPort(t), next: oddPort(t)}
	m.old = start(t, append(oneApp(), "REVERB_SERVER_PORT="+m.port)...)
	put(t, m.root, "srv/app/artisan", "#!/usr/bin/env php\n")
	for name, text := range files {
		put(t, m.root, name, m.here(text))
	}
	m.script("reverb", `exec `+program+` "$@"`)
	// the service managers of this machine know one service: the old server
	stop := fmt.Sprintf("kill -TERM %d; while kill -0 %[1]d 2>&-; do sleep 0.05; done",
		m.old.cmd.Process.Pid)
	file := filepath.Join(m.root, "etc/supervisor/conf.d/reverb.conf")
	m.script("supervisorctl", stop+`; case "$1" in update)
		cd "$(sed -n s/^directory=//p `+file+`)"; eval "$(sed -n s/^command=//p `+file+`) &" ;;
	esac`)
	m.script("systemctl", `test "$*" = "stop soketi" && { `+stop+`; }`)
	m.script("composer", `test "$*" = "remove beyondcode/laravel-websockets"`)
	return m
}

// script makes a program.
func (m *machine) script(name, text string) {
	m.t.Helper()
	put(m.t, m.root, "bin/"+name, "#!/bin/sh\n"+text+"\n")
	if err := os.Chmod(filepath.Join(m.root, "bin", name), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// here puts the places of this machine into a text.
func (m *machine) here(text string) string {
	return strings.NewReplacer("/srv/app", m.root+"/srv/app", "/etc/", m.root+"/etc/",
		"/usr/local/bin/", m.root+"/bin/", "8080", m.port, "8081", m.next, "6001", m.next,
		"sleep 1;", "sleep 0.05;").Replace(text)
}

// move runs a block, and returns its output. Whatever the block has started ends with the test.
func (m *machine) move(block string, env ...string) string {
	t := m.t
	t.Helper()
	cmd := command("sh", "-e", "-c", m.here(block))
	cmd.SysProcAttr.Setpgid = true
	cmd.Env = append([]string{"PATH=" + m.root + "/bin:" + os.Getenv("PATH"),
		"REVERB_SERVER_HOST=127.0.0.1", "REVERB_SHUTDOWN_GRACE=0", "XDG_RUNTIME_DIR=" + m.root},
		env...)
	f, err := os.Create(filepath.Join(m.root, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f // no pipe: what runs on would keep it open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) })
	err = cmd.Wait()
	out, _ := os.ReadFile(f.Name())
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return string(out)
}

// serves publishes an event to a server and back, and fails the test if nobody answers.
func serves(t *testing.T, addr, id, key, secret string) {
	t.Helper()
	answers(t, addr)
	c := dialKey(t, addr, key)
	c.nextText(t, "connection_established")
	c.send(`{"event":"pusher:subscribe","data":{"channel":"moved"}}`)
	c.nextText(t, "subscription_succeeded")
	p := publisher(addr)
	p.AppID, p.Key, p.Secret = id, key, secret
	if err := p.Trigger("moved", "an-event", "x"); err != nil {
		t.Fatal(err)
	}
	c.nextText(t, "an-event")
}

const oneAppLines = "REVERB_APP_ID=app-id\nREVERB_APP_KEY=app-key\nREVERB_APP_SECRET=app-secret\n"
const pusherLines = "PUSHER_APP_ID=p-id\nPUSHER_APP_KEY=p-key\nPUSHER_APP_SECRET='p secret'\n"

// TestMigrateOneNode moves from php artisan reverb:start under Supervisor.
func TestMigrateOneNode(t *testing.T) {
	m := newMachine(t, map[string]string{
		"srv/app/.env": oneAppLines + "REVERB_SERVER_PORT=8080\nREVERB_HOST=127.0.0.1\n" +
			"REVERB_PORT=8080\nREVERB_SCHEME=http\nCACHE_STORE=file\n",
		"etc/supervisor/conf.d/reverb.conf": "[program:reverb]\n" +
			"command=php /srv/app/artisan reverb:start --no-interaction\ndirectory=/srv/app\n"})
	out := m.move(ways(t)["From Laravel Reverb, one node"])
	for _, want := range []string{"note configuration: php artisan reverb:restart puts a fresh " +
		"process in the place of the server",
		"an event came back"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	serves(t, "127.0.0.1:"+m.port, "app-id", "app-key", "app-secret")
}

// TestMigrateSeveralNodes moves by a second port and the switch of nginx. A client of the old node
// stays until that ends, and then comes to the new one.
func TestMigrateSeveralNodes(t *testing.T) {
	need(t, "nginx")
	m := newMachine(t, map[string]string{"srv/app/.env": oneAppLines})
	front := oddPort(t)
	conf, err := os.ReadFile("../deploy/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	site := strings.NewReplacer("listen 80;", "listen 127.0.0.1:"+front+";",
		"    listen [::]:80;\n", "").Replace(string(conf))
	put(t, m.root, "etc/nginx/conf.d/reverb.conf", m.here(site))
	path := filepath.Join(m.root, "nginx.conf")
	put(t, m.root, "nginx.conf", "daemon off; user root; pid "+m.root+"/pid; error_log stderr;\n"+
		"events { worker_connections 900; }\nhttp { access_log off; include "+m.root+
		"/etc/nginx/conf.d/*.conf; }\n")
	background(t, "nginx", "-c", path, "-e", "stderr")
	nginx, _ := exec.LookPath("nginx")
	m.script("nginx", "exec "+nginx+" -c "+path+` -e stderr "$@"`)
	addr := "127.0.0.1:" + front
	answers(t, addr)
	old := dialKey(t, addr, "app-key")
	old.nextText(t, "connection_established")
	workers := children(t, filepath.Join(m.root, "pid"))
	out := m.move(ways(t)["From Laravel Reverb, several nodes"])
	old.nextText(t, "4200") // the old node tells its client to reconnect
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if nc, err := net.Dial("tcp", "127.0.0.1:"+m.port); err != nil {
			break // the old node is gone
		} else if nc.Close(); time.Now().After(end) {
			t.Fatal("the old node still listens")
		}
	}
	// nginx -s reload returns before the workers with the old configuration accept no more
	eventually(t, 10*time.Second, func() string {
		for _, worker := range workers {
			if _, err := os.Stat("/proc/" + worker); err == nil {
				return "worker " + worker + " of nginx has the old configuration still"
			}
		}
		return ""
	})
	serves(t, addr, "app-id", "app-key", "app-secret") // through nginx, by the new node
	if !strings.Contains(out, "connections") {
		t.Errorf("reverb status is missing in\n%s", out)
	}
}

// children are the processes that the process has started whose number is in a file; at least one.
func children(t *testing.T, file string) []string {
	t.Helper()
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(pid))
	b, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	if err != nil || len(strings.Fields(string(b))) == 0 {
		t.Fatalf("process %s has the children %q, %v", id, b, err)
	}
	return strings.Fields(string(b))
}

// TestMigrateOthers moves from soketi, hosted Pusher and laravel-websockets.
func TestMigrateOthers(t *testing.T) {
	all := ways(t)
	t.Run("soketi", func(t *testing.T) {
		m := newMachine(t, map[string]string{"etc/soketi.env": "SOKETI_DEFAULT_APP_ID=s-id\n" +
			"SOKETI_DEFAULT_APP_KEY=s-key\nSOKETI_DEFAULT_APP_SECRET=s-secret\n" +
			"SOKETI_PORT=6001\nSOKETI_CHANNEL_CACHE_TTL=60\n"})
		out := m.move(all["From soketi"])
		for _, want := range []string{"REVERB_APP_KEY=s-key\n", "REVERB_METRICS_PREFIX=soketi_\n",
			"# SOKETI_CHANNEL_CACHE_TTL has no counterpart\n", "SOKETI_CHANNEL_CACHE_TTL (" +
				m.root + "/etc/soketi.env:5) has no counterpart here"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		serves(t, "127.0.0.1:"+m.next, "s-id", "s-key", "s-secret")
	})
	t.Run("hosted Pusher", func(t *testing.T) {
		m := newMachine(t, map[string]string{"srv/app/.env": pusherLines +
			"PUSHER_APP_CLUSTER=mt1\n"})
		m.move(all["From hosted Pusher"], "REVERB_SERVER_PORT="+m.next)
		serves(t, "127.0.0.1:"+m.next, "p-id", "p-key", "p secret")
	})
	t.Run("laravel-websockets", func(t *testing.T) {
		m := newMachine(t, map[string]string{"srv/app/.env": pusherLines +
			"LARAVEL_WEBSOCKETS_PORT=6001\n"})
		out := m.move(all["From laravel-websockets"])
		env, err := os.ReadFile(filepath.Join(m.root, "srv/app/.env"))
		if want := "REVERB_APP_ID=p-id\nREVERB_APP_KEY=p-key\nREVERB_APP_SECRET='p secret'\n" +
			"REVERB_SERVER_PORT=" + m.next + "\n"; err != nil || !strings.HasSuffix(string(env),
			want) {
			t.Errorf("got %s and %v, want the lines\n%s\n%s", env, err, want, out)
		}
		serves(t, "127.0.0.1:"+m.next, "p-id", "p-key", "p secret")
	})
}
