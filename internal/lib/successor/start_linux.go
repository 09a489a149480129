package successor

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix" // close_range, CLONE_PARENT, poll of a pidfd
)

// endedInterval is the time between two looks at a sibling where the kernel has no pidfd (before
// Linux 5.4). Larger: its end is noticed later. Smaller: more looks.
const endedInterval = 50 * time.Millisecond

// Start executes the open file as a new process, in the process group, the folder and with the
// standard streams of this process. It passes nothing else but o.Pass: whatever else is open here
// is closed there. A sibling is a child of this process's parent.
//
// Linux executes /proc/self/fd/N, so the new process is called N until it calls Name.
//
// The error is a sentence for the operator, as that of Open.
func (p *Program) Start(o Options) (*Child, error) {
	files := []uintptr{0, 1, 2}
	names := make([]string, len(o.Pass))
	for i, f := range o.Pass {
		names[i] = f.Variable
	}
	_, environ := Cut(o.Environ, names...)
	for _, f := range o.Pass {
		environ = append(environ, f.Variable+"="+strconv.Itoa(len(files)))
		files = append(files, f.File.Fd())
	}
	fd, err := p.apart(files)
	if err != nil {
		return nil, noDescriptor(p.Path)
	}
	defer unix.Close(fd)
	closeOnExec()
	c := &Child{sibling: o.Sibling, done: make(chan struct{}), pidfd: -1}
	// syscall, not os: what os can do with processes would add 18 KB to the program
	attr := &syscall.ProcAttr{Env: environ, Files: files,
		Sys: &syscall.SysProcAttr{PidFD: &c.pidfd}}
	if o.Sibling {
		attr.Sys.Cloneflags = unix.CLONE_PARENT
	}
	if c.PID, err = syscall.ForkExec(descriptors+strconv.Itoa(fd), o.Args, attr); err != nil {
		return nil, p.NotStarted(err)
	}
	go c.wait(c.pidfd)
	return c, nil
}

// descriptors is the folder with what this process has open.
const descriptors = "/proc/self/fd/"

// apart returns a descriptor of the program that keeps its number in a new process until that
// executes it. There, between fork and exec, syscall.ForkExec gives files the numbers from 0 on,
// and copies some of them to numbers above the largest first.
func (p *Program) apart(files []uintptr) (fd int, err error) {
	const pipe = 1 // over which syscall.ForkExec passes an error on
	above := int(slices.Max(files)) + len(files) + pipe + 1
	return unix.FcntlInt(p.file.Fd(), unix.F_DUPFD_CLOEXEC, above)
}

// firstOpen is the first descriptor behind the standard streams.
const firstOpen = 3

// closeOnExec makes new programs inherit nothing but the standard streams. Go opens everything so;
// what this process has inherited itself may be open otherwise.
func closeOnExec() {
	if unix.CloseRange(firstOpen, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		closeEachOnExec()
	}
}

// closeEachOnExec is closeOnExec for Linux before 5.11, and where a filter forbids close_range.
func closeEachOnExec() {
	entries, _ := os.ReadDir(descriptors) // an error: then Start cannot execute anything
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= firstOpen {
			unix.CloseOnExec(fd) // an error: it was closed meanwhile
		}
	}
}

// refusal is an error in a sentence: what is wrong with a file, and what to do. Inlined it would
// take 4 KB of the program.
//
//go:noinline
func refusal(file, why, advice string) error { return errors.New(file + " " + why + ": " + advice) }

func noDescriptor(path string) error {
	return refusal(path, "cannot be started, as no descriptor is left",
		"raise the limit of open files, or try again with fewer connections")
}

// NotStarted turns an error of the system, met before the program runs, into a sentence as that of
// Start.
func (p *Program) NotStarted(err error) error {
	why, advice := "cannot be started ("+err.Error()+")", "put another version there"
	switch errno, _ := errors.AsType[syscall.Errno](err); errno {
	case syscall.ETXTBSY:
		why, advice = "is being written", "wait until it was copied, or rename the finished file "+
			"to that name"
	case syscall.ENOEXEC:
		why, advice = "is not a program for this machine", "take the one for its processor"
	case syscall.EACCES, syscall.EPERM:
		advice = "its mode allows it, but its file system may be mounted noexec, or a security " +
			"module may refuse"
	case syscall.ENOENT:
		why, advice = "needs a loader that is not there", "take the static program"
		if _, err := os.Stat(running); err != nil {
			return fmt.Errorf("%w: %s cannot be executed as an open file without /proc: mount it",
				ErrSystem, p.Path)
		}
	case syscall.EMFILE, syscall.ENFILE, syscall.EBADF, syscall.EINVAL:
		return noDescriptor(p.Path)
	case syscall.EAGAIN, syscall.ENOMEM:
		advice = "memory or processes are used up; raise the limit"
	}
	return refusal(p.Path, why, advice)
}

// Signal sends a signal; syscall.ESRCH: the process has ended.
func (c *Child) Signal(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return syscall.ESRCH
	default:
	}
	if c.pidfd >= 0 {
		return unix.PidfdSendSignal(c.pidfd, s, nil, 0)
	}
	return unix.Kill(c.PID, s) // nobody has noticed its end, so the number is still its own
}

// Reaped tells the exit code to c. A caller that waits for all of its children may have taken it
// from the system before c.
func (c *Child) Reaped(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
		c.pidfd = -1
	}
	c.code = code
	close(c.done)
}

// wait waits for the end of the process.
func (c *Child) wait(pidfd int) {
	if c.sibling {
		c.waitSibling(pidfd)
		c.Reaped(-1)
		return
	}
	var status syscall.WaitStatus
	err := error(syscall.EINTR)
	for err == syscall.EINTR {
		_, err = syscall.Wait4(c.PID, &status, 0, nil)
	}
	if err == nil { // else whoever waits for all children has the code, and calls Reaped
		c.Reaped(ExitCode(status))
	}
}

// waitSibling waits for the end of a process that another process reaps.
func (c *Child) waitSibling(pidfd int) {
	for pidfd >= 0 {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if n > 0 || err != unix.EINTR {
			return
		}
	}
	for unix.Kill(c.PID, 0) == nil {
		time.Sleep(endedInterval)
	}
}

// ExitCode turns the status of a process that has ended into an exit code, as shells do: 128 + n
// means that signal n has ended it.
func ExitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// Name gives this process the name of its program, which ps and top show. A process that Start has
// started has the number of a descriptor for a name.
func Name(path string) error {
	name := path[strings.LastIndexByte(path, '/')+1:]
	return os.WriteFile("/proc/self/comm", []byte(name), 0)
}
