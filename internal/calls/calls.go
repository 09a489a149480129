// Package calls has the commands that use a server as its clients do: health, trigger and listen,
// and env, which prints what a client has to know. Each takes its server and its app from the
// configuration.
//
// A Caller is one command with its configuration. The package finds the address of the server, has
// package client speak to it and package operator watch presence channels, and prints what comes of
// it. It makes text of a server fit for a terminal. It knows no frame of a WebSocket, reads no
// environment and ends no process: Run returns the exit code.
package calls

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"reverb/internal/client"
	"reverb/internal/commands"
	"reverb/internal/config"
	"reverb/internal/lib/findings"
	"reverb/internal/lib/show"
	"reverb/internal/operator"
)

// The exit codes.
const (
	exitOK    = 0
	exitFail  = 1 // an error while running
	exitUsage = 2 // the command line or the configuration is wrong
)

// Frames makes the client's end of a WebSocket, see client.Server.
type Frames = func(nc net.Conn, r *bufio.Reader) client.Conn

// Caller is one command, and what it needs. All fields are constant.
type Caller struct {
	Config   *config.Config
	Line     *commands.Line
	In       io.Reader // the data of trigger, if the command line says so
	Out, Err io.Writer
	Frames   Frames
	Tool     *operator.Tool         // watches presence channels
	CacheDir func() (string, error) // where start --dev keeps its app, see os.UserCacheDir
}

// Commands are the commands that Run knows.
func Commands() []string { return []string{"env", "health", "trigger", "listen"} }

// Run runs the command of the line, and returns the exit code.
func (c *Caller) Run(ctx context.Context) int {
	switch c.Line.Command {
	case "env":
		return c.env()
	case "health":
		return c.health(ctx)
	case "trigger":
		return c.trigger(ctx)
	}
	return c.listen(ctx)
}

// serverOf has what a client needs for any server of this configuration, without its address.
func serverOf(c *config.Config, frames Frames) client.Server {
	s := client.Server{Dial: new(net.Dialer).DialContext, Path: c.Listen.Path, Frames: frames}
	if len(c.Apps) > 0 {
		a := c.Apps[0]
		s.App = client.App{ID: a.ID, Key: a.Key, Secret: a.Secret, Origin: a.AnyOrigin()}
	}
	return s
}

// CheckPublic checks the address at which browsers and Laravel look for the server of this
// configuration, which is running or not. add takes a verdict and a line.
func CheckPublic(ctx context.Context, c *config.Config, frames Frames, running bool,
	add func(verdict, format string, args ...any)) {
	if c.Public.Host == "" {
		add(findings.Note, "public address: not set; "+
			"set REVERB_HOST, REVERB_PORT and REVERB_SCHEME for Laravel and the browser")
		return
	}
	public(c, frames, running).Check(ctx, time.Now, add)
}

func public(c *config.Config, frames Frames, running bool) *client.Public {
	port := cmp.Or(c.Public.Port, 443)
	s := serverOf(c, frames)
	s.Network, s.Address = "tcp", net.JoinHostPort(c.Public.Host, strconv.Itoa(port))
	s.TLS, s.Name = c.Public.Scheme != "http", c.Public.Host
	return &client.Public{Server: s, Port: port, OwnPort: c.Listen.Port,
		OwnTLS: c.TLS.CertFile != "", Both: c.Listen.Plain != "",
		Window: c.Limits.AuthWindow, Running: running}
}

// joinDev takes the app of start --dev if the command line has --dev, and prints what is wrong with
// the configuration. ok is false if the configuration cannot be used.
func (c *Caller) joinDev() (ok bool) {
	if c.Config.Dev {
		if err := c.Config.JoinDev(c.CacheDir); err != nil {
			fmt.Fprintln(c.Err, "reverb:", err)
			return false
		}
	}
	c.Config.Report(c.Err)
	return len(c.Config.Problems) == 0
}

