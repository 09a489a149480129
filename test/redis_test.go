package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// eventually waits until f returns nothing, and fails with its last result.
func eventually(t testing.TB, limit time.Duration, f func() string) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		why := f()
		if why == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			t.Fatalf("after %v: %s", limit, why)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// redisServer is a Redis for the test, or a sentinel. It can be killed, frozen and started again,
// on the same port.
type redisServer struct {
	t        testing.TB
	port     string
	program  string
	args     []string
	config   []redis.DialOption
	cmd      *exec.Cmd
	dead     chan struct{}
	password string // for the test's own questions
}

// startRedis starts a Redis that keeps nothing on disk. More arguments are appended.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	need(t.(*testing.T), "redis-server")
	r := newRedis(t, args...)
	r.start()
	return r
}

func newRedis(t testing.TB, args ...string) *redisServer {
	port := oddPort(t.(*testing.T))
	return &redisServer{t: t, port: port, program: "redis-server",
		args: append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save",
			"", "--appendonly", "no", "--loglevel", "warning"}, args...)}
}

func (r *redisServer) addr() string { return "127.0.0.1:" + r.port }

// start starts the server and returns when it answers.
func (r *redisServer) start() {
	r.t.Helper()
	r.cmd, r.dead = command(r.program, r.args...), make(chan struct{})
	var out strings.Builder
	r.cmd.Stdout, r.cmd.Stderr = &out, &out
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	cmd, dead := r.cmd, r.dead
	go func() { cmd.Wait(); close(dead) }()
	r.t.Cleanup(func() { cmd.Process.Kill(); <-dead })
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if _, err := r.do("PING"); err == nil {
			return
		}
		select {
		case <-dead:
			r.t.Fatalf("%s %v has ended:\n%s", r.program, r.args, out.String())
		default:
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s %v does not answer", r.program, r.args)
		}
	}
}

// kill ends it as a crash does.
func (r *redisServer) kill() {
	r.cmd.Process.Kill()
	<-r.dead
}

func (r *redisServer) freeze() { r.cmd.Process.Signal(syscall.SIGSTOP) }
func (r *redisServer) thaw()   { r.cmd.Process.Signal(syscall.SIGCONT) }

// connect opens a connection for the test's own questions.
func (r *redisServer) connect() (redis.Conn, error) {
	o := append([]redis.DialOption{redis.DialConnectTimeout(2 * time.Second),
		redis.DialReadTimeout(5 * time.Second), redis.DialPassword(r.password)}, r.config...)
	return redis.Dial("tcp", r.addr(), o...)
}

func (r *redisServer) do(command string, args ...any) (any, error) {
	c, err := r.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(command, args...)
}

// must is do; an error ends the test.
func (r *redisServer) must(command string, args ...any) any {
	r.t.Helper()
	v, err := r.do(command, args...)
	if err != nil {
		r.t.Fatalf("%s %v: %v", command, args, err)
	}
	return v
}

// mustFollow waits until a server is a replica in step with its master.
func (r *redisServer) mustFollow() {
	r.t.Helper()
	eventually(r.t, 60*time.Second, func() string {
		if info, err := redis.String(r.do("INFO", "replication")); err != nil ||
			!strings.Contains(info, "master_link_status:up") {
			return fmt.Sprintf("a replica is not connected: %v\n%s", err, info)
		}
		return ""
	})
}

// isNot says which other role the server has; empty: it has this one.
func (r *redisServer) isNot(role string) string {
	reply, err := redis.Values(r.do("ROLE"))
	if err != nil || fmt.Sprintf("%s", reply[0]) != role {
		return fmt.Sprintf("its role is %q, want %s; %v", reply, role, err)
	}
	return ""
}

// env has the variables by which a node finds the server.
func (r *redisServer) env() []string {
	return []string{"REVERB_REDIS_HOST=127.0.0.1", "REVERB_REDIS_PORT=" + r.port}
}

