package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestUpgradeRestart restarts servers in each mode. A restart is an upgrade; where none is possible
// and somebody starts the next process, the server stops. Where the next program or its
// configuration is broken, the server serves on: the next process would not.
func TestUpgradeRestart(t *testing.T) {
	const lone, supervised = "", "SUPERVISOR_ENABLED=1"
	for _, c := range []struct {
		mode, env string
		harm      func(program, env string)
		end       string // upgraded, stopped, serves
		say       string
	}{
		{"auto", lone, nil, "upgraded", "1 connection has moved"},
		{"upgrade", supervised, nil, "upgraded", "1 connection has moved"},
		{"drain", supervised, nil, "stopped", "as REVERB_RESTART=drain says"},
		{"drain", supervised, unsafeFile, "stopped", "as REVERB_RESTART=drain says"},
		{"auto", lone, oldProgram, "serves", "nobody is known who would start the next process, " +
			"so this one serves on"},
		{"auto", supervised, oldProgram, "stopped", "is a version from before 1.1.0, which " +
			"cannot take over"},
		{"upgrade", supervised, oldProgram, "serves", "is a version from before 1.1.0"},
		{"auto", supervised, func(_, env string) { add(env, "REVERB_ADMIN_LISTEN=127.0.0.1:0") },
			"stopped", "REVERB_ADMIN_LISTEN has changed"},
		{"auto", supervised, unsafeFile, "serves", "chmod go-w"},
		{"auto", lone, unsafeFile, "serves", "chmod go-w"},
		{"auto", supervised, func(p, _ string) { os.Chmod(p, 0o644) }, "serves",
			"is not executable"},
		{"auto", supervised, func(p, _ string) { other(p, "/bin/false", "") }, "serves",
			"was started and has ended"},
		{"auto", supervised, func(_, env string) { add(env, "REVERB_APP_PING_INTERVAL=soon") },
			"serves", "REVERB_APP_PING_INTERVAL=\"soon\""},
	} {
		t.Run(fmt.Sprint(c.mode, " ", c.env, " ", c.end, " ", c.say), func(t *testing.T) {
			t.Parallel()
			env := write(t, t.TempDir(), "env", nil)
			s := installed(t, append(oneApp(), "REVERB_RESTART="+c.mode, c.env,
				"REVERB_ENV_FILE="+env)...)
			all := &throng{t: t}
			go all.walk(s.addr, "x", 0).run()
			if c.harm != nil {
				c.harm(s.cmd.Path, env)
			}
			_, port, _ := net.SplitHostPort(s.addr)
			cmd := command(program, "restart", "--port", port)
			cmd.Env = append(oneApp(), "REVERB_ENV_FILE=/dev/null")
			b, _ := cmd.CombinedOutput()
			out, code := string(b), cmd.ProcessState.ExitCode()
			t.Logf("exit code %d: %s", code, out)
			if !strings.Contains(out, c.say) {
				t.Errorf("want %q", c.say)
			}
			hasRestarted(t, s, all, c.end, out, code)
		})
	}
}

// hasRestarted checks how a server has restarted.
func hasRestarted(t *testing.T, s *server, c *throng, end, out string, code int) {
	t.Helper()
	switch end {
	case "upgraded":
		s.says("the successor serves")
		if unhurt(t, c.all); code != 0 || strings.Contains(out, "are told to reconnect") ||
			!strings.Contains(out, fmt.Sprintf("reverb (pid %d) serves", s.newest())) {
			t.Error("want exit code 0 and the successor")
		}
	case "serves":
		s.says("level=ERROR msg=\"no restart: this process serves on\"")
		if unhurt(t, c.all); code != 1 || s.newest() != s.cmd.Process.Pid {
			t.Error("want exit code 1, and the same process")
		}
	default:
		told(t, s, c.all)
		if err := s.wait(5 * time.Second); err != nil || code != 0 ||
			!strings.Contains(out, "stopped") {
			t.Errorf("the server has ended with %v", err)
		}
	}
}

func unsafeFile(program, _ string) { os.Chmod(program, 0o777) }

// oldProgram puts a program of ours without a hand-over at a path: it ends at once.
func oldProgram(program, _ string) { other(program, "/bin/false", "REVERB_SERVER_PORT") }

// other puts another program at a path, with a text at its end.
func other(path, program, text string) {
	b, err := os.ReadFile(program)
	if err == nil {
		os.Remove(path)
		err = os.WriteFile(path, append(b, text...), 0o755)
	}
	if err != nil {
		panic(err)
	}
}

// add adds a line to a file.
func add(path, line string) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(b, line+"\n"...), 0o600)
	}
	if err != nil {
		panic(err)
	}
}
