// Package control lets one process find another process on the same machine and ask it a question,
// over a Unix socket that only its user and root can open. A question is one line; an answer is one
// line of JSON. If both sides have more to say, they go on after that.
//
// Both sides check the folder: no other user may decide what is in it (unixsock.Private). Both ask
// the system for the user of the other side. The server answers root and its own user. The asker
// believes root, its own user and, as root, the owner of the folder. Linux, macOS and FreeBSD tell
// the user; on other systems only the folder decides, and on Windows it is the user's own. The text
// of an answer still comes from the other user.
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
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/unixsock"
)

const (
	// timeout bounds a question with its answer. Larger: a command waits longer for a dead server.
	// Smaller: a busy server is not found.
	timeout = 10 * time.Second
	// maxQuestion and maxAnswer bound the lines that a side reads. Larger: a wrong process costs
	// more memory. Smaller: longer names are cut.
	maxQuestion = 100
	maxAnswer   = 4096
	// minWait and maxWait bound the time after an error before a server accepts again; it doubles.
	// Larger: an asker waits longer when descriptors are there again. Smaller: more processor time
	// while there are none.
	minWait = 5 * time.Millisecond
	maxWait = time.Second
)

// Paths are the places where a socket called name may be: in the folder that the system has for
// such sockets, or in a folder of this user.
func Paths(name string, getenv func(string) string) (all []string) {
	runtime := getenv("XDG_RUNTIME_DIR")
	if owner, known := unixsock.Owner(runtime); known && owner != os.Geteuid() {
		runtime = "" // the folder belongs to the user who called sudo or su
	}
	for _, dir := range []string{getenv("RUNTIME_DIRECTORY"), "/run/reverb", runtime, ownFolder()} {
		if filepath.IsAbs(dir) {
			all = append(all, filepath.Join(dir, name))
		}
	}
	return all
}

func ownFolder() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("reverb-%d", os.Geteuid()))
}

// Foreign is a control socket that root does not ask, because any user can open one in a folder of
// that user's own.
type Foreign struct {
	Path string
	User int
}

// OthersPaths are the places where another user, service, may have opened a socket called name, in
// a folder of that user's own; -1: the user is unknown. Only root may ask there, so other users get
// no paths. The sockets of further users are foreign.
func OthersPaths(name string, service int) (all []string, foreign []Foreign) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, pattern := range []string{"/run/user/[0-9]*",
		filepath.Join(os.TempDir(), "reverb-[0-9]*")} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			_, uid, found := strings.Cut(filepath.Base(dir), "reverb-")
			if !found {
				uid = filepath.Base(dir)
			}
			owner, known := unixsock.Owner(dir)
			if !known || owner == 0 || uid != strconv.Itoa(owner) {
				continue
			}
			path := filepath.Join(dir, name)
			if owner == service {
				all = append(all, path)
			} else if _, err := os.Lstat(path); err == nil {
				foreign = append(foreign, Foreign{path, owner})
			}
		}
	}
	return all, foreign
}

// Listen opens the first of paths that can be opened. If none can, and another user decides what is
// in the folder of one, the error is unixsock.ErrForeign for errors.Is.
func Listen(paths []string) (ln net.Listener, err error) {
	err = errors.New("no place for one")
	for _, path := range paths {
		ln, failed := listen(path)
		switch {
		case failed == nil:
			return ln, nil
		case !errors.Is(err, unixsock.ErrForeign):
			err = failed
		}
	}
	return nil, err
}

func listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if dir == ownFolder() {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
	dir, err := unixsock.Private(dir, os.Geteuid())
	if err != nil {
		return nil, err
	}
	return unixsock.Listen(filepath.Join(dir, filepath.Base(path)), 0o600, -1, -1)
}

