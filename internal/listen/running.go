package listen

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/control"
	"reverb/internal/lib/portowner"
	"reverb/internal/lib/show"
	"reverb/internal/lib/unixsock"
)

// The questions that are asked over a control socket. The answer to each is a Status.
const (
	askStatus  = "status"
	askRestart = "restart" // the connection stays open until the server has ended
)

// Status is the answer of a server about itself.
type Status struct {
	PID         int    `json:"pid"`
	Version     string `json:"version"`
	Listening   string `json:"listening"` // its main address
	Connections int64  `json:"connections"`
}

// Control opens the control socket of a server on address. Find and Restart look for this socket.
// If the system has chosen the port, address has the chosen port.
func (s Sockets) Control(address string) (net.Listener, error) {
	return control.Listen(s.controlPaths(address))
}

// Serve answers questions over a control socket until ended and ln are closed, in this order.
// status and restart are called in a goroutine for each question; restart begins the end of the
// server and returns at once. The connection of the process that asks for a restart stays open
// until ended is closed.
func Serve(ln net.Listener, status func() Status, restart func(), ended <-chan struct{}) {
	control.Serve(ln, ended, func(question string) (any, <-chan struct{}) {
		now := status()
		if question != askRestart {
			return now, nil
		}
		restart()
		return now, ended
	})
}

// Running is a server that was found. Its texts are safe to print, whichever process has answered.
type Running struct {
	Status
	Who string // its process, and its user if that is another

	nc net.Conn
}

// Find finds the server on address and asks how it is. ok is false if there is none.
func (s Sockets) Find(address string) (r Running, ok bool) {
	r, err := s.ask(address, askStatus)
	if err != nil {
		return r, false
	}
	r.nc.Close()
	return r, true
}

// Restart finds the server on address and asks it to end. The service manager starts the next one.
// The caller waits for the end with Wait.
func (s Sockets) Restart(address string) (Running, error) { return s.ask(address, askRestart) }

// Wait waits for the end of a server that Restart has asked to end. The error says that the server
// has not ended before the deadline, or before ctx was done.
func (r Running) Wait(ctx context.Context, deadline time.Time) error {
	defer r.nc.Close()
	defer context.AfterFunc(ctx, func() { r.nc.Close() })()
	r.nc.SetDeadline(deadline)
	_, err := io.Copy(io.Discard, r.nc)
	return err
}

// ask asks the server on address a question. Root also asks servers of other users. Any process may
// have given the answer. r.nc is open.
func (s Sockets) ask(address, question string) (r Running, err error) {
	paths, foreign := s.controlPaths(address), []control.Foreign(nil)
	if s.ControlPath == "" && os.Geteuid() == 0 {
		others, of := control.OthersPaths(controlName(address), servingUser(address))
		paths, foreign = append(paths, others...), of
	}
	nc, uid, err := control.Ask(paths, question, &r.Status)
	if err != nil {
		why := show.Line(err.Error())
		for _, f := range foreign {
			why += fmt.Sprintf("; %s of user %s was not asked: that user is not known to listen "+
				"on this address", show.Text(f.Path), userName(f.User))
		}
		return Running{}, errors.New(why)
	}
	r.nc, r.Version, r.Listening = nc, show.Line(r.Version), show.Line(r.Listening)
	r.Who = fmt.Sprintf("pid %d", r.PID)
	if uid != os.Geteuid() {
		r.Who += ", user " + userName(uid)
	}
	return r, nil
}

// controlPaths are the places where the control socket of a server on address may be.
func (s Sockets) controlPaths(address string) []string {
	if s.ControlPath != "" {
		return []string{s.ControlPath}
	}
	return control.Paths(controlName(address), s.Getenv)
}

// controlName is the name of the control socket of a server on address. It has the port, or a hash
// of the path.
func controlName(address string) string {
	path, unix := strings.CutPrefix(address, "unix:")
	_, name, _ := net.SplitHostPort(address)
	if unix {
		if absolute, err := filepath.Abs(path); err == nil {
			path = absolute
		}
		sum := sha256.Sum256([]byte(path))
		name = hex.EncodeToString(sum[:6])
	}
	return "reverb-" + name + ".sock"
}

// servingUser is the user whose process listens on address; -1: unknown. Root asks the servers of
// this user only, because any user can answer on a control socket.
func servingUser(address string) int {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		if uid, ok := portowner.User(port(address)); ok {
			return uid
		}
		return -1
	}
	const limit = time.Second // a server that is full accepts later; then its user is unknown
	nc, err := net.DialTimeout("unix", path, limit)
	if err != nil {
		return -1
	}
	defer nc.Close()
	if peer, known := unixsock.PeerOf(nc); known {
		return peer.UID
	}
	return -1
}

// userName is the name of a user, or the number if there is no name.
func userName(uid int) string {
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		name = show.Text(u.Username)
	}
	return name
}
