package terminal

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal of the given width; its side of the program.
func openTerminal(t *testing.T, width uint16) *os.File {
	t.Helper()
	tty, _ := openBoth(t, width)
	return tty
}

// openBoth opens both sides of a pseudo-terminal.
func openBoth(t *testing.T, width uint16) (tty, master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
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
	size := &unix.Winsize{Row: 24, Col: width}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, size); err != nil {
		t.Fatal(err)
	}
	return tty, master
}

// A terminal whose other side was closed has hung up.
func TestHungUp(t *testing.T) {
	tty, master := openBoth(t, 80)
	hungUp := HungUp(tty)
	if hungUp() {
		t.Error("a terminal that is open has hung up")
	}
	master.Close()
	if !hungUp() {
		t.Error("a terminal that was closed has not hung up")
	}
	if HungUp(tty)() {
		t.Error("what is no terminal has hung up")
	}
}

func TestTerminal(t *testing.T) {
	tty := openTerminal(t, 97)
	for _, tt := range []struct {
		env  []string
		want Look
	}{
		{[]string{"TERM", "xterm"}, Look{true, 97, true, false}},
		{[]string{"TERM", "screen-256color"}, Look{true, 97, true, true}},
		{[]string{"TERM", "xterm", "COLORTERM", "TrueColor"}, Look{true, 97, true, true}},
		{[]string{"TERM", "dumb"}, Look{true, 97, false, false}},
		{nil, Look{true, 97, false, false}},
		{[]string{"TERM", "xterm-256color", "NO_COLOR", "1"}, Look{true, 97, false, false}},
		{[]string{"TERM", "xterm", "NO_COLOR", ""}, Look{true, 97, true, false}},
		{[]string{"TERM", "xterm", "CLICOLOR", "0"}, Look{true, 97, false, false}},
		{[]string{"TERM", "xterm", "CLICOLOR", "1"}, Look{true, 97, true, false}},
		{[]string{"TERM", "dumb", "CLICOLOR_FORCE", "1"}, Look{true, 97, true, false}},
	} {
		if got := Of(tty, env(tt.env...)); got != tt.want {
			t.Errorf("%v: got %+v, want %+v", tt.env, got, tt.want)
		}
	}
	if got := Of(openTerminal(t, 0), env("TERM", "xterm")); !got.Terminal || got.Width != 0 {
		t.Errorf("of no width: got %+v", got)
	}
}

// A key is seen without Enter, and is not shown; restore makes the terminal as it was.
func TestOnKey(t *testing.T) {
	tty, _ := openBoth(t, 80)
	OnKey(tty, 'q', func() { t.Error("a terminal of another process is read") })()
	if byKeyOf(t, tty) {
		t.Error("the mode of a terminal of another process is changed")
	}
	// A process has one terminal. Its own process, which the test starts, gets this one.
	cmd := exec.Command(os.Args[0], "-test.run=^TestOnKeyHelper$")
	tty, master := openBoth(t, 80)
	cmd.Env = append(os.Environ(), "REVERB_TEST_ON_KEY=1")
	cmd.Stdin, cmd.Stderr = tty, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if !byKeyOf(t, tty) {
		t.Error("the terminal waits for Enter")
	}
	master.WriteString("xq")
	if line, err := r.ReadString('\n'); line != "pressed\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil || byKeyOf(t, tty) {
		t.Errorf("got %v, or the terminal is not as it was", err)
	}
}

// TestOnKeyHelper is the process that TestOnKey starts.
func TestOnKeyHelper(t *testing.T) {
	if os.Getenv("REVERB_TEST_ON_KEY") == "" {
		t.Skip("TestOnKey starts it")
	}
	pressed := make(chan bool)
	restore := OnKey(os.Stdin, 'q', func() { close(pressed) })
	fmt.Println("ready")
	<-pressed
	restore()
	restore()
	fmt.Println("pressed")
}

// byKeyOf says whether a terminal hands over each key at once.
func byKeyOf(t *testing.T, tty *os.File) bool {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), getMode)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Lflag&unix.ICANON == 0
}
