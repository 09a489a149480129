package listen

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	askUpgrade = "upgrade" // an outcome follows
	askPlan    = "upgrade --dry-run"
)

// tellLimit bounds the time in which an asker takes the outcome of an upgrade. Larger: one that
// does not read delays the end of the old process. Smaller: a busy one does not get it.
const tellLimit = time.Second

// planLimit bounds the time in which a server says what an upgrade would do, for which it starts
// the program that lies at its path. Larger: check waits longer for one that hangs. Smaller: check
// does not know of a slow one.
const planLimit = 10 * time.Second

// maxOutcome bounds what a server says of an upgrade or a restart. Larger: a wrong process costs
// more memory. Smaller: a long reason is cut off.
const maxOutcome = 64 << 10

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
	if ln := s.Inherited[RoleControl]; ln != nil {
		return ln, nil
	}
	return control.Listen(s.controlPaths(address))
}

// Talker answers the questions that this package does not know, over the same socket.
type Talker interface {
	// Greet returns the first line of the answer to a question. ok is false for a question that the
	// Talker does not know.
	Greet(question string) (greeting any, ok bool)
	// Talk goes on with the connection, and returns at its end. asker is the user of the process at
	// the other end; known is false if the system does not tell.
	Talk(nc net.Conn, asker int, known bool)
}

// Asked does what is asked over a control socket. Each question has a goroutine of its own. ctx
// ends when the asker has gone, or has its outcome; who is the asker, for the log.
type Asked interface {
	// Restart begins a restart, and returns at once. tell gets what happens, a sentence, or an
	// empty one while nothing happens for long; an error says why the server serves on, and is the
	// last.
	Restart(ctx context.Context, who string, tell func(text string, err error))
	// Upgrade calls tell with the outcome, before the process may end, and then returns; with dry
	// it tells what would happen.
	Upgrade(ctx context.Context, who string, dry bool, tell func(text string, err error))
}

// Serve answers questions over a control socket until ended and ln are closed, in this order.
// status is called in a goroutine for each question. The connection of the process that asks for a
// restart stays open until ended is closed. A question that t does not know either is answered with
// the status. t may be nil. stranger is told of the process of another user that has asked.
func Serve(ln net.Listener, status func() Status, do Asked, ended <-chan struct{},
	stranger func(unixsock.Peer), t Talker) {
	control.Serve(ln, ended, stranger, func(question string) control.Answer {
		if t != nil {
			if greeting, ok := t.Greet(question); ok {
				return control.Answer{
					Value: greeting,
					Talk: func(nc net.Conn, asker unixsock.Peer, known bool) {
						t.Talk(nc, asker.UID, known)
					},
				}
			}
		}
		a := control.Answer{Value: status()}
		switch question {
		case askRestart, askUpgrade, askPlan:
			a.Talk = func(nc net.Conn, asker unixsock.Peer, known bool) {
				who := "reverb " + question
				if known {
					who += fmt.Sprintf(" (pid %d, uid %d)", asker.PID, asker.UID)
				}
				perform(nc, question, who, do, ended)
			}
		}
		return a
	})
}

// perform does what one asker asks.
func perform(nc net.Conn, question, who string, do Asked, ended <-chan struct{}) {
	ctx, over := context.WithCancel(context.Background())
	defer over()
	go func() {
		defer over()
		nc.Read(make([]byte, 1)) // the asker says nothing more; it closes, or the caller does
	}()
	if question != askRestart {
		do.Upgrade(ctx, who, question == askPlan, func(text string, err error) {
			tell(nc, text, err)
		})
		return
	}
	refused := make(chan struct{})
	do.Restart(ctx, who, func(text string, err error) {
		if tell(nc, text, err); err != nil {
			close(refused)
		}
	})
	select {
	case <-refused:
	case <-ended:
	}
}

