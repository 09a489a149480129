package operator

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"reverb/internal/lib/streams"
)

const (
	// maxPartRows and partTime bound the part of one node in an answer about all nodes, except for
	// commands that last. Larger: one node can keep the asker, and Redis, busy for longer.
	// Smaller: the list of a large node is cut.
	maxPartRows = 100_000
	partTime    = 20 * time.Second
	// nodesPatience is how long Redis may take to list the nodes. Larger: the answer of this node
	// comes later while Redis is away. Smaller: a slow Redis counts as away.
	nodesPatience = 2 * time.Second
	// maxUsers bounds the members of a channel that all nodes together may name. Larger: a wrong
	// node costs this one more memory. Smaller: the list of a very large channel is cut.
	maxUsers = 200_000
	// maxNameBytes is the length at which the name of a node is cut. Larger: rows are longer than
	// a line of a terminal. Smaller: names of pods are cut.
	maxNameBytes = 100
)

var errCut = fmt.Errorf("it has more than %d rows; the others are left out", maxPartRows)

// Nodes are the other nodes of a cluster, and the way to them.
type Nodes interface {
	streams.Bus
	// Others lists the IDs of the other nodes.
	Others(ctx context.Context) (ids []string, err error)
}

// question is what one node asks another, for a person: one line of JSON. The answer is a stream of
// lines, as over the control socket.
type question struct {
	UID     int     `json:"uid"`  // of the person
	Node    string  `json:"node"` // that the person has asked
	Request request `json:"request"`
}

// readQuestion reads the question of another node, which is as little trusted as a request.
func readQuestion(text string) (q question, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil || d.More() {
		return q, errors.New("it does not understand the question; its version is another")
	}
	if q.Request.All || q.Request.Command == "watch" {
		return q, errors.New("a node answers for itself alone")
	}
	q.Node = bounded(q.Node, maxNameBytes)
	return q, q.Request.Filter.parse()
}

// Told takes what another node has said. The cluster calls it; it does not wait.
func (s *Server) Told(from, text string) { s.remote.Told(from, text) }

