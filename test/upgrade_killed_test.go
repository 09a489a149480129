package test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What remains when one of the two processes of a hand-over is killed.
const (
	goesOn = "the giver serves on, as if nothing had been asked"
	takes  = "the taker serves: all plain connections, and those of other relays"
	allEnd = "all processes end, and the supervisor starts another one"
)

// killed is a step of a hand-over, and what remains when a process is killed there. The giver is
// the first process, which its supervisor knows, or a later one under a thin parent.
type killed struct {
	step                                 string
	taker, laterTaker, giver, laterGiver string
}

// killMatrix are the steps in their order.
//
// What the taker says last, mine, is the point of no return: it touches nothing before, so the
// giver could serve everything until then. It does until it has told the supervisor of the taker,
// before yours, and also after that where the supervisor knows the first process alone, and so was
// told nothing. A thin parent, and systemd likewise, may have seen the end of the process that
// counts before it could hear that another one counts again; then it ends the service. Telling it
// after mine instead would only change who must not be killed: if the giver were, in between, the
// service would end although the taker has everything.
func killMatrix() []killed {
	return []killed{
		{"fork", goesOn, goesOn, allEnd, allEnd},
		{"before hello 0", goesOn, goesOn, allEnd, allEnd},
		{"before offer 0", goesOn, goesOn, allEnd, allEnd},
		{"before ready 0", goesOn, goesOn, allEnd, allEnd},
		{"after ready 0", goesOn, goesOn, allEnd, allEnd}, // while requests are waited for
		{"before section 0", goesOn, goesOn, allEnd, allEnd},
		{"after section 0", goesOn, goesOn, allEnd, allEnd},
		{"before more 1", goesOn, goesOn, allEnd, allEnd},
		{"after batch 0", goesOn, goesOn, allEnd, allEnd},
		{"before took 0", goesOn, goesOn, allEnd, allEnd},
		{"before batch 1", goesOn, goesOn, allEnd, allEnd},
		{"before all 0", goesOn, goesOn, allEnd, allEnd},
		{"before installed 0", goesOn, goesOn, allEnd, allEnd},
		{"before yours 0", goesOn, allEnd, allEnd, takes}, // the giver has passed its place on
		{"before mine 0", goesOn, allEnd, allEnd, takes},
		{"after mine 0", allEnd, allEnd, allEnd, takes},
		{"before serving 0", allEnd, allEnd, allEnd, takes},
		{"after serving 0", allEnd, allEnd, allEnd, takes},
	}
}

// TestUpgradeKilled kills each of the two at each step.
func TestUpgradeKilled(t *testing.T) {
	quick := "fork, after ready 0, before more 1, before installed 0, " +
		"before yours 0, before mine 0"
	for _, k := range killMatrix() {
		if os.Getenv("REVERB_TEST_LONG") == "" && !strings.Contains(quick, k.step) {
			continue
		}
		for _, c := range []struct{ who, first, later string }{
			{"taker", k.taker, k.laterTaker}, {"giver", k.giver, k.laterGiver}} {
			t.Run(c.who+" "+k.step, func(t *testing.T) { killAt(t, k.step, c.who, false, c.first) })
			t.Run(c.who+" "+k.step+", later",
				func(t *testing.T) { killAt(t, k.step, c.who, true, c.later) })
		}
		if k.step != "fork" {
			t.Run("parent "+k.step,
				func(t *testing.T) { killAt(t, k.step, "parent", true, allEnd) })
		}
	}
}

func killAt(t *testing.T, step, who string, later bool, want string) {
	s := standingServer(t)
	s.join(6)
	old := s.behind.all // relayed by the first process, if later
	if later {
		if out, code := s.ask(); code != 0 {
			t.Fatal(out)
		}
		s.join(6)
	} else {
		old = nil
	}
	outcome := "failed"
	if strings.Contains("fork, before hello 0, before offer 0, before ready 0", step) {
		outcome = "refused"
	}
	is := s.still(outcome)
	s.setDeed(t, deed{Step: step, Who: who})
	var hung net.Conn
	if step == "after ready 0" {
		hung = s.hang()
		defer hung.Close()
	}
	out, code := s.ask()
	t.Logf("code %d: %s", code, strings.ReplaceAll(out, s.path, "PROGRAM"))
	if code != 1 && step != "after serving 0" && step != "after mine 0" {
		t.Errorf("code %d", code)
	}
	s.place(s.real)
	switch want {
	case goesOn:
		if hung != nil { // the request goes on, too: it ends, and is answered
			hung.Write(make([]byte, 99))
			r, err := http.ReadResponse(bufio.NewReader(hung), nil)
			if err != nil || r.StatusCode != http.StatusUnauthorized {
				t.Errorf("the request gets %v, %v", r, err)
			}
			hung.Close()
		}
		is.check(1)
		s.owned(s.before.all, is.pid)
		if out, code := s.ask(); code != 0 {
			t.Errorf("the next upgrade: code %d: %s", code, out)
		}
		s.serves(s.all()...)
	case takes:
		s.within("two processes", func() bool { return len(s.family()) == 2 })
		taker := 0
		for _, pid := range s.family() {
			if pid != s.cmd.Process.Pid {
				taker = pid
			}
		}
		s.serves(append(old, s.before.all...)...)
		s.owned(s.before.all, taker)
		for _, w := range s.behind.all[len(old) : len(s.behind.all)-1] {
			s.within(w.id+": the end", w.ended.Load)
		}
		s.behind.all = append(old[:len(old):len(old)], s.behind.all[len(s.behind.all)-1])
		if out, code := s.ask(); code != 0 {
			t.Errorf("the next upgrade: code %d: %s", code, out)
		}
		s.serves(s.all()...)
	case allEnd:
		s.ended()
	}
	s.hangUp()
}

// ended checks that no process and no connection is left, and that the port is free.
func (s *standing) ended() {
	s.t.Helper()
	begun := time.Now()
	for _, addr := range []string{s.addr, s.admin} {
		s.within(addr+" is free", func() bool {
			ln, err := net.Listen("tcp", addr)
			if err == nil {
				ln.Close()
			}
			return err == nil || len(s.family()) == 0 // then somebody else has got it
		})
		s.t.Logf("%s is free after %v", addr, time.Since(begun))
	}
	if err := s.wait(20 * time.Second); err == nil {
		s.t.Error("the first process ends as if all were well")
	}
	s.within("the end of all", func() bool { return len(s.family()) == 0 })
	for _, w := range s.all() {
		s.within(w.id+": the end", w.ended.Load)
	}
	s.t.Logf("the end of all after %v", time.Since(begun))
}

// owned checks that one process has the sockets of connections, and no other one.
func (s *standing) owned(all []*walker, by int) {
	s.t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		s.t.Fatal(err)
	}
	inodes := map[string]string{} // by remote port
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 9 {
			inodes[f[1][9:]+" "+f[2][9:]] = f[9]
		}
	}
	port := func(a net.Addr) int { return a.(*net.TCPAddr).Port }
	for _, w := range all {
		inode := inodes[fmt.Sprintf("%04X %04X", port(w.nc.RemoteAddr()), port(w.nc.LocalAddr()))]
		s.within(w.id+" has one owner", func() bool {
			var owners []int
			for _, pid := range s.family() {
				links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
				for _, name := range links {
					if to, _ := os.Readlink(name); to == "socket:["+inode+"]" {
						owners = append(owners, pid)
					}
				}
			}
			return len(owners) == 1 && owners[0] == by
		})
	}
}