// tell gives an asker the outcome of what it has asked for.
func tell(nc net.Conn, text string, err error) {
	o := outcome{Text: text}
	if err != nil {
		o.Failed = err.Error()
	}
	nc.SetWriteDeadline(time.Now().Add(tellLimit))
	json.NewEncoder(nc).Encode(o) // the asker may be gone
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

// Check says that the port of address is free, or that a server runs there, and whether that could
// be upgraded. path is for the text; broken says that the configuration has problems. add
// takes the verdict and a line.
func (s Sockets) Check(
	address, path string,
	broken bool,
	add func(verdict, format string, args ...any),
) (running bool) {
	if r, ok := s.Find(address); ok {
		add("ok", "listening: reverb is running on %s (%s, %s)",
			r.Listening, r.Who, show.Count(r.Connections, "connection"))
		if broken {
			add("note", "upgrade: it would be refused with this configuration")
		} else {
			s.checkUpgrade(address, add)
		}
		return true
	}
	ln, err := s.Open(address)
	if err != nil {
		add("FAIL", "listening: %v", err)
		return true // perhaps a server of another user
	}
	add("ok", "listening: %s%s is free", ln.Addr(), path)
	ln.Close()
	return false
}

// checkUpgrade says whether the server on address could be upgraded. A server of a version that
// does not know the question says nothing of it.
func (s Sockets) checkUpgrade(address string, add func(verdict, format string, args ...any)) {
	r, err := s.Upgrade(address, true)
	if err != nil {
		return // it has ended meanwhile
	}
	switch o, err := r.outcome(context.Background(), time.Now().Add(planLimit)); {
	case err != nil:
		add("note", "upgrade: the server does not say whether it is possible: reverb upgrade "+
			"--dry-run waits longer")
	case o.Failed != "":
		add("note", "upgrade: not possible: %s", show.Line(o.Failed))
	default:
		add("ok", "%s", show.Line(o.Text))
	}
}

// Restart finds the server on address and asks it to end. The service manager starts the next one.
// The caller waits for the end with Wait.
func (s Sockets) Restart(address string) (Running, error) { return s.ask(address, askRestart) }

// outcome is how an upgrade has ended, or what happens at a restart.
type outcome struct {
	Text   string `json:"text,omitempty"`
	Failed string `json:"failed,omitempty"` // why; empty: it has not
}

// Upgrade finds the server on address and asks it to hand over to its successor, or, with dry, what
// would happen then. The caller waits with Outcome.
func (s Sockets) Upgrade(address string, dry bool) (Running, error) {
	if dry {
		return s.ask(address, askPlan)
	}
	return s.ask(address, askUpgrade)
}

// AskUpgrade asks the server on address as Upgrade does, and waits for the outcome.
func (s Sockets) AskUpgrade(ctx context.Context, address string, dry bool,
	patience time.Duration) (text string, err error) {
	r, err := s.Upgrade(address, dry)
	if err != nil {
		return "", err
	}
	return r.Outcome(ctx, time.Now().Add(patience))
}

// AskRestart asks the server on address as Restart does, waits for the outcome, and writes what
// happens, a line each. patience is how long the server may say nothing.
func (s Sockets) AskRestart(ctx context.Context, address string, patience time.Duration,
	w io.Writer) error {
	r, err := s.Restart(address)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "reverb (%s) on %s restarts, with %s\n", r.Who, r.Listening,
		show.Count(r.Connections, "connection"))
	err = r.Wait(ctx, patience, func(text string) { fmt.Fprintln(w, text) })
	if err != nil {
		return err
	}
	if next, ok := s.Find(address); ok {
		fmt.Fprintf(w, "reverb (%s) serves, with %s\n", next.Who,
			show.Count(next.Connections, "connection"))
	} else {
		fmt.Fprintln(w, "stopped")
	}
	return nil
}

// Outcome waits until the successor serves, and returns what the server has to say. The error says
// why there is no successor.
func (r Running) Outcome(ctx context.Context, deadline time.Time) (text string, err error) {
	o, err := r.outcome(ctx, deadline)
	if err != nil {
		return "", fmt.Errorf("the server does not say how it went (%w): reverb status tells "+
			"whether one serves", err)
	}
	if o.Failed != "" {
		return "", errors.New(show.Line(o.Failed))
	}
	return show.Line(o.Text), nil
}