// startTLSRedis starts a Redis that accepts only TLS and wants a certificate.
func startTLSRedis(t *testing.T) (r *redisServer, env []string) {
	t.Helper()
	need(t, "redis-server")
	dir, a := t.TempDir(), newAuthority(t)
	s, c := a.issue("redis.test", -1, 10), a.issue("node.test", -1, 10)
	ca := write(t, dir, "ca.pem", block("CERTIFICATE", a.cert.Raw))
	r = newRedis(t)
	r.args = append(r.args, "--port", "0", "--tls-port", r.port, "--tls-ca-cert-file", ca,
		"--tls-auth-clients", "yes",
		"--tls-cert-file", write(t, dir, "server.pem", s.cert), "--tls-key-file",
		write(t, dir, "server.key", s.key))
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	r.config = []redis.DialOption{redis.DialUseTLS(true),
		redis.DialTLSConfig(&tls.Config{RootCAs: pool, ServerName: "redis.test",
			Certificates: []tls.Certificate{pair}})}
	r.start()
	return r, []string{"REVERB_REDIS_URL=rediss://127.0.0.1:" + r.port + "/3",
		"REVERB_REDIS_CA=" + ca, "REVERB_REDIS_SERVER_NAME=redis.test",
		"REVERB_REDIS_CERT=" + write(t, dir, "client.pem", c.cert, c.key)}
}

// startACLRedis starts a Redis in which the nodes' user may run only the commands that nodes need.
func startACLRedis(t *testing.T) (r *redisServer, env []string) {
	t.Helper()
	r = startRedis(t)
	r.must("ACL", "SETUSER", "reverb", "reset", "on", ">a:s/e@c#ret", "~live:*", "&live:*",
		"+@connection", "+@pubsub", "+@scripting", "+@read", "+@write", "+time", "+role",
		"-@dangerous", "-@admin")
	r.must("ACL", "SETUSER", "default", "off")
	r.config = []redis.DialOption{redis.DialUsername("reverb"), redis.DialPassword("a:s/e@c#ret")}
	return r, append(r.env(), "REVERB_REDIS_USERNAME=reverb", "REVERB_REDIS_PASSWORD=a:s/e@c#ret",
		"REVERB_SCALING_CHANNEL=live")
}

// sentinels are a master, a replica and three sentinels.
type sentinels struct {
	master, replica *redisServer
	all             []*redisServer
}

func startSentinels(t *testing.T) (s *sentinels, env []string) {
	t.Helper()
	need(t, "redis-sentinel")
	s = &sentinels{master: startRedis(t, "--repl-diskless-sync-delay", "0")}
	s.replica = startRedis(t, "--replicaof", "127.0.0.1 "+s.master.port)
	s.replica.mustFollow()
	var addrs []string
	for range 3 {
		x := &redisServer{t: t, port: oddPort(t), program: "redis-sentinel"}
		x.args = []string{write(t, t.TempDir(), "sentinel.conf",
			[]byte("port "+x.port+"\nbind 127.0.0.1\nsentinel monitor live 127.0.0.1 "+
				s.master.port+" 2\n"+
				"sentinel down-after-milliseconds live 1000\n"+
				"sentinel failover-timeout live 5000\n"))}
		x.start()
		s.all, addrs = append(s.all, x), append(addrs, x.addr())
	}
	for _, x := range s.all {
		eventually(t, 20*time.Second, func() string {
			m, err := redis.StringMap(x.do("SENTINEL", "MASTER", "live"))
			if err != nil || m["num-other-sentinels"] != "2" || m["num-slaves"] != "1" {
				return fmt.Sprint("the sentinels do not know all: ", m, err)
			}
			return ""
		})
	}
	return s, []string{"REVERB_REDIS_SENTINELS=" + strings.Join(addrs, ","),
		"REVERB_REDIS_SERVICE=live"}
}

// redisCluster is a Redis Cluster of three masters with a replica each.
type redisCluster struct{ masters, replicas []*redisServer }

