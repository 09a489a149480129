// Package portowner finds the process that listens on a TCP port, its user and the processes that
// have started it, in the /proc of Linux. On other systems, and where this user may not look, it
// finds nothing.
package portowner

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// User returns the user who has opened the listening sockets of a port. ok is false if no process
// listens, or if several users listen on several addresses.
func User(port int) (uid int, ok bool) {
	users := map[int]bool{}
	eachListening(port, func(_ string, user int) {
		uid = user
		users[user] = true
	})
	return uid, len(users) == 1
}

// Process is a process as it shows itself. Its texts are those of a stranger: any process may give
// itself another name and other arguments.
type Process struct {
	PID  int
	Name string   // of its program, as the kernel keeps it
	Args []string // its command line
}

// maxArgs is how many bytes of a command line are read. Larger: a process with a long command line
// costs memory. Smaller: a word behind long paths is not seen.
const maxArgs = 16 << 10

// Find returns the process that listens on a port.
func Find(port int) (p Process, ok bool) {
	inodes := map[string]bool{}
	eachListening(port, func(link string, _ int) { inodes[link] = true })
	if len(inodes) == 0 {
		return Process{}, false
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/[0-9]*") // no error: the pattern is valid
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !inodes[target] {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			continue
		}
		if p, ok := process(pid); ok {
			return p, true
		}
	}
	return Process{}, false
}

// process reads what a process shows. ok is false if it has ended.
func process(pid int) (p Process, ok bool) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	b, err := os.ReadFile(dir + "comm")
	if err != nil {
		return Process{}, false
	}
	p = Process{PID: pid, Name: strings.TrimSpace(string(b))}
	f, err := os.Open(dir + "cmdline")
	if err != nil {
		return p, true
	}
	defer f.Close()
	if b, err = io.ReadAll(io.LimitReader(f, maxArgs)); err == nil && len(b) > 0 {
		p.Args = strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	}
	return p, true
}

// Parent returns the process that has started p. If that has ended, it is another one, such as
// init. ok is false if the system does not tell.
func (p Process) Parent() (parent Process, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return Process{}, false
	}
	// pid (name) state parent; the name may hold anything
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return Process{}, false
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil || pid == 0 {
		return Process{}, false
	}
	return process(pid)
}

// eachListening calls found for every socket that listens on port, with the name that links of
// /proc use, and with the user.
func eachListening(port int, found func(link string, user int)) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
			fields := strings.Fields(sc.Text())
			if len(fields) < 10 || fields[3] != "0A" {
				continue
			}
			_, p, _ := strings.Cut(fields[1], ":")
			if user, err := strconv.Atoi(fields[7]); err == nil && p == fmt.Sprintf("%04X", port) {
				found("socket:["+fields[9]+"]", user)
			}
		}
		f.Close()
	}
}