// findServer says where the server of this configuration can be reached from the machine that it
// runs on; nil: the configuration cannot be used, which is printed.
func (c *Caller) findServer(needsApp bool) *client.Server {
	if !c.joinDev() {
		return nil
	}
	if needsApp && len(c.Config.Apps) == 0 {
		fmt.Fprintln(c.Err, "reverb: there is no app; set REVERB_APP_ID, REVERB_APP_KEY and "+
			"REVERB_APP_SECRET as the server has them, or use --dev beside reverb start --dev")
		return nil
	}
	s := serverOf(c.Config, c.Frames)
	address := c.Config.Listen.Plain
	if address == "" {
		address, s.TLS = c.Config.Address(), c.Config.TLS.CertFile != ""
	}
	s.Network, s.Address = client.Local(address)
	self := "127.0.0.1:0"
	if s.Network == "unix" {
		self = ""
	}
	trusted := &c.Config.Listen.Trusted
	s.Proxied = c.Config.Listen.ProxyProtocol && (trusted.Nobody() || trusted.Contains(self))
	return &s
}

// failed prints why the command has failed.
func (c *Caller) failed(what string, err error) int {
	fmt.Fprintf(c.Err, "reverb: %s%s%s\n", what, show.Line(err.Error()), client.Hint(err))
	return exitFail
}

// env prints the lines for .env.
func (c *Caller) env() int {
	if !c.joinDev() {
		return exitUsage
	}
	note, err := commands.Env(c.Out, c.Config, c.Line)
	if err != nil {
		note = err.Error()
	}
	if note != "" {
		fmt.Fprintln(c.Err, "reverb:", note)
	}
	if err != nil {
		return exitFail
	}
	return exitOK
}

// health asks whether the server is well.
func (c *Caller) health(ctx context.Context) int {
	s := c.findServer(false)
	if s == nil {
		return exitUsage
	}
	answer, err := s.Health(ctx)
	if err != nil {
		return c.failed("not well: ", err)
	}
	fmt.Fprintln(c.Out, show.Line(answer))
	return exitOK
}

// trigger publishes one event.
func (c *Caller) trigger(ctx context.Context) int {
	line := c.Line
	data, err := commands.Data(line.Words[2], c.In)
	if err != nil {
		fmt.Fprintln(c.Err, "reverb:", err)
		return exitUsage
	}
	s := c.findServer(true)
	if s == nil {
		return exitUsage
	}
	p := &client.Publication{Channels: append(line.Words[:1:1], line.All("channel")...),
		Event: line.Words[1], Data: data, Except: line.Get("except")}
	if err := s.Trigger(ctx, p, time.Now()); err != nil {
		return c.failed("", err)
	}
	fmt.Fprintf(c.Out, "sent %s to %s\n",
		show.Line(p.Event), show.Line(strings.Join(p.Channels, ", ")))
	return exitOK
}

// listen prints every event of some channels until it is interrupted. It subscribes to them, or, of
// presence channels, watches them without joining.
func (c *Caller) listen(ctx context.Context) int {
	line, s := c.Line, c.findServer(true)
	if s == nil {
		return exitUsage
	}
	p := line.Printer(c.Out, c.Err, c.Config.Getenv, time.Now)
	if s.App.User = line.Get("user"); line.Has("user") && s.App.User == "" {
		fmt.Fprintln(c.Err, "reverb: --user is empty; give the ID of a user")
		return exitUsage
	}
	watched, joined := line.Channels()
	subscribe := func() error { return s.Subscribe(ctx, joined, p.Heard) }
	if line.Has("resume") {
		if len(watched) > 0 {
			fmt.Fprintf(c.Err, "reverb: --resume is for channels that it subscribes to; with "+
				"--join it joins %s, as a member that others see\n", show.Line(watched[0]))
			return exitUsage
		}
		subscribe = func() error { return s.Resume(ctx, joined, p) }
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	for _, channel := range watched {
		go func() { ended <- c.watch(ctx, s.App.ID, channel, p.Heard) }()
	}
	running := len(watched)
	if len(joined) > 0 || s.App.User != "" {
		running++
		go func() { ended <- subscribe() }()
	}
	err, stopped := <-ended, ctx.Err() != nil
	cancel()
	for range running - 1 {
		<-ended
	}
	if stopped {
		return exitOK
	}
	return c.failed("", err)
}

// watch watches a presence channel without joining it.
func (c *Caller) watch(ctx context.Context, app, channel string,
	heard func(client.Event) error) error {
	begun := false
	err := c.Tool.Watch(ctx, app, channel, client.Subscribed, func(h operator.Heard) error {
		begun = true
		return heard(client.Event{Channel: channel, Name: h.Name, Data: h.Data,
			UserID: h.User})
	})
	if err != nil && !begun {
		err = fmt.Errorf("%s cannot be watched without joining it: %w; reverb listen --join joins "+
			"it, as a member that others see", channel, err)
	}
	return err
}
