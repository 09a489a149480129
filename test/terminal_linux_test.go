package test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pseudoTerminal opens both sides of a pseudo-terminal.
func pseudoTerminal(t *testing.T) (tty, master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err) // a sandbox without pseudo-terminals
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, master
}

// The first Ctrl+C gives the terminal of top its mode back, also while the server does not answer,
// so a second one, which ends top at once, leaves the terminal with an echo.
func TestTopInterruptedTwice(t *testing.T) {
	control, ln := listenAsServer(t)
	tty, _ := pseudoTerminal(t)
	echoes := func() bool {
		mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return mode.Lflag&unix.ECHO != 0
	}
	cmd := operate(control, "top")
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	silent, err := ln.Accept() // a server that hangs
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if echoes() {
		t.Error("top shows what is typed")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() string {
		if !echoes() {
			return "the terminal has no echo"
		}
		return ""
	})
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err == nil || !echoes() {
		t.Errorf("top ended with %v, or the terminal has no echo", err)
	}
}
