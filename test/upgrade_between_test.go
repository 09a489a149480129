package test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// This test program takes the place of a successor's program. A plan says what it does then: hang,
// greet in another format, or become the real program, with another process of this program between
// it and its predecessor. That one passes frame by frame on, and ends one of the two at a frame:
//
//	predecessor ── frames ── this program, between ── frames ── successor, the real program

// deed is what this program does as a successor. It lies in a file, see betweenVariable.
type deed struct {
	Mode string // between, hang, format, memory, stranger
	Real string // path of the real program
	Step string // at which a process is ended, see steps
	Save string // path of a file for the frames of the giver; empty: none
	Who  string // giver, taker, parent of the giver; empty: the frame waits until resume is called
}

const (
	betweenVariable = "BETWEEN_PLAN"   // a folder with the plan
	passesVariable  = "BETWEEN_PASSES" // whoever is between: the numbers of giver and taker
)

// frames are the names of package handover for its frames, in their order.
const frames = "hello offer ready no section more shared batch took all installed yours serving " +
	"mine stop"

// runBetween says whether this process was such a successor.
func runBetween() bool {
	dir := os.Getenv(betweenVariable)
	if dir == "" {
		return false
	}
	b, err := os.ReadFile(filepath.Join(dir, "plan"))
	var p deed
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err == nil {
		err = p.run(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "between:", err)
		os.Exit(9)
	}
	return true
}

func (p *deed) run(dir string) error {
	if who := os.Getenv(passesVariable); who != "" {
		return p.between(dir, who)
	}
	fd, err := strconv.Atoi(os.Getenv("REVERB_HANDOVER_FD"))
	if err != nil {
		return err
	}
	giver, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	switch p.Mode {
	case "hang":
		line, err := strconv.Atoi(os.Getenv("REVERB_HANDOVER_PARENT"))
		if err == nil {
			unix.Read(line, make([]byte, 1)) // so that it ends with the giver at the latest
		}
		return err
	case "format": // hello: formats 9 to 12
		unix.Write(fd, []byte{1, 0, 0, 0, 2, 9, 12})
		unix.Read(fd, make([]byte, 1))
		return nil
	case "stranger": // to the protocol, and talkative
		unix.Write(fd, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		unix.Read(fd, make([]byte, 1))
		return nil
	case "memory":
		most := unix.Rlimit{Cur: 64 << 20, Max: 64 << 20}
		if err := unix.Setrlimit(unix.RLIMIT_AS, &most); err != nil {
			return err
		}
		return unix.Exec(p.Real, os.Args, os.Environ())
	}
	switch {
	case p.Step == "fork" && p.Who == "giver":
		unix.Kill(int(giver.Pid), unix.SIGKILL)
	case p.Step == "fork":
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// by a process that ends, so that whoever is between is no child of the successor
	start := exec.Command("/bin/sh", "-c", `"$0" & `, "/proc/"+strconv.Itoa(os.Getpid())+"/exe")
	start.Env = []string{betweenVariable + "=" + dir,
		fmt.Sprintf("%s=%d %d", passesVariable, giver.Pid, os.Getpid())}
	start.Stderr = os.Stderr
	start.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "giver"),
		os.NewFile(uintptr(pair[0]), "taker")}
	start.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := start.Run(); err != nil {
		return err
	}
	if err := await(filepath.Join(dir, "ready")); err != nil { // it has opened this program
		return err
	}
	if err := unix.Dup3(pair[1], fd, 0); err != nil {
		return err
	}
	return unix.Exec(p.Real, os.Args, os.Environ())
}

// await waits for a file.
func await(path string) error {
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if time.Since(begun) > 20*time.Second {
			return errors.New("there is no " + path)
		}
	}
}