func startRedisCluster(t *testing.T) (c *redisCluster, env []string) {
	t.Helper()
	need(t, "redis-server")
	c = &redisCluster{}
	var seeds []string
	for i := range 6 {
		r := newRedis(t)
		bus := oddPort(t) // the usual one, port + 10000, may be in use
		r.args = append(r.args, "--cluster-enabled", "yes", "--cluster-port", bus,
			"--cluster-node-timeout", "1500", "--cluster-config-file", "nodes.conf",
			"--repl-diskless-sync-delay", "0")
		r.start()
		if i < 3 {
			r.must("CLUSTER", "SET-CONFIG-EPOCH", i+1) // allowed as long as it knows no other node
			c.masters = append(c.masters, r)
		} else {
			c.replicas = append(c.replicas, r)
		}
		seeds = append(seeds, r.addr())
		port, _ := strconv.Atoi(r.port)
		busPort, _ := strconv.Atoi(bus)
		if i > 0 {
			c.masters[0].must("CLUSTER", "MEET", "127.0.0.1", port, busPort)
		}
	}
	for i, m := range c.masters {
		m.must("CLUSTER", "ADDSLOTSRANGE", 16384*i/3, 16384*(i+1)/3-1)
	}
	all := append(append([]*redisServer(nil), c.masters...), c.replicas...)
	known := func(r *redisServer, lines int, want string) string {
		nodes, err := redis.String(r.do("CLUSTER", "NODES"))
		info, _ := redis.String(r.do("CLUSTER", "INFO"))
		if err != nil || strings.Count(nodes, "\n") != lines ||
			strings.Contains(nodes, "handshake") || !strings.Contains(nodes, want) ||
			!strings.Contains(info, "cluster_state:ok") {
			return fmt.Sprintf("the cluster is not complete: %v\n%s%s", err, nodes, info)
		}
		return ""
	}
	for _, r := range all {
		eventually(t, 30*time.Second, func() string { return known(r, 6, "") })
	}
	for i, r := range c.replicas {
		id, err := redis.String(c.masters[i].do("CLUSTER", "MYID"))
		if err != nil {
			t.Fatal(err)
		}
		r.must("CLUSTER", "REPLICATE", id)
	}
	for _, r := range c.replicas {
		r.mustFollow()
	}
	return c, []string{"REVERB_REDIS_CLUSTER=" + strings.Join(seeds[:3], ",")}
}

// cable is a TCP proxy that can be cut. Then it passes no bytes, silently.
type cable struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	whole *sync.Cond
	cut   bool
	conns []net.Conn
}

func newCable(t testing.TB, to string) *cable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{ln: ln, to: to}
	c.whole = sync.NewCond(&c.mu)
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			go c.join(near)
		}
	}()
	t.Cleanup(func() { ln.Close(); c.set(false); c.reset() })
	return c
}

func (c *cable) env() []string {
	_, port, _ := net.SplitHostPort(c.ln.Addr().String())
	return []string{"REVERB_REDIS_HOST=127.0.0.1", "REVERB_REDIS_PORT=" + port}
}

func (c *cable) wait() {
	c.mu.Lock()
	for c.cut {
		c.whole.Wait()
	}
	c.mu.Unlock()
}

func (c *cable) join(near net.Conn) {
	c.wait()
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		near.Close()
		return
	}
	c.mu.Lock()
	c.conns = append(c.conns, near, far)
	c.mu.Unlock()
	pass := func(dst, src net.Conn) {
		b := make([]byte, 64<<10)
		for {
			n, err := src.Read(b)
			c.wait()
			if n > 0 {
				if _, err := dst.Write(b[:n]); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		dst.Close()
		src.Close()
	}
	go pass(near, far)
	go pass(far, near)
}

// set cuts or mends the cable.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	c.cut = cut
	c.whole.Broadcast()
	c.mu.Unlock()
}

// reset closes the connections through the cable.
func (c *cable) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.conns {
		nc.Close()
	}
	c.conns = nil
}

// check names the command that Redis refuses to the nodes' user.
func TestCheckNamesWhatRedisRefuses(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	r.must("ACL", "SETUSER", "reverb", "reset", "on", ">secret", "~*", "&*", "+@all")
	env := append(r.env(), "REVERB_REDIS_USERNAME=reverb", "REVERB_REDIS_PASSWORD=secret")
	check := func() string {
		cmd := exec.Command(program, "check")
		cmd.Env = append(append(os.Environ(), env...), "REVERB_ENV_FILE=/dev/null",
			"REVERB_SCALING_ENABLED=true", "REVERB_SERVER_PORT=0", "REVERB_APP_ID=1",
			"REVERB_APP_KEY=k", "REVERB_APP_SECRET=s")
		out, _ := cmd.CombinedOutput() // its exit code depends on other checks too
		return string(out)
	}
	const note = "note redis: the user may not run PUBSUB NUMSUB, " +
		"so nodes of Laravel Reverb on the same channel are not noticed; allow it: " +
		"ACL SETUSER NAME +pubsub|numsub"
	if out := check(); !strings.Contains(out, "ok   redis: Redis ") ||
		strings.Contains(out, "may not run") {
		t.Errorf("got %s", out)
	}
	r.must("ACL", "SETUSER", "reverb", "-pubsub|numsub")
	if out := check(); !strings.Contains(out, note) {
		t.Errorf("got %s", out)
	}
}
