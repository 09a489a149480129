package limits

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestRaiseFiles(t *testing.T) {
	got := RaiseFiles()
	soft, hard := Files()
	if got != soft || soft > hard {
		t.Errorf("got %d, want the soft limit %d, at most %d", got, soft, hard)
	}
}

// TestCheckFiles judges the descriptors of this process, of which all but connections are spared.
func TestCheckFiles(t *testing.T) {
	files := int64(min(RaiseFiles(), math.MaxInt32))
	if files == 0 {
		t.Skip("the limit of descriptors is not known")
	}
	for connections, want := range map[int64]string{-1: "FAIL 0 connections",
		255: "FAIL 255 connections", 256: "note 256 connections", 9999: "note 9999 connections",
		10_000: "ok 10000 connections"} {
		got := ""
		CheckFiles(files-connections, func(verdict, format string, args ...any) {
			line := fmt.Sprintf(format, args...)
			_, n, _ := strings.Cut(line, ", so ")
			got += verdict + " " + n[:strings.Index(n, " connections")] + " connections"
		})
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPortRange(t *testing.T) {
	for text, want := range map[string]string{"32768\t60999\n": "32768 60999 true",
		"1 2": "1 2 true", "": "0 0 false", "1": "0 0 false", "1 2 3": "0 0 false",
		"1\tx": "1 0 false"} {
		lo, hi, ok := portRange(text)
		if got := fmt.Sprint(lo, hi, ok); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	if resident, _ := Memory(); resident < 1<<20 || resident > 1<<40 {
		t.Errorf("resident memory %d", resident)
	}
	before, n := OpenFiles(), 0
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if n = OpenFiles(); n != before+1 {
		t.Errorf("open files %d, want %d", n, before+1)
	}
	f.Close()
	if CPU() < 0 {
		t.Error("negative CPU time")
	}
}

func TestGroupLimit(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b/memory.max", "max\n")
	write("a/memory.max", "1048576\n")
	write("memory/c/memory.limit_in_bytes", "9223372036854771712\n")
	write("memory/d/memory.limit_in_bytes", "4096\n")
	for groups, want := range map[string]uint64{"0::/a/b\n": 1 << 20, "0::/\n": 0, "0::/gone\n": 0,
		"": 0, "x\n": 0,
		"5:cpu,memory:/c\n0::/\n": 0, "5:memory:/d\n": 4096, "5:cpu:/d\n": 0} {
		if got := groupLimit(groups, root); got != want {
			t.Errorf("%q: got %d, want %d", groups, got, want)
		}
	}
}

func TestMachine(t *testing.T) {
	for text, want := range map[string]uint64{
		"MemFree: 1 kB\nMemTotal:       24684084 kB\n": 24684084 << 10, "": 0, "MemTotal:\n": 0,
		"MemTotal: x kB": 0} {
		if got := machine(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
	if got := Machine(); runtime.GOOS == "linux" && (got < 1<<26 || got > 1<<50) {
		t.Errorf("this machine has %d bytes", got)
	}
}

func TestKernelAdvice(t *testing.T) {
	root := t.TempDir()
	if got := kernelAdvice(root); len(got) != 0 {
		t.Errorf("nothing is known, and yet: %q", got)
	}
	for name, text := range map[string]string{"net/core/somaxconn": "128\n",
		"fs/file-max": "9223372036854775807\n", "net/ipv4/ip_local_port_range": "32768\t60999\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := kernelAdvice(root)
	if len(got) != 2 || !strings.Contains(got[0], "sysctl -w net.core.somaxconn=4096") ||
		!strings.Contains(got[1], "28232 ports") {
		t.Errorf("got %q", got)
	}
	var found []string
	CheckKernel(root, func(verdict, format string, args ...any) {
		found = append(found, verdict+" "+fmt.Sprintf(format, args...))
	})
	if len(found) != 2 || found[0] != "note kernel: "+got[0] {
		t.Errorf("found %q", found)
	}
}