// Answer is what the server answers to a question.
type Answer struct {
	Value any             // is sent as a line of JSON, of less than 4 KiB
	Hold  <-chan struct{} // the connection stays open until it is closed; nil: it does not
	// Then is called once the answer is sent, or cannot be sent, and before Hold; nil: nothing
	// follows. What ends this process belongs here, so that the asker has its answer before.
	Then func()
	// Talk goes on with the connection, which has no deadline; nil: the answer is all. The asker
	// speaks next. asker is the process at the other end; known is false if the system does not
	// tell.
	Talk func(c net.Conn, asker unixsock.Peer, known bool)
}

// Serve answers questions until ln is closed, or ended is closed while no connection can be
// accepted, such as for lack of descriptors. It calls answer for each question, in a goroutine of
// its own. Only root and the user of this process may ask; refused is told of every other asker.
func Serve(ln net.Listener, ended <-chan struct{}, refused func(unixsock.Peer),
	answer func(question string) Answer) {
	wait := minWait
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(wait):
			case <-ended:
				return
			}
			wait = min(2*wait, maxWait)
			continue
		}
		wait = minWait
		if asker, ok := believe(c, os.Geteuid()); !ok {
			c.Close()
			refused(asker)
			continue
		}
		go serveOne(c, answer)
	}
}

func serveOne(c net.Conn, answer func(question string) Answer) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	question, err := bufio.NewReader(io.LimitReader(c, maxQuestion)).ReadString('\n')
	if err != nil {
		return
	}
	a := answer(question[:len(question)-1])
	b, err := json.Marshal(a.Value)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	_, err = c.Write(append(b, '\n'))
	if a.Then != nil {
		a.Then()
	}
	if err != nil {
		return
	}
	if a.Hold != nil {
		<-a.Hold
	}
	if a.Talk != nil {
		c.SetDeadline(time.Time{})
		peer, known := unixsock.PeerOf(c)
		a.Talk(c, peer, known)
	}
}

// believe says whether the other side is root or user. ok is true if the system does not tell.
func believe(c net.Conn, user int) (peer unixsock.Peer, ok bool) {
	peer, known := unixsock.PeerOf(c)
	return peer, !known || peer.UID == 0 || peer.UID == user
}

// Ask asks the process behind the first of paths that answers, and puts its answer into v. The
// connection is returned open, with a deadline; it ends when the other side has nothing more to
// say, or has ended.
// user is the owner of the folder; for root it may be another user. The error is the first one that
// says more than that a file does not exist.
func Ask(paths []string, question string, v any) (c net.Conn, user int, err error) {
	err = errors.New("no place for a control socket is known")
	for i, path := range paths {
		c, user, e := ask(path, question, v)
		if e == nil {
			return c, user, nil
		}
		if i == 0 || errors.Is(err, os.ErrNotExist) {
			err = e
		}
	}
	return nil, 0, err
}

func ask(path, question string, v any) (c net.Conn, user int, err error) {
	dir := filepath.Dir(path)
	user = os.Geteuid()
	if owner, known := unixsock.Owner(dir); known && user == 0 && dir != ownFolder() {
		user = owner // root may ask the server of another user
	}
	if dir, err = unixsock.Private(dir, user); err != nil {
		return nil, 0, err
	}
	path = filepath.Join(dir, filepath.Base(path))
	if c, err = net.DialTimeout("unix", path, timeout); err != nil {
		return nil, 0, err
	}
	if _, ok := believe(c, user); !ok {
		c.Close()
		return nil, 0, fmt.Errorf("ask %s: another user answers there", path)
	}
	c.SetDeadline(time.Now().Add(timeout))
	fmt.Fprintln(c, question) // an error shows when the answer is read
	line, err := readLine(c, maxAnswer)
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		c.Close()
		return nil, 0, fmt.Errorf("ask %s: %w", path, err)
	}
	return c, user, nil
}

// readLine reads a line of at most so many bytes, and nothing behind the line: what follows at once
// is for the caller of Ask.
func readLine(r io.Reader, most int) (line []byte, err error) {
	for b := make([]byte, 1); len(line) < most; {
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
	return nil, io.ErrUnexpectedEOF
}
