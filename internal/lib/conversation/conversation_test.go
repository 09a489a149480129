package conversation

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serve answers as a small server would: a WebSocket is welcomed, told what it has sent, frame
// by frame, and closed after the word "bye"; a request is told its own line and body.
func serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		if r.RemoteAddr == "10.0.0.1:1" {
			w.Header().Set("X-Operator", "yes")
		}
		switch signed := r.URL.Query(); {
		case r.URL.Path == "/slow" || r.URL.Path == "/bits":
			if r.URL.Path == "/bits" {
				fmt.Fprintln(w, "first")
				http.NewResponseController(w).Flush()
			}
			select {
			case <-time.After(time.Minute):
			case <-r.Context().Done():
			}
		case signed.Get("auth_key") != "":
			key := signed.Get("auth_key")
			lines := "auth_key=" + key + "&auth_timestamp=946684800&auth_version=1.0"
			if len(b) > 0 {
				lines += "&body_md5=" + signed.Get("body_md5")
			}
			secret := map[string]string{"key": "secret", "other-key": "other-secret"}[key]
			right := Sign(secret, r.Method+"\n"+r.URL.Path+"\n"+lines)
			fmt.Fprint(w, signed.Get("auth_signature") == right, " ")
		}
		fmt.Fprintln(w, strings.TrimSpace(r.URL.Path+" "+string(b)))
		return
	}
	nc, rw, _ := http.NewResponseController(w).Hijack()
	defer nc.Close()
	fmt.Fprint(nc, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	say := func(opcode byte, text string) {
		nc.Write(append([]byte{0x80 | opcode, 126, byte(len(text) >> 8), byte(len(text))}, text...))
	}
	if say(opText, `{"data":"{\"socket_id\":\"7\"}"}`); r.Header.Get("X-From") != "" {
		say(opText, "from "+r.Header.Get("X-From")+r.RemoteAddr)
	}
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(rw, head); err != nil {
			return
		}
		length := int(head[1] & 127)
		if length == 126 {
			b := make([]byte, 2)
			io.ReadFull(rw, b)
			length = int(b[0])<<8 | int(b[1])
		} else if length == 127 {
			b := make([]byte, 8)
			io.ReadFull(rw, b)
			length = int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		}
		b := make([]byte, 4+length)
		io.ReadFull(rw, b)
		for i := range b[4:] {
			b[4+i] ^= b[i%4]
		}
		text := string(b[4:])
		if len(text) > 1000 {
			text = fmt.Sprint(len(text))
		}
		switch say(opText, fmt.Sprintf("%02x %s", head[0], text)); text {
		case "bye":
			say(opClose, "\x03\xe8farewell")
			return
		case "pong":
			say(opPong, "p")
		}
	}
}

// given is a verb of the tests' own.
func given(rest string) (got, want string) { return "this", rest }

// play plays a text and returns what is told of it.
func play(t *testing.T, text string) string {
	scenes, err := parse("f", text)
	if err != nil {
		return err.Error()
	}
	told := &toldOf{TB: t}
	synctest.Test(t, func(t *testing.T) {
		l := NewPipes()
		server := &http.Server{Handler: http.HandlerFunc(serve)}
		go server.Serve(l)
		s := &Server{Settle: synctest.Wait, Verbs: Verbs{"given": given},
			Apps: []App{{"app", "key", "secret"}, {"other", "other-key", "other-secret"}}}
		s.Connect = func(from string, operator bool) net.Conn {
			if operator {
				from = "10.0.0.1:1"
			}
			return l.Dial(from)
		}
		scenes[0].Play(told, s)
		s.Close()
		l.Close()
		l.Dial("").Close() // nobody accepts it any more
		server.Close()
	})
	return strings.Join(told.lines, "\n")
}

// toldOf is a test that keeps what it is told.
type toldOf struct {
	testing.TB
	lines []string
}

func (t *toldOf) Errorf(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}
func (t *toldOf) Failed() bool { return len(t.lines) > 0 }
func (t *toldOf) Helper()      {}

// A scene that fits its server is told nothing of.
func TestPlay(t *testing.T) {
	b, err := os.ReadFile("testdata/play.txt")
	if err != nil {
		t.Fatal(err)
	}
	if told := play(t, string(b)); told != "" {
		t.Error(told)
	}
}