// between passes frames on between giver and taker, whose ends are descriptors 3 and 4.
func (p *deed) between(dir, who string) error {
	var pids [2]int
	var ends [2]*net.UnixConn
	if _, err := fmt.Sscan(who, &pids[0], &pids[1]); err != nil {
		return err
	}
	for i := range ends {
		f := os.NewFile(uintptr(3+i), "end")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return err
		}
		ends[i] = c.(*net.UnixConn)
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		return err
	}
	over := make(chan error, 2)
	for i := range ends {
		go func() { over <- p.pass(dir, ends[i], ends[1-i], pids) }()
	}
	err := <-over
	for _, c := range ends {
		c.Close()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// pass passes one direction on, until it ends, or until the step.
func (p *deed) pass(dir string, from, to *net.UnixConn, pids [2]int) error {
	when, frame, _ := strings.Cut(p.Step, " ")
	frame, number, _ := strings.Cut(frame, " ")
	nth, _ := strconv.Atoi(number)
	oob := make([]byte, unix.CmsgSpace(4*253))
	for held := false; ; {
		var head [5]byte
		n, m, _, _, err := from.ReadMsgUnix(head[:], oob)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err == nil {
			_, err = io.ReadFull(from, head[n:])
		}
		if err != nil {
			return err
		}
		b := append(head[:], make([]byte, binary.BigEndian.Uint32(head[1:]))...)
		if _, err := io.ReadFull(from, b[5:]); err != nil {
			return err
		}
		if err := p.save(b); err != nil {
			return err
		}
		hit := strings.Fields(frames)[b[0]-1] == frame
		if hit {
			nth--
			hit = nth < 0 && !held
		}
		if held = held || hit; hit && when == "before" {
			if err := p.strike(dir, pids); err != nil {
				return err
			}
		}
		if err := forward(to, b, oob[:m]); err != nil {
			return err
		}
		if hit && when == "after" {
			if err := p.strike(dir, pids); err != nil {
				return err
			}
		}
	}
}

// save keeps a frame of a section; only the giver sends some.
func (p *deed) save(b []byte) error {
	name := strings.Fields(frames)[b[0]-1]
	if p.Save == "" || name != "section" && name != "more" {
		return nil
	}
	f, err := os.OpenFile(p.Save, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(b)
	return err
}

// forward sends a frame, and closes its descriptors here.
func forward(to *net.UnixConn, b, oob []byte) error {
	_, _, err := to.WriteMsgUnix(b[:5], oob, nil)
	if err == nil && len(b) > 5 { // whoever has all may have gone
		_, err = to.Write(b[5:])
	}
	all, _ := unix.ParseSocketControlMessage(oob)
	for i := range all {
		fds, _ := unix.ParseUnixRights(&all[i])
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	return err
}

// strike ends a process, and waits for its end, which is an error; or it waits for resume.
func (p *deed) strike(dir string, pids [2]int) error {
	if p.Who == "" {
		if err := os.WriteFile(filepath.Join(dir, "held"), nil, 0o600); err != nil {
			return err
		}
		return await(filepath.Join(dir, "go"))
	}
	pid := pids[0]
	switch p.Who {
	case "taker":
		pid = pids[1]
	case "parent":
		pid, _, _ = processOf(strconv.Itoa(pid))
	}
	unix.Kill(pid, unix.SIGKILL)
	for begun := time.Now(); runs(pid); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			return fmt.Errorf("%s does not end", p.Who)
		}
	}
	return io.EOF
}

// runs says whether a process runs; a zombie does not.
func runs(pid int) bool {
	_, state, ok := processOf(strconv.Itoa(pid))
	return ok && state != "Z"
}

// processOf is what the system says of a process: its parent, and its state.
func processOf(pid string) (parent int, state string, ok bool) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, "", false
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	parent, _ = strconv.Atoi(f[1])
	return parent, f[0], true
}

// setDeed makes this program the successor of s; resume undoes the wait of a plan without Who.
func (s *standing) setDeed(t testing.TB, p deed) {
	t.Helper()
	for _, name := range []string{"ready", "held", "go"} {
		os.Remove(filepath.Join(s.plans, name))
	}
	p.Real = s.real
	b, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.plans, "plan"), b, 0o600)
	}
	if err == nil {
		err = s.place(s.between)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *standing) resume(t testing.TB) {
	if err := os.WriteFile(filepath.Join(s.plans, "go"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

// place puts another program at the path of s.
func (s *standing) place(file string) error {
	os.Remove(s.path + ".new")
	return errors.Join(os.Link(file, s.path+".new"), os.Rename(s.path+".new", s.path))
}