func (r Running) outcome(ctx context.Context, deadline time.Time) (o outcome, err error) {
	defer r.nc.Close()
	defer context.AfterFunc(ctx, func() { r.nc.Close() })()
	r.nc.SetDeadline(deadline)
	err = json.NewDecoder(io.LimitReader(r.nc, maxOutcome)).Decode(&o)
	return o, err
}

// Wait waits for the end of a server that Restart has asked to end, and calls say with what the
// server tells of it. The error says why the server serves on, or that it has said nothing for
// patience and has not ended, or that ctx is done.
func (r Running) Wait(ctx context.Context, patience time.Duration, say func(text string)) error {
	defer r.nc.Close()
	defer context.AfterFunc(ctx, func() { r.nc.Close() })()
	r.nc.SetDeadline(time.Now().Add(patience))
	for all := json.NewDecoder(io.LimitReader(r.nc, maxOutcome)); ; {
		var o outcome
		switch err := all.Decode(&o); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("it has not stopped yet: %w", err)
		case o.Failed != "":
			return errors.New(show.Line(o.Failed))
		}
		if r.nc.SetDeadline(time.Now().Add(patience)); o.Text != "" {
			say(show.Line(o.Text))
		}
	}
}

// Talk finds the server on address, asks a question and puts the first line of the answer into
// greeting. The connection has no deadline. Any process may have given the answer.
func (s Sockets) Talk(address, question string, greeting any) (net.Conn, error) {
	nc, _, err := s.find(address, question, greeting)
	if err != nil {
		return nil, s.notFound(address, err)
	}
	nc.SetDeadline(time.Time{})
	return nc, nil
}

// notFound says what to do if no control socket answers.
func (s Sockets) notFound(address string, err error) error {
	me, owner := os.Geteuid(), -1
	if me != 0 && s.ControlPath != "" {
		if uid, known := unixsock.Owner(s.ControlPath); known {
			owner = uid
		}
	}
	if me != 0 && owner < 0 {
		owner = servingUser(address)
	}
	if me != 0 && owner >= 0 && owner != me {
		return ofAnother(address, owner, me)
	}
	return fmt.Errorf(
		"no running server was found on %s: %w; run this as root or as the user that "+
			"it runs as, with the same REVERB_SERVER_PORT, REVERB_CONTROL_SOCKET and TMPDIR",
		show.Text(address),
		err,
	)
}

// ofAnother says that the server on address is of the user owner, whom the user me may not ask.
func ofAnother(address string, owner, me int) error {
	person := func(uid int) string { return fmt.Sprintf("%s (uid %d)", userName(uid), uid) }
	who := "root"
	if owner != 0 {
		who += " or as the user that it runs as"
	}
	return fmt.Errorf("the server on %s is of user %s, and you are user %s: run this as %s",
		show.Text(address), person(owner), person(me), who)
}

// ask asks the server on address a question that a Status answers. r.nc is open.
func (s Sockets) ask(address, question string) (r Running, err error) {
	nc, uid, err := s.find(address, question, &r.Status)
	if err != nil {
		return Running{}, s.notFound(address, err)
	}
	r.nc, r.Version, r.Listening = nc, show.Line(r.Version), show.Line(r.Listening)
	r.Who = fmt.Sprintf("pid %d", r.PID)
	if uid != os.Geteuid() {
		r.Who += ", user " + userName(uid)
	}
	return r, nil
}

// find asks the server on address a question, and puts the answer into v. Root also asks servers of
// other users; uid is the user of the server. Any process may have given the answer.
func (s Sockets) find(address, question string, v any) (nc net.Conn, uid int, err error) {
	paths, foreign := s.controlPaths(address), []control.Foreign(nil)
	if s.ControlPath == "" && os.Geteuid() == 0 {
		others, of := control.OthersPaths(controlName(address), servingUser(address))
		paths, foreign = append(paths, others...), of
	}
	nc, uid, err = control.Ask(paths, question, v)
	if err != nil {
		why := show.Line(err.Error())
		for _, f := range foreign {
			why += fmt.Sprintf("; %s of user %s was not asked: that user is not known to listen "+
				"on this address", show.Text(f.Path), userName(f.User))
		}
		return nil, 0, errors.New(why)
	}
	return nc, uid, nil
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
