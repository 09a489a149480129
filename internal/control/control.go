// Package control lets one process find another on the same machine and ask it
// something: over a Unix socket that only its user can open. A question is one line,
// an answer is one line of JSON.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

const (
	timeout      = 10 * time.Second
	maxQuestion  = 100
	maxAnswer    = 4096
	privateSpace = 0o077 // nobody else may do anything
)

// Paths are where a socket called name may be: in the folder that the system keeps
// for such things, or in one of this user's own.
func Paths(name string, getenv func(string) string) (all []string) {
	for _, dir := range []string{getenv("RUNTIME_DIRECTORY"), "/run/reverb", getenv("XDG_RUNTIME_DIR"), ownFolder()} {
		if filepath.IsAbs(dir) {
			all = append(all, filepath.Join(dir, name))
		}
	}
	return all
}

func ownFolder() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("reverb-%d", os.Getuid()))
}

// Listen opens the first of paths that can be opened.
func Listen(paths []string) (ln net.Listener, err error) {
	err = errors.New("no place for one")
	for _, path := range paths {
		if ln, err = listen(path); err == nil {
			return ln, nil
		}
	}
	return nil, err
}

func listen(path string) (net.Listener, error) {
	if dir := filepath.Dir(path); dir == ownFolder() {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		fi, err := os.Lstat(dir)
		if err != nil {
			return nil, err
		}
		if !fi.IsDir() || runtime.GOOS != "windows" && fi.Mode().Perm()&privateSpace != 0 {
			return nil, fmt.Errorf("%s is open to other users", dir)
		}
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another server is listening there", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		os.Remove(path) // left by a process that was killed; if it stays, listening says why
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// Serve answers questions until ln is closed. answer is called for each; what it
// returns is sent, and the connection then stays open until hold is closed, if hold
// is not nil.
func Serve(ln net.Listener, answer func(question string) (v any, hold <-chan struct{})) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go serveOne(c, answer)
	}
}

func serveOne(c net.Conn, answer func(question string) (any, <-chan struct{})) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	question, err := bufio.NewReader(io.LimitReader(c, maxQuestion)).ReadString('\n')
	if err != nil {
		return
	}
	v, hold := answer(question[:len(question)-1])
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	if _, err := c.Write(append(b, '\n')); err == nil && hold != nil {
		<-hold
	}
}

// Ask asks the process behind the first of paths that answers, and puts its answer
// into v. The connection is returned open; it ends when the other side has nothing
// more to say, or is gone.
func Ask(paths []string, question string, v any) (c net.Conn, err error) {
	err = errors.New("no place for a control socket is known")
	for _, path := range paths {
		if c, err = ask(path, question, v); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func ask(path, question string, v any) (net.Conn, error) {
	c, err := net.DialTimeout("unix", path, timeout)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(timeout))
	fmt.Fprintln(c, question) // an error shows with the answer
	line, err := bufio.NewReader(io.LimitReader(c, maxAnswer)).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), v)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	return c, nil
}
