package operator

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"reverb/internal/lib/show"
	"reverb/internal/lib/terminal"
)

// Tool is the client's end: it sends the command of a person to a server, and prints the answer.
type Tool struct {
	// Dial finds the server, asks question and puts the first line of its answer into
	// greeting. The connection has no deadline. The error says what to do.
	Dial     func(question string, greeting any) (net.Conn, error)
	In       io.Reader // where the person answers
	Out, Err io.Writer
	Look     terminal.Look // of Out: on a terminal top draws anew
	Asks     bool          // In is a terminal, so the person can be asked
}

// Asked is the command line of a person. Run checks it. The flags are app, channel, user, address
// and socket, which have a value, and json, all, yes, reconnect and once.
type Asked struct {
	Command string
	Words   []string // what follows it
	Has     func(flag string) bool
	Get     func(flag string) string   // empty: the flag was not given
	All     func(flag string) []string // the values of a flag that was given several times
}

// Commands are the commands that a person types, and Run runs.
func Commands() (all []string) {
	for _, c := range served() {
		if c.name != "watch" {
			all = append(all, c.name)
		}
	}
	return all
}

// Exit codes of Run.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2
)

// Run asks and prints, and returns the exit code: 1 if it has failed or nothing was kicked, 2 if
// the command line is wrong. When ctx ends, Run closes the stream: top and trace end like this.
func (c *Tool) Run(ctx context.Context, a Asked) (code int) {
	req, err := a.request()
	if err != nil {
		fmt.Fprintf(c.Err, "reverb: %s\n", show.Line(err.Error()))
		return exitUsage
	}
	if !c.Look.Terminal && !a.Has("json") {
		req.Once = true // nobody sees the pictures after the first
	}
	p := c.printer(&a)
	end, err := c.ask(ctx, req, p)
	if err == nil && req.Command == "kick" && end.Rows > 1 && end.Kicked == 0 {
		p.finish()
		if !c.sure(end.Rows, &a) {
			return exitFail
		}
		req.Sure = true
		p = silent{}
		end, err = c.ask(ctx, req, p)
	}
	if ctx.Err() != nil && (req.Command == "top" || req.Command == "trace") {
		err = nil
	}
	if bad := p.finish(); err == nil {
		err = bad
	}
	if err != nil {
		fmt.Fprintf(c.Err, "reverb: %s\n", show.Line(err.Error()))
		return exitFail
	}
	return c.conclude(req, end)
}

// conclude tells the outcome of a command whose rows do not tell it.
func (c *Tool) conclude(req request, end end) (code int) {
	here := "here"
	if end.Nodes > 0 {
		here = "on any node"
	}
	switch {
	case req.Command == "kick" && end.Rows == 0:
		fmt.Fprintf(c.Err, "reverb: no connection of %s is %s\n", show.Line(req.Filter.String()),
			here)
		return exitFail
	case req.Command == "kick":
		how := "code 4009; their clients stop for good"
		if req.Reconnect {
			how = "code 4200; their clients reconnect"
		}
		fmt.Fprintf(c.Err, "reverb: kicked %d of %d with %s\n", end.Kicked, end.Rows, how)
		if end.Kicked == 0 {
			return exitFail
		}
	case end.Rows == 0 && (req.Command == "connections" || req.Command == "channels"):
		fmt.Fprintf(c.Err, "reverb: there are no such %s %s\n", req.Command, here)
	case end.Dropped > 0:
		fmt.Fprintf(c.Err, "reverb: %d lines were left out\n", end.Dropped)
	}
	if end.Missing > 0 {
		fmt.Fprintf(c.Err, "reverb: the answer is not whole: see above which nodes it lacks\n")
		return exitFail
	}
	return exitOK
}

