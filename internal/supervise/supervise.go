// Package supervise knows who supervises this process, and keeps the supervisor content while one
// process of a server follows another: an upgrade starts a successor, and the process that the
// supervisor has started must not seem to end.
//
// systemd can be told that another process is the service. The successor is started as a child of
// systemd, which then learns how it ends, and MAINPID= names it. The old process may go.
//
// Every other supervisor knows one process, the one that it has started: Supervisor, a container
// for its process 1, a shell. That process stays, as the thin parent of all later ones. It passes
// signals to the newest and ends with the newest's code. Every successor is its child. A Unix
// socket goes from the thin parent to each successor and from there to the next one:
//
//	thin parent  ◀── "newest PID\n" ──  the process that passes its role on to PID
//	             ── end of file ──▶     all: the parent has ended
//
// The parent writes nothing. When the parent ends, the newest ends too, as after SIGTERM: the
// supervisor starts another server, which needs the port. PR_SET_PDEATHSIG would not do: it sends
// its signal when the thread ends that has started the process.
//
// Supervisor's stopasgroup and a terminal's Ctrl-C reach both the parent and the newest, which then
// gets the signal twice. Under a thin parent the same signal within a second counts once.
//
// A predecessor leaves this in the environment; New takes it out:
//
//	REVERB_HANDOVER_FD       the descriptor of the socket to the predecessor
//	REVERB_HANDOVER_PARENT   the descriptor of the socket to the thin parent
//	REVERB_HANDOVER_PROGRAM  the path of the program, as the first process was called
//	REVERB_HANDOVER_FOUND    who supervises, as the first process has found out
//	REVERB_HANDOVER_KEPT     what the predecessor has kept with Keep
//
// Files:
//
//	supervise.go     Role: who supervises, Start, PassOn
//	signals.go       what ends a process, and signals that come twice
//	parent_linux.go  the thin parent
//	parent_other.go  other systems, where no successor can be started
//	upgrade_….go     the signal that asks for an upgrade
package supervise

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"

	"reverb/internal/lib/successor"
	"reverb/internal/lib/systemd"
)

const (
	pairVariable    = "REVERB_HANDOVER_FD"
	parentVariable  = "REVERB_HANDOVER_PARENT"
	programVariable = "REVERB_HANDOVER_PROGRAM"
	foundVariable   = "REVERB_HANDOVER_FOUND"
	keptVariable    = "REVERB_HANDOVER_KEPT"
)

// personal are the variables that hold for one process alone, by its number (systemd.exec(5),
// sd_listen_fds(3), sd_watchdog_enabled(3)). A successor gets none of them: it gets its listeners
// from its predecessor, and without WATCHDOG_PID the watchdog is its own.
func personal() []string {
	return []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID",
		"MAINPID", "MAINPIDFDID", "SYSTEMD_EXEC_PID"}
}

// Who supervises. Only notifying systemd learns of a new main process; under all others the first
// process stays.
const (
	foundSystemd    = "systemd"
	foundMute       = "systemd without notifications" // Type= is not notify
	foundSupervisor = "supervisor"
	foundInit       = "container init" // the first process is process 1
	foundShell      = "shell"          // or anything else
)

// Role is the place of this process under its supervisor. Methods may be called by several
// goroutines.
type Role struct {
	// constant after New
	found       string
	args        []string
	environ     []string // without what belongs to this process alone
	program     string   // path of the program
	unknown     error    // why program is empty
	predecessor *net.UnixConn
	parent      *net.UnixConn   // to the thin parent; nil: none
	orphaned    <-chan struct{} // closed when the thin parent has ended; nil: none
	notifier    *systemd.Notifier
	kept        string // by the predecessor

	mu      sync.Mutex
	keeps   string // for successors
	waiting bool   // until the predecessor has passed its place on
	child   *Child // the last one that was started
	passed  int    // the process that has the place now; 0: this one
}

