package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Whoever asked for something before an upgrade, and says what only after it, harms nobody: the
// process that serves no more has TLS connections to pass on, or is the parent of the newest.
func TestUpgradeBetweenQuestions(t *testing.T) {
	s := standingServer(t)
	s.join(4)
	_, port, _ := net.SplitHostPort(s.addr)
	b, err := os.ReadFile("/proc/net/unix")
	path := regexp.MustCompile(`/\S*reverb-` + port + `\.sock`).FindString(string(b))
	if err != nil || path == "" {
		t.Fatal("no control socket is known to the system: ", err)
	}
	var open []net.Conn
	for range 2 {
		for range 3 {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			open = append(open, c)
		}
		if out, code := s.ask(); code != 0 {
			t.Fatal(out)
		}
		for i, question := range []string{"status\n", "commands 1\n{\"command\":\"status\"}\n",
			"upgrade --dry-run\n"} {
			c := open[len(open)-3+i]
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := fmt.Fprint(c, question); err != nil {
				continue // it has been hung up
			}
			bufio.NewReader(c).ReadString('\n') // an answer, or the end
		}
		s.serves(s.all()...)
	}
	s.hangUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	if log := strings.Join(s.log, "\n"); strings.Contains(log, "panic") {
		t.Errorf("a process has crashed:\n%s", log)
	}
}
