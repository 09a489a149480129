// Package conversation plays conversations between clients, an application and a Pusher server,
// which stand in text files. It is for tests only.
//
// A file holds scenes. A scene is a title and lines; each line is one step, or one message
// that a client got. Nothing happens between two lines: after each step the player waits until
// the server has nothing to do. Time passes only where a line waits, so a test runs in a bubble
// of testing/synctest.
//
//	== TITLE           a new scene, with a server of its own
//	with TEXT          a setting of the server; these lines stand before all others
//	# TEXT             a comment
//	for $v in A | B    the lines up to "end" once for each value, which stands for $v in them;
//	for $v in 1..20    the same for numbers
//	a connects         a is a client of the first app, welcomed; $a is its socket ID
//	a dials PATH       a asks for a WebSocket, and gets the welcome or a refusal as its first
//	                   message; header lines without spaces may stand behind the path, @ADDRESS
//	                   says where the connection comes from, and what stands behind ">" is a
//	                   message that is sent together with the request
//	a > TEXT           a sends a message
//	a sends KIND "…"   a sends a frame of the kind text, binary, rest (of a message), close,
//	                   ping or pong; a + behind the kind says that the message goes on, a number
//	                   behind the text how often; several frames of a line are sent together
//	a subscribes CHANNEL DATA   with the signature of a's app; DATA may be left out
//	a signs USER_DATA  a signs in, with the signature of a's app
//	a stops reading    a's socket takes nothing more
//	a reads again      it does
//	a closes           a's socket is closed
//	a < TEXT           what a has got since it was last looked at: one line for each message,
//	                   all of them, each to the byte, and "deflated" before those that came
//	                   compressed; "a <" stands for nothing. $?x in a line stands for a word of
//	                   letters, digits, - and _, which $x stands for in later steps
//	GET PATH           a signed request of the application, and
//	POST PATH BODY
//	key K POST …       the same with K as its Idempotency-Key
//	= ANSWER           its answer, status and body; the body has "|" for a newline and no last
//	                   newline, and "..." at the end of the line stands for any rest
//	has LINE           the last answer's body has this line
//	header NAME VALUE  the last answer has this header
//	later x LINE       a request whose answer may come later or bit by bit, and
//	x = ANSWER         its answer so far; nothing behind the = stands for none
//	asks PATH SIGNED-PATH QUERY SIGNED-QUERY   a GET as it stands, signed over the other two;
//	                   AUTH in a query is what every signed query has
//	raw "…"            bytes of a connection; the answer is all answers, with "|" between them
//	admin LINE         GET, POST or raw, without a signature, to the address of the operator
//	wait 61s           time passes
//
// {{x*200}} is x 200 times, \xff the byte, $sign(SECRET|TEXT) a signature. All other verbs are
// those of the test, see Server. At the end no client may have messages that no line names.
//
// Files: conversation.go has scenes and their steps, client.go the client's WebSocket, requests.go
// requests over HTTP, pipes.go connections in memory.
package conversation

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Scene is one scene of a file.
type Scene struct {
	File, Title string
	Settings    []string // what stands behind "with", in order
	lines       []line
}

type line struct {
	number int // in the file
	text   string
}

// Read reads the scenes of all files that match the pattern, in the order of their names. A
// pattern without a file is an error: a test of no scene asserts nothing.
func Read(pattern string) (all []*Scene, err error) {
	files, err := filepath.Glob(pattern)
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no file matches %s", pattern)
	}
	for _, file := range files {
		b, bad := os.ReadFile(file)
		if bad != nil {
			return nil, bad
		}
		scenes, bad := parse(file, string(b))
		if bad != nil {
			return nil, fmt.Errorf("%s:%w", file, bad)
		}
		all = append(all, scenes...)
	}
	return all, err
}