// A scene that does not fit is told of, with its line.
func TestWrongScenes(t *testing.T) {
	for text, want := range map[string]string{
		"a connects\na > x\na < y": "f:4: got\n81 x\nwant\ny",
		"a connects\na > x":        "f: One: at the end a has got\n81 x",
		"a connects\na > x\na < {{y*2000}}": "f:4: got\n81 x\nwant\n" +
			strings.Repeat("y", 1000) + "... (2000 bytes)",
		"a connects\na > x1\na < $?x\na < 2":   "f:4: got\n81 x1\nwant\n$?x\n2",
		"given that":                           "f:2: got\nthis\nwant\nthat",
		"admin GET /x\n= 404 /x":               "f:3: got\n200 /x\nwant\n404 /x",
		"admin GET /x\n= 404...":               "f:3: got\n200 /x\nwant\n404...",
		"admin GET /x\nhas y":                  "f:3: got\n/x\n\nwant\ny",
		"admin GET /x\nheader X-Method POST":   "f:3: got\nX-Method GET\nwant\nX-Method POST",
		"later x admin GET /slow\nx = 200 ...": "f:3: got\n\nwant\n200 ...",
		"a connects\na sends nothing \"x\"":    `f:3: nothing is no kind of frame`,
		"a connects\na dances":                 "f:3: a line that means nothing: a dances",
		"b > x":                                "f:2: a line that means nothing: b > x",
		"wait long":                            `f:2: time: invalid duration "long"`,
		"raw x":                                "f:2: invalid syntax",
		"GET /%": `f:2: parse "http://x/%": ` +
			`invalid URL escape "%"`,
		`raw "x\r\n\r\n"` + "\n= 400 Bad Request": "f:3: got\n400 400 Bad Request\n" +
			"want\n400 Bad Request",
		"for $i in 1..2\ngiven this":                 "2: the loop has no end",
		"for $i in 1..2\nfor $j in 1..2\ngiven\nend": "2: the loop has no end",
	} {
		if told := play(t, "== One\n"+text); told != want {
			t.Errorf("%s: told\n%s\nwant\n%s", text, told, want)
		}
	}
}

func TestFrames(t *testing.T) {
	for line, want := range map[string]string{
		`text "a"`:                   "\x81\x81\x01\x02\x03\x04`",
		"bytes \"\xff\"":             "\xff",
		`text+ "a" 2`:                strings.Repeat("\x01\x81\x01\x02\x03\x04`", 2),
		`text/4 "" bytes "x" 2 3 ""`: "\xc1\x80\x01\x02\x03\x04xx\x83\x80\x01\x02\x03\x04",
		`rest+/2 "" 15 "" close/1 "" 1`: "\x20\x80\x01\x02\x03\x04" +
			"\x8f\x80\x01\x02\x03\x04\x98\x80\x01\x02\x03\x04",
	} {
		if got, err := Frames(line); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
}

func TestNotes(t *testing.T) {
	var n Notes
	log := slog.New(&n).With("common", 1).WithGroup("g")
	log.Debug("nothing")
	log.Info("one", "a", 1, "b", "x y")
	log.Warn("two")
	fmt.Fprint(&n, "three")
	if got := n.Take() + n.Take(); got != "one, a 1, b x y|two|three" {
		t.Errorf("got %s", got)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	pattern := filepath.Join(dir, "*.txt")
	if _, err := Read(pattern); err == nil {
		t.Error("a pattern without a file was taken")
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.txt", "# nothing\n\n== One\nwith A=1\nwith B=2\na connects\nwith C=3\n== Two\n")
	all, err := Read(pattern)
	if err != nil || len(all) != 2 || all[1].Title != "Two" {
		t.Fatalf("got %+v, %v", all, err)
	}
	one := all[0]
	if !slices.Equal(one.Settings, []string{"A=1", "B=2"}) || len(one.lines) != 2 ||
		one.lines[0].number != 6 {
		t.Errorf("got %+v", one)
	}
	var titles []string
	Each(t, dir, func(t *testing.T, s *Scene) {
		titles = append(titles, s.Title)
		s.Settings, s.lines = nil, []line{{1, "given this"}}
		s.Play(t, &Server{Verbs: Verbs{"given": given}})
	})
	if got := strings.Join(titles, " "); got != "One Two" {
		t.Errorf("got %s", got)
	}
	write("b.txt", "a connects\n")
	const why = "b.txt:1: a connects stands before the first title"
	if _, err := Read(pattern); err == nil || !strings.HasSuffix(err.Error(), why) {
		t.Errorf("got %v", err)
	}
}

// TestReadFrame has the frames that no other test reads.
func TestReadFrame(t *testing.T) {
	for b, want := range map[string]string{
		"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00": "deflated Hello", // RFC 7692 §7.2.3.1
		"\xc1\x01\xff":                         `frame 193 "\xff": flate: `,
		"\x89\x01p":                            `frame 9 "p"`,
		"\x81\x02p":                            "eof in a frame",
	} {
		if got, _ := readFrame(strings.NewReader(b)); !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %s, want %s", b, got, want)
		}
	}
}
