// Package listen opens the addresses that a server listens on, and finds the server that
// runs on an address of this machine.
//
// An address is host:port or unix:/path. Sockets opens it. If that fails, the error says why, names
// the process that holds the address, and says what to do. A running server is found by its control
// socket: a Unix socket whose name both sides derive from the address (package control says which
// process may ask which). Control opens that socket and Serve answers on it; Find and Restart ask.
//
// The package owns the names of control sockets and the questions that are asked there. It accepts
// no connection of a client, and it ends no process: Restart asks, and the server decides. It reads
// the environment through Sockets.Getenv alone. It makes the answers of other processes safe to
// print.
//
// Files:
//
//	listen.go   opens addresses, and says why one cannot be opened
//	running.go  the control socket; finds and asks running servers
package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"reverb/internal/lib/accept"
	"reverb/internal/lib/portowner"
	"reverb/internal/lib/show"
	"reverb/internal/lib/systemd"
	"reverb/internal/lib/unixsock"
)

// Sockets says how the sockets of a server are opened and found. All fields are constant.
type Sockets struct {
	Getenv      func(name string) string // a variable of the environment
	Mode        os.FileMode              // permissions of Unix sockets
	Owner       string                   // of Unix sockets, user:group; either may be missing
	ControlPath string                   // of the control socket; empty: a usual place
	// Inherited are the listeners of another process, by role, see Roles; nil: there are none.
	Inherited map[string]net.Listener
}

// The roles of listeners.
const (
	RoleMain    = "main"
	RolePlain   = "plain"
	RoleAdmin   = "admin"
	RoleControl = "control"
)

// OpenAll opens the main address, the address without TLS beside it, and the address of admin. If
// one of the last two is empty, its listener is nil. A socket that systemd has opened takes the
// place of an address, by its name. The error names the variables that say where to listen. It may
// be called once, since systemd passes its sockets once. After an error nothing stays open.
func (s Sockets) OpenAll(forMain, forPlain, forAdmin string) (
	ln, plain, admin net.Listener, err error,
) {
	passed, names, err := systemd.Listeners(s.Getenv, os.Getpid())
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		for _, l := range passed {
			if err != nil {
				l.Close()
			}
		}
	}()
	if ln, plain, admin, err = byName(passed, names); err != nil {
		return nil, nil, nil, err
	}
	if s.Inherited != nil {
		of := s.Inherited
		ln, plain, admin = of[RoleMain], of[RolePlain], of[RoleAdmin]
	}
	for _, o := range []struct {
		to                 *net.Listener
		address, variables string
	}{
		{&ln, forMain, "REVERB_SERVER_HOST and REVERB_SERVER_PORT say where to listen"},
		{&plain, forPlain, "REVERB_PLAIN_LISTEN says where"},
		{&admin, forAdmin, "REVERB_ADMIN_LISTEN says where"},
	} {
		if *o.to != nil || o.address == "" {
			continue
		}
		opened, err := s.Open(o.address)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%w; %s", err, o.variables)
		}
		*o.to = opened
		passed = append(passed, opened)
	}
	return ln, plain, admin, nil
}

// byName finds the role of each socket that systemd has passed. The names plain and admin say their
// role; a socket with any other name is the main one.
func byName(passed []net.Listener, names []string) (ln, plain, admin net.Listener, err error) {
	for i, l := range passed {
		switch {
		case names[i] == "admin":
			admin = l
		case names[i] == "plain":
			plain = l
		case ln == nil:
			ln = l
		default:
			return nil, nil, nil, errors.New("systemd passes more than one socket; " +
				"name the others FileDescriptorName=plain or admin")
		}
	}
	return ln, plain, admin, nil
}

// Open opens one address. The error says what to do. An IPv4 address, also 0.0.0.0, is opened for
// IPv4 only.
func (s Sockets) Open(address string) (net.Listener, error) {
	ln, err := s.open(address)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, s.hint(err, address))
	}
	return ln, nil
}

// OpenNear opens an address, or, where it is in use, any free port of its host.
func (s Sockets) OpenNear(address string) (net.Listener, error) {
	ln, err := s.open(address)
	if errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(address)
		return s.Open(net.JoinHostPort(host, "0"))
	}
	return ln, err
}

func (s Sockets) open(address string) (net.Listener, error) {
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		uid, gid, err := unixsock.LookupOwner(s.Owner)
		if err != nil {
			return nil, fmt.Errorf("REVERB_SERVER_SOCKET_OWNER=%q: %w", show.Text(s.Owner), err)
		}
		return unixsock.Listen(path, s.Mode, uid, gid)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("listen %s: the port is not a number", address)
	}
	network := "tcp"
	if ip := net.ParseIP(host); ip != nil && ip.To4() != nil {
		network = "tcp4" // or 0.0.0.0 would mean IPv6 too
	}
	return net.Listen(network, net.JoinHostPort(host, strconv.Itoa(n)))
}