// Each plays the scenes of all texts in a folder, each as a test of its own.
func Each(t *testing.T, folder string, play func(t *testing.T, s *Scene)) {
	t.Helper()
	scenes, err := Read(filepath.Join(folder, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenes {
		t.Run(s.Title, func(t *testing.T) { play(t, s) })
	}
}

func parse(file, text string) (all []*Scene, err error) {
	var lines []line
	for i, s := range strings.Split(text, "\n") {
		if s = strings.TrimLeft(s, " "); s != "" && !strings.HasPrefix(s, "#") {
			lines = append(lines, line{i + 1, s})
		}
	}
	if lines, err = repeat(lines); err != nil {
		return nil, err
	}
	for _, l := range lines {
		title, isTitle := strings.CutPrefix(l.text, "== ")
		if !isTitle && len(all) == 0 {
			return nil, fmt.Errorf("%d: %s stands before the first title", l.number, l.text)
		}
		if isTitle {
			all = append(all, &Scene{File: file, Title: title})
			continue
		}
		s := all[len(all)-1]
		if setting, ok := strings.CutPrefix(l.text, "with "); ok && len(s.lines) == 0 {
			s.Settings = append(s.Settings, setting)
		} else {
			s.lines = append(s.lines, l)
		}
	}
	return all, nil
}

var (
	loop       = regexp.MustCompile(`^for \$(\w+) in (.*)$`)
	numbers    = regexp.MustCompile(`^(\d+)\.\.(\d+)$`)
	word       = regexp.MustCompile(`\$\w+`)
	repetition = regexp.MustCompile(`\{\{(.+?)\*(\d+)\}\}`)
	unknown    = regexp.MustCompile(`\$\?(\w+)`)
	signature  = regexp.MustCompile(`\$sign\((.*?)\|(.*?)\)`)
)

// repeat writes out the loops.
func repeat(lines []line) (all []line, err error) {
	for len(lines) > 0 {
		head := loop.FindStringSubmatch(lines[0].text)
		if head == nil {
			all, lines = append(all, lines[0]), lines[1:]
			continue
		}
		end, depth := 0, 0
		for i, l := range lines {
			if strings.HasPrefix(l.text, "for ") {
				depth++
			} else if l.text == "end" {
				depth--
			}
			if end = i; depth == 0 {
				break
			}
		}
		if depth > 0 {
			return nil, fmt.Errorf("%d: the loop has no end", lines[0].number)
		}
		body, err := repeat(lines[1:end])
		if err != nil {
			return nil, err
		}
		for _, value := range values(head[2]) {
			for _, l := range body {
				all = append(all, line{l.number, replace(l.text, head[1], value)})
			}
		}
		lines = lines[end+1:]
	}
	return all, nil
}

func values(list string) (all []string) {
	m := numbers.FindStringSubmatch(list)
	if m == nil {
		return strings.Split(list, " | ")
	}
	from, _ := strconv.Atoi(m[1])
	to, _ := strconv.Atoi(m[2])
	for i := from; i <= to; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// replace puts value where $name stands.
func replace(text, name, value string) string {
	return word.ReplaceAllStringFunc(text, func(s string) string {
		if s[1:] == name {
			return value
		}
		return s
	})
}

// App is an application, with what both sides know.
type App struct{ ID, Key, Secret string }

// Verbs are the words that begin the lines of a test. A verb gets the rest of the line. It returns
// what there is, and what the line wants; a verb that compares nothing returns two empty texts.
// "..." at the end of want stands for any rest.
type Verbs map[string]func(rest string) (got, want string)

// Server is the server of one scene, which the test has made, with its clients.
type Server struct {
	// Apps are its applications. Clients belong to the first unless they dial another's key.
	Apps []App
	// Connect gives the server one more connection and returns the client's end. from is the
	// address that it comes from, empty where the scene says nothing. operator says that it is
	// for the address of the operator.
	Connect func(from string, operator bool) net.Conn
	// Settle returns when the server has nothing more to do, as synctest.Wait does; nil: the verbs
	// wait by themselves.
	Settle func()
	// Verbs are the verbs of the test, by the first word of a line.
	Verbs Verbs

	open []io.Closer
}

// Close closes every open connection to the server.
func (s *Server) Close() {
	for _, c := range s.open {
		c.Close()
	}
}

// Play plays a scene against its server, and fails t where the server differs from the scene.
func (s *Scene) Play(t testing.TB, server *Server) {
	t.Helper()
	p := &player{Server: server, lines: s.lines, clients: map[string]*Client{},
		requests: map[string]*request{}, words: map[string]string{}}
	for len(p.lines) > 0 && !t.Failed() {
		number := p.lines[0].number
		got, want, err := p.step()
		if err != nil {
			t.Errorf("%s:%d: %v", s.File, number, err)
		} else if got != want {
			t.Errorf("%s:%d: got\n%s\nwant\n%s", s.File, number, brief(got), brief(want))
		}
	}
	for name, c := range p.clients {
		if got := strings.TrimPrefix(c.Take(), "eof"); got != "" && !t.Failed() {
			t.Errorf("%s: %s: at the end %s has got\n%s", s.File, s.Title, name, brief(got))
		}
	}
}

// brief is a text with its long lines cut.
func brief(text string) string {
	const most = 1000 // bytes of a line; longer ones fill the screen, shorter ones hide the end
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if len(l) > most {
			lines[i] = fmt.Sprintf("%s... (%d bytes)", l[:most], len(l))
		}
	}
	return strings.Join(lines, "\n")
}

// player plays one scene.
type player struct {
	*Server
	lines    []line // that are left
	clients  map[string]*Client
	requests map[string]*request // that may be answered later
	words    map[string]string   // that $?NAME has stood for
	last     answer
}

// step plays the next line, or the lines about the messages of one client. It returns what came and
// what should have come.
func (p *player) step() (got, want string, err error) {
	text := p.expand(p.lines[0].text)
	p.lines = p.lines[1:]
	who, rest, _ := strings.Cut(text, " ")
	verb, argument, _ := strings.Cut(rest, " ")
	switch {
	case p.Verbs[who] != nil:
		got, want = trim(p.Verbs[who](rest))
	case who == "=":
		got, want = trim(p.last.String(), rest)
		return got, want, nil
	case who == "has":
		if !slices.Contains(strings.Split(p.last.body, "\n"), rest) {
			return p.last.body, rest, nil
		}
	case who == "header":
		return verb + " " + strings.Join(p.last.header.Values(verb), ","), rest, nil
	case who == "wait":
		var d time.Duration
		d, err = time.ParseDuration(rest)
		time.Sleep(d) // in the bubble no time passes
	case p.requests[who] != nil && verb == "=":
		got, want = trim(p.requests[who].sofar(), argument)
		return got, want, nil
	case p.clients[who] != nil && verb == "<":
		lines := []string{argument}
		for len(p.lines) > 0 && strings.HasPrefix(p.lines[0].text, who+" < ") {
			lines = append(lines, p.expand(p.lines[0].text)[len(who)+3:])
			p.lines = p.lines[1:]
		}
		got = p.clients[who].Take()
		return got, p.learn(got, strings.Join(lines, "\n")), nil
	default:
		var known bool
		if known, err = p.ask(text); !known {
			known, err = p.act(who, verb, argument)
		}
		if !known {
			err = fmt.Errorf("a line that means nothing: %s", text)
		}
	}
	if p.Settle != nil {
		p.Settle()
	}
	return got, want, err
}

// learn notes the words that $?NAME stands for. It returns got if that is want with these words.
func (p *player) learn(got, want string) string {
	if !unknown.MatchString(want) {
		return want
	}
	text := unknown.ReplaceAllString(want, "\x00${1}\x00")
	pattern := "^"
	var names []string
	for i, part := range strings.Split(text, "\x00") {
		if i%2 == 0 {
			pattern += regexp.QuoteMeta(part)
		} else {
			pattern, names = pattern+`([\w-]+)`, append(names, part)
		}
	}
	m := regexp.MustCompile(pattern + "$").FindStringSubmatch(got)
	if m == nil {
		return want
	}
	for i, name := range names {
		p.words[name] = m[i+1]
	}
	return got
}

// trim cuts got where want has "...".
func trim(got, want string) (string, string) {
	if start, any := strings.CutSuffix(want, "..."); any && strings.HasPrefix(got, start) {
		return want, want
	}
	return got, want
}

// ask sends the request of a line, if it has one; known says so.
func (p *player) ask(text string) (known bool, err error) {
	name := ""
	if rest, later := strings.CutPrefix(text, "later "); later {
		name, text, _ = strings.Cut(rest, " ")
	}
	key := ""
	if rest, keyed := strings.CutPrefix(text, "key "); keyed {
		key, text, _ = strings.Cut(rest, " ")
	}
	text, operator := strings.CutPrefix(text, "admin ")
	method, rest, _ := strings.Cut(text, " ")
	path, body, _ := strings.Cut(rest, " ")
	request := ""
	switch words := strings.Fields(rest); {
	case method == "raw":
		request, err = strconv.Unquote(rest)
	case method == "asks" && len(words) == 4:
		request = p.asks(words[0], words[1], words[2], words[3])
	case method != "GET" && method != "POST":
		return false, nil
	case operator:
		request = plain(method, path, body)
	default:
		request, err = p.signed(method, path, body)
	}
	if err != nil {
		return true, err
	}
	if key != "" {
		first, others, _ := strings.Cut(request, "\r\n")
		request = first + "\r\nIdempotency-Key: " + key + "\r\n" + others
	}
	r := send(p.Connect("", operator), request)
	if name == "" {
		p.last = *r.wait(method == "raw")
		return true, nil
	}
	p.requests[name] = r
	p.open = append(p.open, r.conn)
	go r.keep()
	return true, nil
}

// act does the action of a client in a line. known says that the line has one.
func (p *player) act(who, verb, argument string) (known bool, err error) {
	c := p.clients[who]
	switch {
	case verb == "connects":
		c, err = p.Welcome()
		p.clients[who] = c
	case verb == "dials":
		p.clients[who], err = p.Dial(argument)
	case c == nil:
		return false, nil
	case verb == ">":
		err = c.Send(argument)
	case verb == "subscribes":
		channel, data, _ := strings.Cut(argument, " ")
		err = c.Subscribe(channel, data)
	case verb == "signs":
		err = c.SignIn(argument)
	case verb == "sends":
		var frames string
		if frames, err = Frames(argument); err == nil {
			err = c.write(frames)
		}
	case verb == "stops":
		c.pause(true)
	case verb == "reads":
		c.pause(false)
	case verb == "closes":
		c.Close()
	default:
		return false, nil
	}
	return true, err
}

// expand replaces $a by a socket ID, a noted $x by its word, $sign(SECRET|TEXT) by a signature, and
// {{x*200}} by repeated text.
func (p *player) expand(text string) string {
	text = strings.ReplaceAll(text, `\xff`, "\xff")
	for name, c := range p.clients {
		text = replace(text, name, c.ID())
	}
	for name, value := range p.words {
		text = replace(text, name, value)
	}
	text = signature.ReplaceAllStringFunc(text, func(s string) string {
		m := signature.FindStringSubmatch(s)
		return Sign(m[1], m[2])
	})
	return repetition.ReplaceAllStringFunc(text, func(s string) string {
		m := repetition.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
}