// answerNode answers the question of another node.
func (s *Server) answerNode(ctx context.Context, _, text string, w io.Writer) error {
	q, err := readQuestion(text)
	if err != nil {
		return err
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	return s.answerPart(ctx, q, w)
}

// answerPart answers with the part of this node in an answer about all nodes.
func (s *Server) answerPart(ctx context.Context, q question, w io.Writer) error {
	t := &talk{Server: s, asker: q.UID, node: q.Node, part: true, req: q.Request}
	t.out = bufio.NewWriterSize(w, 32<<10)
	if !t.req.lasts() {
		limited, cancel := context.WithTimeout(ctx, partTime)
		defer cancel()
		ctx = limited
	}
	err := t.perform(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it has not come to the end within %v", partTime)
	}
	if err != nil {
		t.say(line{Error: bounded(err.Error(), maxTextBytes)})
	}
	return t.out.Flush()
}

// lasts says that a command goes on until the person ends it.
func (r *request) lasts() bool {
	return r.Command == "trace" || r.Command == "watch" || r.Command == "top" && !r.Once
}

// --- Asking all nodes ---

// all answers for all nodes of the cluster.
func (t *talk) all() error {
	switch t.req.Command {
	case "kick":
		return t.kickAll()
	case "users":
		return t.usersAll()
	case "trace":
		t.writePatience = traceTime // a reader that stalls loses lines
	}
	return t.gather(t.req, t.pass)
}

// pass gives the client a row of a node, with the node's name.
func (t *talk) pass(node string, row json.RawMessage) error {
	name, _ := json.Marshal(node) // cannot fail
	b := append([]byte(`{"node":`), name...)
	if rest := row[1:]; rest[0] != '}' {
		b = append(b, ',')
	}
	return t.row(json.RawMessage(append(b, row[1:]...)))
}

// kickAll lists the connections of all nodes before it ends any of them, unless the client is sure.
func (t *talk) kickAll() error {
	if t.req.Sure {
		return t.gather(t.req, t.pass)
	}
	req := t.req
	req.Look = true
	if err := t.gather(req, t.pass); err != nil || t.end.Rows != 1 {
		return err
	}
	req.Look, req.Sure = false, true
	return t.gather(req, func(string, json.RawMessage) error { return nil }) // it was listed
}

// usersAll lists the members of a channel. Each node that has one of them knows all.
func (t *talk) usersAll() error {
	known := map[[2]string]bool{}
	err := t.gather(t.req, func(_ string, row json.RawMessage) error {
		var m Member
		if json.Unmarshal(row, &m) != nil || known[[2]string{m.App, m.User}] {
			return nil
		}
		if len(known) == maxUsers {
			return fmt.Errorf("there are more than %d members; the others are left out", maxUsers)
		}
		known[[2]string{m.App, m.User}] = true
		return t.row(&m)
	})
	if err == nil && len(known) == 0 && t.end.Missing == 0 {
		err = fmt.Errorf("nobody is subscribed to %s on any node", t.req.Filter.Channels[0])
	}
	return err
}

// part is the part of one node in an answer.
type part struct {
	name  func() string
	lines io.Reader
	close func()
}

// told is a line of a part, or how the part has ended.
type told struct {
	of   *part
	line incoming
	err  error
	over bool
}

// gather asks all nodes, and gives row the rows as they come. It tells the client of every node
// that has not answered. The error is row's, or that of a client that has gone.
func (t *talk) gather(req request, row func(node string, row json.RawMessage) error) error {
	ctx, cancel := context.WithCancel(t.ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	parts, missing, err := t.ask(ctx, req, &working)
	if err != nil {
		return err
	}
	all := make(chan told)
	for _, p := range parts {
		context.AfterFunc(ctx, p.close)
		working.Go(func() { p.read(ctx, all) })
	}
	t.end.Nodes = len(parts)
	for left := len(parts); left > 0; {
		var got told
		select {
		case got = <-all:
		default: // nothing waits, so the client gets what there is
			if err := t.out.Flush(); err != nil {
				return err
			}
			select {
			case got = <-all:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if got.over {
			left--
		}
		if got.err != nil {
			missing++
		}
		if err := t.take(&got, row); err != nil {
			return err
		}
	}
	t.end.Missing = max(t.end.Missing, missing)
	return nil
}

// take gives the client what a node has told.
func (t *talk) take(got *told, row func(string, json.RawMessage) error) error {
	name := bounded(got.of.name(), maxNameBytes)
	switch l := &got.line; {
	case got.err != nil:
		return t.say(line{Note: "node " + name + ": " + bounded(got.err.Error(), maxTextBytes)})
	case l.End != nil:
		t.end.Kicked += l.End.Kicked
		t.end.Dropped += l.End.Dropped
	case l.Note != "":
		return t.say(line{Note: "node " + name + ": " + bounded(l.Note, maxTextBytes)})
	case len(l.Row) > 1 && l.Row[0] == '{':
		return row(name, l.Row)
	}
	return nil
}

// read reads the lines of a part until its end.
func (p *part) read(ctx context.Context, to chan<- told) {
	defer p.close()
	r := bufio.NewReaderSize(p.lines, maxLineBytes+1)
	for {
		l, err := readLine(r)
		switch why := errors.Unwrap(err); {
		case err == nil && l.Error != "":
			err = errors.New(l.Error)
		case why == io.EOF:
			err = errors.New("its answer has no end")
		case why != nil:
			err = why
		}
		got := told{p, l, err, err != nil || l.End != nil}
		select {
		case to <- got:
		case <-ctx.Done():
			return
		}
		if got.over {
			return
		}
	}
}

// ask asks this node and all others. missing is 1 if the others are not known.
func (t *talk) ask(ctx context.Context, req request, working *sync.WaitGroup) (all []*part,
	missing int, err error) {
	req.All = false
	here, there := io.Pipe()
	all = append(all, &part{func() string { return t.Name }, here, func() { here.Close() }})
	working.Go(func() {
		t.answerPart(ctx, question{UID: t.asker, Request: req}, there) // it tells errors itself
		there.Close()
	})
	text, err := json.Marshal(question{t.asker, t.Name, req})
	if err != nil {
		panic("internal error: " + err.Error())
	}
	limited, cancel := context.WithTimeout(ctx, nodesPatience)
	defer cancel()
	ids, err := t.Nodes.Others(limited)
	if err != nil {
		return all, 1, t.say(line{Note: "the other nodes cannot be asked: " +
			bounded(err.Error(), maxTextBytes)})
	}
	for _, id := range ids {
		stream := t.remote.Ask(id, string(text))
		all = append(all, &part{func() string { return t.nameOf(id, stream.Name()) }, stream,
			stream.Close})
	}
	return all, 0, nil
}

// maxNames bounds the names that are kept; with more, all are forgotten. Larger: more memory.
// Smaller: the names of nodes that do not answer are forgotten sooner.
const maxNames = 1000

// names has the names that nodes have told, by ID.
type names struct {
	mu sync.Mutex
	of map[string]string
}

// nameOf is the name of the node id: the one that it tells now, one that it has told before, or id.
func (s *Server) nameOf(id, now string) string {
	n := &s.names
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil || len(n.of) >= maxNames {
		n.of = map[string]string{}
	}
	if now != "" {
		n.of[id] = now
	}
	return cmp.Or(n.of[id], id)
}