// hint says more about why an address cannot be opened, and what to do. It is empty, or a part of a
// sentence that begins with a colon.
func (s Sockets) hint(err error, address string) string {
	path, unix := strings.CutPrefix(address, "unix:")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return s.holder(address)
	case unix && errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf(": there is no folder %s; create it", filepath.Dir(path))
	case unix && errors.Is(err, syscall.EINVAL):
		return ": the path is too long for a socket; take one of less than 100 bytes"
	case unix && errors.Is(err, syscall.EPERM):
		return ": only root may give a socket to another user, or to a group that this user is " +
			"not in; change REVERB_SERVER_SOCKET_OWNER"
	case unix && errors.Is(err, syscall.EACCES):
		return fmt.Sprintf(": this user (uid %d) may not write to %s; change the folder's owner, "+
			"or take another", os.Getuid(), filepath.Dir(path))
	case errors.Is(err, syscall.EACCES):
		return ": ports below 1024 are the administrator's; take one above and put a proxy in " +
			"front, or let systemd open it (deploy/reverb.socket)"
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, new(*net.DNSError)):
		return ": no address of this machine; listen on 0.0.0.0 for all of them (the public name " +
			"belongs in REVERB_HOST)"
	}
	return ""
}

// holder says which process listens on an address that is in use.
func (s Sockets) holder(address string) string {
	if r, ok := s.Find(address); ok && port(r.Listening) == port(address) {
		return fmt.Sprintf(": reverb is running there already (%s, %s); "+
			"reverb restart asks it to stop", r.Who, show.Count(r.Connections, "connection"))
	}
	p, ok := portowner.Find(port(address))
	switch {
	case !ok:
		return ": another process holds it; stop it, or choose another port"
	case !artisan(p, "reverb:start"):
		return fmt.Sprintf(": %s (pid %d) holds it; stop it, or choose another port",
			show.Text(p.Name), p.PID)
	case startedByDev(p):
		return fmt.Sprintf(": php artisan reverb:start (pid %d) of php artisan dev holds it; "+
			"DevCommands::register('reverb start', 'reverb'); in AppServiceProvider::boot makes "+
			"artisan dev start this program instead", p.PID)
	}
	return fmt.Sprintf(": php artisan reverb:start (pid %d) holds it; stop it, and let this "+
		"program take its place in Supervisor or whatever else starts it", p.PID)
}

// artisan says whether a process runs a command of Laravel's artisan.
func artisan(p portowner.Process, command string) bool {
	at := slices.IndexFunc(p.Args, func(arg string) bool { return filepath.Base(arg) == "artisan" })
	return at >= 0 && slices.Contains(p.Args[at:], command)
}

// maxParents bounds the search for php artisan dev among the parents of a process. Larger: the
// search takes longer. Smaller: artisan dev is not seen behind shells and npm.
const maxParents = 16

// startedByDev says whether php artisan dev of Laravel 13 has started a process. The package
// laravel/reverb, from 1.11 on, makes it start reverb:start.
func startedByDev(p portowner.Process) bool {
	for range maxParents {
		parent, ok := p.Parent()
		if !ok {
			return false
		}
		if p = parent; artisan(p, "dev") {
			return true
		}
	}
	return false
}

// port is the port of an address; 0 for a path, since no process listens on port 0.
func port(address string) int {
	_, p, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(p)
	return n
}

// StrayHints are texts for the log about connections that an address does not serve. secure: the
// address has TLS; beside: another address has TLS; proxies: trusted proxies send PROXY headers.
func StrayHints(secure, beside, proxies bool) (h accept.Hints) {
	h.Proxy = "a PROXY header came: set REVERB_PROXY_PROTOCOL=true, or let the proxy send none"
	if proxies {
		h.Proxy = "a PROXY header came from an address that is not a trusted proxy: " +
			"name the proxy in REVERB_TRUSTED_PROXIES"
	}
	switch {
	case secure:
		h.HTTP = "HTTP without TLS came to an address with TLS (REVERB_TLS_CERT): " +
			"set REVERB_SCHEME=https where the clients are configured, " +
			"or give those without TLS an address with REVERB_PLAIN_LISTEN"
	case beside:
		h.TLS = "a TLS handshake came to the address of REVERB_PLAIN_LISTEN, which has no TLS: " +
			"let https and wss clients use REVERB_SERVER_PORT"
	default:
		h.TLS = "a TLS handshake came to an address without TLS: " +
			"set REVERB_SCHEME=http where the clients are configured, " +
			"or give this server a certificate with REVERB_TLS_CERT"
	}
	return h
}