// New finds out who supervises this process and what a predecessor has left to it. args is os.Args,
// environ is what os.Environ returns; rest is environ without what the predecessor has left. New is
// called once, when the process begins, by every command.
func New(args, environ []string) (r *Role, rest []string, err error) {
	r = &Role{args: args}
	if r.predecessor, rest, err = successor.Take(environ, pairVariable); err == nil {
		r.parent, rest, err = successor.Take(rest, parentVariable)
	}
	if err != nil {
		return nil, rest, err
	}
	left, rest := successor.Cut(rest, programVariable, foundVariable, keptVariable)
	getenv := lookup(rest)
	r.notifier = systemd.NewNotifier(getenv)
	_, r.environ = successor.Cut(rest, personal()...)
	if r.predecessor == nil {
		if r.parent != nil { // a parent without a predecessor: not from a process of this program
			r.parent.Close()
			r.parent = nil
		}
		r.found = find(getenv, os.Getpid(), os.Getppid())
		if r.found == foundShell {
			name, _ := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/comm")
			r.found = keeper(getenv, strings.TrimSpace(string(name)), os.Getppid())
		}
		r.program, r.unknown = successor.Find(args[0])
		return r, rest, nil
	}
	r.waiting = true
	for _, s := range notYet() {
		signal.Ignore(s)
	}
	r.program, r.found, r.kept = left[0], left[1], left[2]
	successor.Name(r.program) // without it ps shows a number for a name, and nothing else is lost
	if r.parent != nil {
		r.orphaned = r.watchParent()
	}
	return r, rest, nil
}

func lookup(environ []string) func(name string) string {
	return func(name string) string {
		values, _ := successor.Cut(environ, name)
		return values[0]
	}
}

// find finds out who has started the first process.
//
// systemd gives SYSTEMD_EXEC_PID to the process that it has started, from version 248 on. Whatever
// that process starts inherits the variable and NOTIFY_SOCKET. In an older version, the parent must
// be systemd, which is process 1 or MANAGERPID; in a container, which has the variable container,
// process 1 may be anything.
func find(getenv func(string) string, pid, ppid int) string {
	exec := getenv("SYSTEMD_EXEC_PID")
	old := exec == "" && getenv("container") == "" &&
		(ppid == 1 || strconv.Itoa(ppid) == getenv("MANAGERPID"))
	switch {
	case pid == 1:
		return foundInit
	case getenv("SUPERVISOR_ENABLED") != "":
		return foundSupervisor
	case getenv("NOTIFY_SOCKET") != "" && (old || exec == strconv.Itoa(pid)):
		return foundSystemd
	case exec == strconv.Itoa(pid):
		return foundMute
	}
	return foundShell
}

// keeper finds out whether what started the first process, which is called parent and has the
// number ppid, starts another one at the end of that; it is a shell for all that does not.
func keeper(getenv func(string) string, parent string, ppid int) string {
	switch parent {
	case "runsv":
		return "runit"
	case "s6-supervise":
		return "s6"
	case "supervise":
		return "daemontools"
	case "supervise-daemo": // the system keeps 15 characters
		return "OpenRC"
	case "tini", "docker-init", "dumb-init", "catatonit":
		if ppid == 1 {
			return foundInit
		}
	}
	if name := getenv("XPC_SERVICE_NAME"); ppid == 1 && name != "" && name != "0" {
		return "launchd"
	}
	if getenv("pm_id") != "" {
		return "PM2"
	}
	return foundShell
}

// Keep leaves a text, which is no secret, to every successor that Start starts from now on.
func (r *Role) Keep(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeps = text
}

// Kept is what the predecessor has left with Keep; empty: nothing.
func (r *Role) Kept() string { return r.kept }

// watchParent returns a channel that is closed when the thin parent has ended.
func (r *Role) watchParent() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, r.parent) // the parent writes nothing
		close(ended)
	}()
	return ended
}

// Found says who supervises, in a word or some: systemd, systemd without notifications, supervisor,
// container init, runit, s6, daemontools, OpenRC, launchd, PM2, or shell, which stands for all
// others.
func (r *Role) Found() string { return r.found }

// Restarts says who starts the next process when this one ends, as far as can be seen; known is
// false if nobody is seen who does.
func (r *Role) Restarts() (who string, known bool) { return r.found, r.found != foundShell }

// Predecessor is the connection to the process that has started this one to take over; nil: none
// has.
func (r *Role) Predecessor() *net.UnixConn { return r.predecessor }

// Settle tells r that the predecessor has passed its place on to this process, which the
// predecessor says over its connection after PassOn. Until then Start fails: the supervisor must
// hear of the processes in their order.
func (r *Role) Settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = false
}

// Judge returns an error if the file at the path of this program may not be started as a successor.
// The error is a sentence for the operator.
func (r *Role) Judge() error {
	p, err := r.open()
	if err != nil {
		return err
	}
	return p.Close()
}

func (r *Role) open() (*successor.Program, error) {
	if r.program == "" {
		return nil, fmt.Errorf("%w, as it is not known where this program lies (%w): stop this "+
			"process, then start the new version", successor.ErrSystem, r.unknown)
	}
	return successor.Open(r.program)
}

