package test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClusterSubscriptionCount lets pusher-js subscribe on two nodes. When the second node is
// killed, its subscribers are counted no more.
func TestClusterSubscriptionCount(t *testing.T) {
	t.Parallel()
	needNode(t)
	r := startRedis(t)
	nodes := startNodes(t, 2, r.env(), "REVERB_APP_SUBSCRIPTION_COUNT=true")
	mark := filepath.Join(t.TempDir(), "kill")
	cmd := command("node", "--test", "--test-force-exit", "clients/counts.cluster.mjs")
	var ports []string
	for _, n := range nodes {
		_, port, err := net.SplitHostPort(n.addr)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	cmd.Env = append(os.Environ(), "REVERB_BINARY="+program, "REVERB_TEST_KILL="+mark,
		"REVERB_TEST_PORTS="+strings.Join(ports, ","))
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		done <- result{out, err}
	}()
	killed := false
	for {
		select {
		case got := <-done:
			if got.err != nil || !killed {
				t.Fatalf("%v, killed %v\n%s", got.err, killed, got.out)
			}
			return
		case <-time.After(50 * time.Millisecond):
			if _, err := os.Stat(mark); err == nil && !killed {
				killed = true
				nodes[1].kill()
			}
		}
	}
}