// request checks the command line.
func (a *Asked) request() (r request, err error) {
	r = request{Command: a.Command, Reconnect: a.Has("reconnect"), Sure: a.Has("yes"),
		Once: a.Has("once"), All: a.Has("all"),
		Filter: Filter{App: a.Get("app"), Channels: slices.Clone(a.All("channel")),
			User: a.Get("user"), Address: a.Get("address"), Socket: a.Get("socket")}}
	word, f := "", &r.Filter
	if len(a.Words) > 0 {
		word = a.Words[0]
	}
	if len(a.Words) > 1 && a.Command != "trace" {
		return r, fmt.Errorf("%s takes one argument; got %q too", a.Command, a.Words[1])
	}
	switch a.Command {
	case "channels":
		r.Prefix = word
	case "users", "trace":
		f.Channels = append(f.Channels, a.Words...)
		if a.Command == "users" && len(f.Channels) == 0 {
			return r, errors.New("users needs a channel: reverb users presence-chat")
		}
	case "kick":
		f.Socket = cmp.Or(word, f.Socket)
	default:
		if word != "" {
			return r, fmt.Errorf("%s takes no argument; got %q", a.Command, word)
		}
	}
	if (a.Command == "kick" || a.Command == "trace") && f.everybody() {
		what := map[string]string{"kick": "SOCKET, --user, --address or --channel",
			"trace": "CHANNEL, --socket, --user or --address"}
		return r, fmt.Errorf("%s needs to know whom: %s", a.Command, what[a.Command])
	}
	if err := f.parse(); err != nil {
		return r, err
	}
	return r, r.judge()
}

// sure asks the person whether to kick so many connections.
func (c *Tool) sure(n int, a *Asked) bool {
	if !c.Asks {
		fmt.Fprintf(c.Err, "reverb: %d connections match; give --yes to kick them all\n", n)
		return false
	}
	fmt.Fprintf(c.Err, "Kick these %d connections? [y/N] ", n)
	text, _ := bufio.NewReader(c.In).ReadString('\n') // an end without an answer is a no
	if text = strings.ToLower(strings.TrimSpace(text)); text == "y" || text == "yes" {
		return true
	}
	fmt.Fprintln(c.Err, "reverb: nobody was kicked")
	return false
}

// ask sends one request to the server, and gives the rows of the answer to p.
func (c *Tool) ask(ctx context.Context, req request, p printer) (end end, err error) {
	var g greeting
	nc, err := c.Dial(Question, &g)
	if err != nil {
		return end, err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if err := g.judge(req.Command); err != nil {
		return end, err
	}
	b, err := json.Marshal(req)
	if err != nil || len(b) >= maxRequestBytes {
		return end, errors.New("what was asked is too long")
	}
	if _, err := nc.Write(append(b, '\n')); err != nil {
		return end, fmt.Errorf("the server is gone: %w", err)
	}
	r := bufio.NewReaderSize(nc, maxLineBytes+1)
	for {
		l, err := readLine(r)
		if err != nil {
			return end, err
		}
		switch {
		case l.Error != "":
			return end, errors.New(l.Error)
		case l.End != nil:
			return *l.End, nil
		case l.Note != "":
			fmt.Fprintf(c.Err, "reverb: %s\n", show.Line(l.Note))
		case l.Row != nil:
			if err := p.print(l.Row); err != nil {
				return end, err
			}
		}
	}
}

// judge says whether the server can be asked for a command.
func (g *greeting) judge(command string) error {
	version := show.Line(g.Version)
	switch {
	case g.Protocol < protocolVersion,
		!slices.Contains(g.Commands, command) && g.Protocol == protocolVersion:
		return fmt.Errorf("this server is older (version %s): it does not know %s; restart it "+
			"with this program", version, command)
	case g.Protocol > protocolVersion:
		return fmt.Errorf("this program is older than the server (version %s), and does not "+
			"know how to ask it; use the server's program", version)
	}
	return nil
}

// incoming is a line of a server. It has one of these fields.
type incoming struct {
	Row   json.RawMessage `json:"row"`
	Note  string          `json:"note"`
	End   *end            `json:"end"`
	Error string          `json:"error"`
}

// readLine reads a line of a server. Its row is valid until the next call.
func readLine(r *bufio.Reader) (l incoming, err error) {
	text, err := r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return l, errors.New("the server has sent a line that is too long")
	case err != nil:
		return l, fmt.Errorf("the server has closed the stream before its end: %w", err)
	case json.Unmarshal(text, &l) != nil:
		return l, errors.New("the server has sent a line that is not the JSON that is expected")
	}
	return l, nil
}
