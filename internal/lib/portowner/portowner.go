// Package portowner finds the process that listens on a TCP port, by what Linux
// tells in /proc. Elsewhere, and where this user may not look, it finds nothing.
package portowner

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Find returns the listening process's ID and name.
func Find(port int) (pid int, name string, ok bool) {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		addListening(table, port, inodes)
	}
	if len(inodes) == 0 {
		return 0, "", false
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/[0-9]*") // a pattern that is right
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

// addListening adds the sockets of a table that listen on port, as links of /proc
// name them.
func addListening(table string, port int, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
		fields := strings.Fields(sc.Text())
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		if _, p, ok := strings.Cut(fields[1], ":"); ok && p == fmt.Sprintf("%04X", port) {
			inodes["socket:["+fields[9]+"]"] = true
		}
	}
}
