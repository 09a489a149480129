package supervise

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix" // PR_SET_CHILD_SUBREAPER

	"reverb/internal/lib/successor"
)

// maxTold bounds what the thin parent reads at once of what successors tell, which is a line for
// an upgrade. Larger: no use. Smaller: it reads more often.
const maxTold = 512

// signalLag is how much later than the context the signal that has ended it can come. Larger: what
// stops this process before it is a thin parent takes longer. Smaller: a signal is passed on twice.
const signalLag = 100 * time.Millisecond

// passedOn are the signals that the thin parent passes on. What a terminal sends to stop a job
// reaches the whole group.
func passedOn() []os.Signal {
	return []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2}
}

// Parent makes this process the thin parent of c, to which PassOn has passed its place, and of all
// later successors. It passes signals to the newest; the end of ctx counts as SIGTERM. It reaps
// every process that becomes a child of this one, and gives free memory back to the system; the
// caller should have dropped what it does not need. Parent returns when the newest has ended. code
// is for the end of this process: the newest's code, or 128 + n if signal n has ended it.
func (r *Role) Parent(ctx context.Context, c *Child, log *slog.Logger) (code int) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, append(passedOn(), unix.SIGCHLD)...)
	defer signal.Stop(signals)
	// so that the processes of a newest that has ended come here, and are no zombies
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Warn("orphans of this process will not be reaped", "why", err)
	}
	debug.FreeOSMemory()
	log.Debug("this process stays as the parent of its successors", "pid", c.PID)
	t := &thin{first: c, newest: c.PID, log: log}
	t.reap() // what has ended before Notify
	stop, late, told := ctx.Done(), (<-chan time.Time)(nil), false
	for done := c.Done(); !t.over; {
		select {
		case <-stop: // perhaps by a signal from before Notify, which nobody else passes on
			stop, late = nil, time.After(signalLag)
		case <-late:
			if !told {
				t.pass(syscall.SIGTERM)
			}
		case s := <-signals:
			if s == unix.SIGCHLD {
				t.reap()
			} else {
				told = told || s == syscall.SIGTERM || s == syscall.SIGINT
				t.pass(s.(syscall.Signal))
			}
		case <-done:
			done = nil
			code, _ := c.Code()
			t.ended(c.PID, code)
		}
	}
	return t.code
}

// thin is a thin parent. It is owned by Parent.
type thin struct {
	first  *Child
	newest int    // the process that counts
	told   []byte // the beginning of a line
	last   int    // the process that has ended last
	over   bool   // newest has ended
	code   int    // of last
	log    *slog.Logger
}

// pass passes a signal on to the newest.
func (t *thin) pass(s syscall.Signal) {
	if t.listen(); t.over {
		return
	}
	var err error
	if t.newest == t.first.PID {
		err = t.first.Signal(s)
	} else {
		err = unix.Kill(t.newest, s) // it has this number until this process reaps it
	}
	if err != nil {
		t.log.Warn("a signal was not passed on", "signal", s, "why", err)
		return
	}
	t.log.Debug("passed a signal on", "signal", s)
}

// reap waits for all processes that have ended.
func (t *thin) reap() {
	for {
		t.listen() // who counts, before a process that counted no more is gone
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		t.ended(pid, successor.ExitCode(status))
	}
}

// ended notes that a process has ended. That of first may be told twice.
func (t *thin) ended(pid, code int) {
	t.log.Debug("a process has ended", "pid", pid, "code", code)
	if pid == t.first.PID {
		t.first.Reaped(code)
	}
	if t.over {
		return
	}
	t.last, t.code = pid, code
	t.listen()
	t.over = t.over || t.last == t.newest
}

// listen reads what successors have told until now. A process tells of its successor before it
// ends, so what is read at its end says whether there is one. The last line counts: the processes
// before it may have ended, or stay as relays.
func (t *thin) listen() {
	b, last := make([]byte, maxTold), ""
	for n := readNow(t.first.line, b); n > 0; n = readNow(t.first.line, b) {
		t.told = append(t.told, b[:n]...)
		for {
			line, rest, whole := bytes.Cut(t.told, []byte("\n"))
			if !whole {
				break
			}
			t.told, last = rest, string(line)
		}
		if len(t.told) > maxTold {
			t.told = nil
		}
	}
	if last != "" {
		t.hear(last)
	}
}

// readNow reads what is there, without waiting.
func readNow(c *net.UnixConn, b []byte) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), b)
		return true // never wait
	})
	return n
}

// hear makes a process the newest.
func (t *thin) hear(line string) {
	number, known := strings.CutPrefix(line, newest)
	told, err := strconv.ParseInt(number, 10, 32)
	pid := int(told)
	if !known || err != nil || pid <= 1 {
		t.log.Error("a successor has told what this version does not understand", "line", line)
		return
	}
	if t.newest = pid; pid == t.last {
		return // its end is known, see ended
	}
	var status syscall.WaitStatus
	ended, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	switch {
	case err != nil: // it ended before this process knew that it counts
		t.log.Error("the process that has taken over has ended at once", "pid", pid)
		t.over, t.code = true, 1
	case ended == pid:
		t.ended(pid, successor.ExitCode(status))
	}
}

// endNow ends this process, which has a thin parent, as the signal does that nobody waits for.
// signals is the only one that waits for it.
func endNow(signals chan os.Signal, s os.Signal) {
	signal.Stop(signals)
	syscall.Kill(os.Getpid(), s.(syscall.Signal))
}
