// Package limits asks the operating system what the process may use and what it uses: descriptors,
// memory and processor time. It also gives advice on settings of the kernel that are too small.
package limits

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory returns the bytes of resident memory, and the limit of the control group; 0: there is no
// limit, or it is unknown.
func Memory() (resident, limit uint64) {
	if f := strings.Fields(read("/proc/self/statm")); len(f) > 1 {
		pages, _ := strconv.ParseUint(f[1], 10, 64) // the kernel's own number
		resident = pages * uint64(os.Getpagesize())
	}
	return resident, groupLimit(read("/proc/self/cgroup"), "/sys/fs/cgroup")
}

// Machine returns the bytes of memory of the machine; 0: unknown.
func Machine() uint64 { return machine(read("/proc/meminfo")) }

func machine(meminfo string) uint64 {
	for line := range strings.Lines(meminfo) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(f[1], 10, 54) // the kernel's own number
			return kib << 10
		}
	}
	return 0
}

// groupLimit finds the smallest limit of this process's control group and of those above it.
func groupLimit(groups, root string) (limit uint64) {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // id:controllers:path
		if len(f) != 3 {
			continue
		}
		dir, file := root, "memory.max"
		if f[1] != "" {
			if !strings.Contains(","+f[1]+",", ",memory,") {
				continue
			}
			dir, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		}
		for path := f[2]; ; path = filepath.Dir(path) {
			n, err := strconv.ParseUint(strings.TrimSpace(read(filepath.Join(dir, path, file))), 10,
				64)
			if err == nil && n > 0 && n < 1<<60 && (limit == 0 || n < limit) {
				// version 1 writes a huge number if there is no limit
				limit = n
			}
			if path == "/" || path == "." {
				break
			}
		}
	}
	return limit
}

// CPU returns the seconds of processor time that the process has used.
func CPU() float64 {
	s := read("/proc/self/stat")
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // from the third field on
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseUint(f[11], 10, 64)
	system, _ := strconv.ParseUint(f[12], 10, 64)
	return float64(user+system) / 100 // USER_HZ is 100 on every system that Go runs on
}

// OpenFiles returns how many descriptors are open; 0: unknown.
func OpenFiles() int {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return len(names)
}

func read(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}

// kernelAdvice gives the commands for settings of the kernel that are too small. Without root there
// is no advice.
func kernelAdvice(root string) (advice []string) {
	for _, k := range []struct {
		name string
		want uint64
		why  string
	}{
		{"net.core.somaxconn", 4096,
			"connections that may wait to be accepted, as after a restart"},
		{"net.ipv4.tcp_max_syn_backlog", 4096, "handshakes under way"},
		{"fs.file-max", 1 << 18, "descriptors of the whole machine"},
		{"net.netfilter.nf_conntrack_max", 1 << 17,
			"connections that the firewall follows; above it new ones are dropped"},
	} {
		n, err := strconv.ParseUint(strings.TrimSpace(
			read(filepath.Join(root, strings.ReplaceAll(k.name, ".", "/")))), 10, 64)
		if err == nil && n < k.want {
			advice = append(advice, fmt.Sprintf("%s is %d (%s); raise it: sysctl -w %s=%d", k.name,
				n, k.why, k.name, k.want))
		}
	}
	lo, hi, ok := portRange(read(filepath.Join(root, "net/ipv4/ip_local_port_range")))
	if ok && hi-lo < 32_000 {
		advice = append(advice, fmt.Sprintf("net.ipv4.ip_local_port_range gives %d ports, "+
			"so a proxy on this machine gets no more connections through to one address; "+
			"widen it: sysctl -w net.ipv4.ip_local_port_range='10240 65535'", hi-lo+1))
	}
	return advice
}

// CheckKernel compares settings of the kernel with the needs of a server of many connections. root
// is /proc/sys. add takes a verdict and a line.
func CheckKernel(root string, add func(verdict, format string, args ...any)) {
	for _, advice := range kernelAdvice(root) {
		add("note", "kernel: %s", advice)
	}
}

// portRange reads the two numbers of ip_local_port_range, with space between. fmt.Sscan would add
// 40 kB to the binary.
func portRange(text string) (lo, hi int, ok bool) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return 0, 0, false
	}
	lo, bad := strconv.Atoi(words[0])
	hi, worse := strconv.Atoi(words[1])
	return lo, hi, bad == nil && worse == nil
}

// CheckFiles raises the limit of descriptors, as RaiseFiles does, and judges how many connections
// it allows. spare descriptors are for other uses. add takes the verdict and a line.
func CheckFiles(spare int64, add func(verdict, format string, args ...any)) {
	files := RaiseFiles()
	if files == 0 {
		return
	}
	n := max(int64(min(files, math.MaxInt32))-spare, 0)
	switch {
	case n < 256:
		add("FAIL", "descriptors: %d, so %d connections; "+
			"raise the limit: ulimit -n 65536, or LimitNOFILE=65536 in the unit", files, n)
	case n < 10_000:
		add("note",
			"descriptors: %d, so %d connections; for more: LimitNOFILE=1048576 in the unit, "+
				"or nofile in /etc/security/limits.conf", files, n)
	default:
		add("ok", "descriptors: %d, so %d connections of about 1 KiB each besides the kernel's",
			files, n)
	}
}
