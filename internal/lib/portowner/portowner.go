// Package portowner finds the process that listens on a TCP port, and its user, in the /proc of
// Linux. On other systems, and where this user may not look, it finds nothing.
package portowner

import (
	"bufio"
	"fmt"
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

// Find returns the listening process's ID and name.
func Find(port int) (pid int, name string, ok bool) {
	inodes := map[string]bool{}
	eachListening(port, func(link string, _ int) { inodes[link] = true })
	if len(inodes) == 0 {
		return 0, "", false
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
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue
		}
		return pid, strings.TrimSpace(string(b)), true
	}
	return 0, "", false
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
