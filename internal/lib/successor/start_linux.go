package successor

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
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
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	var added, names []string
	for _, f := range o.Pass {
		added = append(added, f.Variable+"="+strconv.Itoa(len(files)))
		names = append(names, f.Variable)
		files = append(files, f.File)
	}
	fd, err := p.apart(files)
	if err != nil {
		return nil, noDescriptor(p.Path)
	}
	if fd != int(p.file.Fd()) {
		defer unix.Close(fd)
	}
	if err := closeOnExec(); err != nil {
		return nil, fmt.Errorf("start %s: mark what is open: %w", p.Path, err)
	}
	attr := &os.ProcAttr{Env: append(without(o.Environ, names...), added...), Files: files}
	if o.Sibling {
		attr.Sys = &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT}
	}
	process, err := os.StartProcess("/proc/self/fd/"+strconv.Itoa(fd), o.Args, attr)
	if err != nil {
		return nil, p.notStarted(err)
	}
	c := &Child{PID: process.Pid, process: process, sibling: o.Sibling, done: make(chan struct{})}
	go c.wait()
	return c, nil
}

// apart is a descriptor of the program that keeps its number in a new process until that executes
// it. There, between fork and exec, os.StartProcess gives files the numbers from 0 on, and copies
// some of them to numbers above the largest first.
func (p *Program) apart(files []*os.File) (fd int, err error) {
	fd, largest := int(p.file.Fd()), 0
	for _, f := range files {
		largest = max(largest, int(f.Fd()))
	}
	if fd >= len(files) && fd < largest {
		return fd, nil
	}
	const pipe = 1 // os.StartProcess passes an error on
	return unix.FcntlInt(p.file.Fd(), unix.F_DUPFD_CLOEXEC,
		max(largest, len(files))+len(files)+pipe+1)
}

// firstOpen is the first descriptor behind the standard streams.
const firstOpen = 3

// closeOnExec makes new programs inherit nothing but the standard streams. Go opens everything so;
// what this process has inherited itself may be open otherwise.
func closeOnExec() error {
	if unix.CloseRange(firstOpen, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	return closeEachOnExec()
}

// closeEachOnExec is closeOnExec for Linux before 5.11, and where a filter forbids close_range.
func closeEachOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= firstOpen {
			unix.CloseOnExec(fd) // an error: it was closed meanwhile
		}
	}
	return err
}

func noDescriptor(path string) error {
	return fmt.Errorf("no descriptor is left for starting %s: raise the limit of open files, or "+
		"try again with fewer connections", path)
}

// notStarted turns an error of os.StartProcess into a sentence.
func (p *Program) notStarted(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err // without the number of the descriptor
	}
	why := ""
	switch err {
	case syscall.ETXTBSY:
		why = "is being written: wait until it was copied, or rename the finished file to that name"
	case syscall.ENOEXEC:
		why = "is not a program for this machine: take the one for its processor"
	case syscall.EACCES, syscall.EPERM:
		why = "may not be executed, though its mode says so: its file system may be mounted " +
			"noexec, or a security module may refuse"
	case syscall.ENOENT:
		why = "needs a loader that is not there: take the static program"
		if _, err := os.Stat(running); err != nil {
			why = "cannot be executed as an open file without /proc: mount it"
		}
	case syscall.EMFILE, syscall.ENFILE, syscall.EBADF, syscall.EINVAL:
		return noDescriptor(p.Path)
	case syscall.EAGAIN, syscall.ENOMEM:
		why = "cannot be started, since memory or processes are used up: raise the limit (" +
			err.Error() + ")"
	default:
		return fmt.Errorf("start %s: %w", p.Path, err)
	}
	return fmt.Errorf("%s %s", p.Path, why)
}

// wait waits for the end of the process.
func (c *Child) wait() {
	if c.sibling {
		c.waitSibling()
		c.Reaped(-1)
		return
	}
	state, err := c.process.Wait()
	if err != nil {
		return // whoever waits for all children has the code, and calls Reaped
	}
	c.Reaped(ExitCode(state.Sys().(syscall.WaitStatus)))
}

// waitSibling waits for the end of a process that another process reaps.
func (c *Child) waitSibling() {
	err := c.process.WithHandle(func(pidfd uintptr) {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
			if n > 0 || err != nil && err != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		return
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