// Old says whether the file at the path of this program is a version of it that has no hand-over:
// started as a successor it ends, since its addresses are taken.
func (r *Role) Old() bool {
	p, err := r.open()
	if err != nil {
		return false
	}
	defer p.Close()
	return p.Holds("REVERB_SERVER_PORT") && !p.Holds(pairVariable)
}

// Child is a successor of this process.
type Child struct {
	*successor.Child
	Path string // of its program
	// Conn is the connection to the successor, whose Predecessor is the other end. The caller
	// closes it.
	Conn *net.UnixConn

	line *net.UnixConn // at the thin parent: over which successors tell; nil elsewhere
}

// Start starts the program that lies now where this one lay at the start, with the same arguments
// and environment. Only one may run at a time, until PassOn or its end. The caller bounds the time
// until it is ready, and ends it with Kill. The error is a sentence for the operator.
func (r *Role) Start() (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting {
		return nil, errors.New("this process is still taking over from another one: try again " +
			"in a moment")
	}
	if r.passed != 0 {
		return nil, errors.New("this process has passed its place on to process " +
			strconv.Itoa(r.passed) + ": ask that one")
	}
	if r.child != nil {
		select {
		case <-r.child.Done():
			r.child.hangUp()
		default:
			return nil, errors.New("process " + strconv.Itoa(r.child.PID) +
				" was started to take over and is not ready yet: wait for it")
		}
	}
	p, err := r.open()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	r.child, err = r.start(p)
	return r.child, err
}

func (r *Role) start(p *successor.Program) (*Child, error) {
	c := &Child{Path: p.Path}
	pass, err := r.connect(c)
	if err != nil {
		err = p.NotStarted(err)
	} else {
		environ := append(slices.Clip(r.environ), programVariable+"="+r.program,
			foundVariable+"="+r.found, keptVariable+"="+r.keeps)
		c.Child, err = p.Start(successor.Options{Args: r.args, Environ: environ, Pass: pass,
			Sibling: r.parent != nil || r.found == foundSystemd})
	}
	for _, f := range pass {
		f.File.Close() // the successor has a copy
	}
	if err != nil {
		c.hangUp()
		return nil, err
	}
	return c, nil
}

// connect makes the sockets of a successor. pass are its ends.
func (r *Role) connect(c *Child) (pass []successor.Passed, err error) {
	var end *os.File
	if c.Conn, end, err = successor.Pair(); err != nil {
		return nil, err
	}
	pass = append(pass, successor.Passed{Variable: pairVariable, File: end})
	switch {
	case r.parent != nil:
		end, err = successor.Share(r.parent)
	case r.found == foundSystemd:
		return pass, nil
	default:
		c.line, end, err = successor.Pair()
	}
	if err != nil {
		return pass, err
	}
	return append(pass, successor.Passed{Variable: parentVariable, File: end}), nil
}

// Kill ends the process at once, waits for the end, and closes what this process has of it.
func (c *Child) Kill() {
	c.Child.Kill()
	c.hangUp()
}

// hangUp closes what this process has of a successor that has failed.
func (c *Child) hangUp() {
	if c.Conn != nil {
		c.Conn.Close() // the caller may have closed it
	}
	if c.line != nil {
		c.line.Close()
	}
}

// PassOn makes a successor, which is ready, the process that counts. Afterwards Start fails. If
// stay is false, this process may end: systemd or the thin parent knows the successor now. If stay
// is true, the supervisor knows this process alone, so this process must stay, in Parent. After an
// error this process still has its place.
func (r *Role) PassOn(c *Child) (stay bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.child != c || r.passed != 0 {
		return false, errors.New("internal error: another successor has the place")
	}
	select {
	case <-c.Done():
		return false, errors.New("process " + strconv.Itoa(c.PID) +
			", which was to take over, has ended")
	default:
	}
	switch {
	case r.parent != nil:
		_, err = r.parent.Write([]byte(newest + strconv.Itoa(c.PID) + "\n"))
	case r.found == foundSystemd:
		// systemd reads this before it learns that this process has ended
		// (systemd: src/core/manager.c, priorities of events)
		err = r.notifier.Send("MAINPID=" + strconv.Itoa(c.PID))
	default:
		stay = true
	}
	if err != nil {
		return false, fmt.Errorf("the supervisor does not hear of process %d: %w", c.PID, err)
	}
	r.passed = c.PID
	return stay, nil
}

// TakeBack undoes PassOn, which has said stay, when the successor has ended without taking over.
// Nobody has been told of it.
func (r *Role) TakeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed = 0
}

// newest begins a line to the thin parent; the process that counts now follows.
const newest = "newest "

// has says whether this process has its place still.
func (r *Role) has() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed == 0
}
