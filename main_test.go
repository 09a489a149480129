package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"reverb/internal/cluster"
	"reverb/internal/lib/control"
	"reverb/internal/lib/deflate"
	"reverb/internal/lib/outqueue"
	"reverb/internal/lib/places"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/resp"
	"reverb/internal/protocol"
)

func TestMain(m *testing.M) {
	code := m.Run()
	// What the tests have started must be gone; the runtime needs a moment to say so.
	for i := 0; code == 0 && runtime.NumGoroutine() > 2; i++ {
		if i == 200 {
			buf := make([]byte, 1<<16)
			fmt.Fprintf(os.Stderr, "goroutines leaked:\n%s\n", buf[:runtime.Stack(buf, true)])
			code = 1
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	os.Exit(code)
}

// --- The house ---

// TestLayers holds the direction in which the root files may know each other.
func TestLayers(t *testing.T) {
	allowed := map[string][]string{
		"main.go":   {"ws.go", "pusher.go", "redis.go", "tls.go"},
		"pusher.go": {"ws.go"},
		"ws.go":     nil, "redis.go": nil, "tls.go": nil,
	}
	found, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	owner, files := map[string]string{}, map[string]*ast.File{}
	for _, name := range found {
		if name == "main_test.go" {
			continue
		}
		if _, ok := allowed[name]; !ok {
			t.Errorf("%s must not stand at the root", name)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
		for _, d := range f.Decls {
			for _, n := range declared(d) {
				owner[n] = name
			}
		}
		for _, g := range f.Comments {
			if strings.Contains(g.Text(), "//go:build") {
				t.Errorf("%s has a build tag", name)
			}
		}
	}
	for name, f := range files {
		for _, id := range f.Unresolved { //nolint:staticcheck // what the file itself does not declare
			if of := owner[id.Name]; of != "" && of != name && !slices.Contains(allowed[name], of) {
				t.Errorf("%s knows %s of %s", name, id.Name, of)
			}
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
				if of := owner[receiver(fn)]; of != name {
					t.Errorf("%s has a method of %s, which is in %s", name, receiver(fn), of)
				}
			}
		}
	}
}

// declared lists the package-level names of a declaration.
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}

func receiver(fn *ast.FuncDecl) string {
	e := fn.Recv.List[0].Type
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	return e.(*ast.Ident).Name
}

func TestModuleRequirements(t *testing.T) {
	filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (name == "test" || name == "bench") { // modules of their own
			return fs.SkipDir
		}
		if b, err := os.ReadFile(name); filepath.Ext(name) == ".go" && err == nil && strings.Contains(string(b), "\"golang.org/x/text") && name != "main_test.go" {
			t.Errorf("%s imports golang.org/x/text", name)
		}
		return err
	})
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(strings.TrimPrefix(line, "require"))
		if len(f) < 2 || !strings.Contains(f[0], ".") || f[0] == "golang.org/x/net" || f[0] == "golang.org/x/sys" {
			continue
		}
		if f[0] != "golang.org/x/text" || !strings.HasSuffix(strings.TrimSpace(line), "// indirect") { // x/net's
			t.Errorf("go.mod requires %s", strings.TrimSpace(line))
		}
	}
}

// --- ws.go: frames ---

var frameVectors = []struct {
	bytes string // hex
	h     frameHeader
}{
	{"8100", frameHeader{fin: true, op: opText}},
	{"817d", frameHeader{fin: true, op: opText, length: 125}},
	{"817e007e", frameHeader{fin: true, op: opText, length: 126, extended: 2}},
	{"817effff", frameHeader{fin: true, op: opText, length: 65535, extended: 2}},
	{"827f0000000000010000", frameHeader{fin: true, op: opBinary, length: 65536, extended: 8}},
	{"018537fa213d", frameHeader{op: opText, length: 5, masked: true, mask: 0x3d21fa37}},
	{"c1fe010001020304", frameHeader{fin: true, rsv: 4, op: opText, length: 256, extended: 2, masked: true, mask: 0x04030201}},
	{"8aff0000000100000000ffffffff", frameHeader{fin: true, op: opPong, length: 1 << 32, extended: 8, masked: true, mask: 0xffffffff}},
	{"80ffffffffffffffffff01020304", frameHeader{fin: true, length: 1<<64 - 1, extended: 8, masked: true, mask: 0x04030201}},
}

func TestFrameHeader(t *testing.T) {
	for _, v := range frameVectors {
		b, _ := hex.DecodeString(v.bytes)
		h, n := parseFrameHeader(append(b, 0xaa, 0xbb))
		if n != len(b) || h != v.h {
			t.Errorf("%s: got %+v, %d, want %+v, %d", v.bytes, h, n, v.h, len(b))
		}
		if got := hex.EncodeToString(appendFrameHeader(nil, v.h)); got != v.bytes {
			t.Errorf("append: got %s, want %s", got, v.bytes)
		}
		for i := range b {
			if _, n := parseFrameHeader(b[:i]); n != 0 {
				t.Errorf("%s cut to %d bytes: got %d, want 0", v.bytes, i, n)
			}
		}
	}
	b, _ := hex.DecodeString("8aff0000000100000000ffffffff")
	if n := testing.AllocsPerRun(100, func() { parseFrameHeader(b) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestCheckFrameHeader(t *testing.T) {
	ok := frameHeader{fin: true, op: opText, masked: true}
	edit := func(f func(*frameHeader)) frameHeader { h := ok; f(&h); return h }
	for _, c := range []struct {
		name    string
		h       frameHeader
		message opcode
		deflate bool
		want    *ending
	}{
		{"text", ok, 0, false, nil},
		{"continuation", edit(func(h *frameHeader) { h.op = opContinuation }), opText, false, nil},
		{"stray continuation", edit(func(h *frameHeader) { h.op = opContinuation }), 0, false, endFragment},
		{"text in a message", ok, opText, false, endFragment},
		{"ping in a message", edit(func(h *frameHeader) { h.op = opPing }), opText, false, nil},
		{"long ping", edit(func(h *frameHeader) { h.op, h.length = opPing, 126; h.extended = 2 }), 0, false, endControl},
		{"fragmented ping", edit(func(h *frameHeader) { h.op, h.fin = opPing, false }), 0, false, endControl},
		{"unmasked", edit(func(h *frameHeader) { h.masked = false }), 0, false, endUnmasked},
		{"rsv1", edit(func(h *frameHeader) { h.rsv = 4 }), 0, false, endReserved},
		{"rsv1 with deflate", edit(func(h *frameHeader) { h.rsv = 4 }), 0, true, nil},
		{"rsv1 on a continuation", edit(func(h *frameHeader) { h.rsv, h.op = 4, opContinuation }), opText, true, endReserved},
		{"rsv1 on a ping", edit(func(h *frameHeader) { h.rsv, h.op = 4, opPing }), 0, true, endReserved},
		{"rsv2", edit(func(h *frameHeader) { h.rsv = 2 }), 0, true, endReserved},
		{"rsv3", edit(func(h *frameHeader) { h.rsv = 1 }), 0, true, endReserved},
		{"125 in 16 bits", edit(func(h *frameHeader) { h.length, h.extended = 125, 2 }), 0, false, endLength},
		{"65535 in 64 bits", edit(func(h *frameHeader) { h.length, h.extended = 65535, 8 }), 0, false, endLength},
		{"top bit", edit(func(h *frameHeader) { h.length, h.extended = 1<<63, 8 }), 0, false, endLength},
	} {
		if got := checkFrameHeader(c.h, c.message, c.deflate); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	for op := range opcode(16) {
		h, message := edit(func(h *frameHeader) { h.op = op }), opcode(0)
		if op == opContinuation {
			message = opText
		}
		known := op <= 2 || op >= 8 && op <= 10
		if got := checkFrameHeader(h, message, false); known != (got == nil) {
			t.Errorf("opcode %d: got %+v", op, got)
		}
	}
}

func maskPlain(b []byte, key uint32) {
	for i := range b {
		b[i] ^= byte(key >> (8 * (i % 4)))
	}
}

func TestMaskBytes(t *testing.T) {
	for n := range 200 {
		for _, split := range []int{0, n / 3, n} {
			want := make([]byte, n)
			for i := range want {
				want[i] = byte(rand.Uint32())
			}
			got, key := bytes.Clone(want), rand.Uint32()
			maskPlain(want, key)
			maskBytes(got[split:], maskBytes(got[:split], key))
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes split at %d: got %x, want %x", n, split, got, want)
			}
		}
	}
}

func BenchmarkMask(b *testing.B) {
	buf := make([]byte, 4096)
	b.SetBytes(4096)
	b.Run("fast", func(b *testing.B) {
		b.SetBytes(4096)
		for b.Loop() {
			maskBytes(buf, 0x12345678)
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.SetBytes(4096)
		for b.Loop() {
			maskPlain(buf, 0x12345678)
		}
	})
}

func TestCloseCodes(t *testing.T) {
	valid := func(c int) bool {
		return c >= 1000 && c <= 1014 && c != 1004 && c != 1005 && c != 1006 || c >= 3000 && c < 5000
	}
	for c := range 1 << 16 {
		if validCloseCode(uint16(c)) != valid(c) {
			t.Errorf("%d: got %v", c, !valid(c))
		}
	}
	for _, c := range []struct {
		payload string
		code    uint16
		bad     *ending
	}{
		{"", 1005, nil}, {"\x03", 0, endCloseFrame}, {"\x03\xe8", 1000, nil}, {"\x03\xe8bye", 1000, nil},
		{"\x03\xed", 0, endCloseFrame}, {"\x03\xe8\xff", 0, endText},
	} {
		if code, _, bad := parseClose([]byte(c.payload)); code != c.code || bad != c.bad {
			t.Errorf("%q: got %d, %v, want %d, %v", c.payload, code, bad, c.code, c.bad)
		}
	}
	long := appendCloseFrame(nil, 1000, strings.Repeat("é", 100))
	if h, n := parseFrameHeader(long); h.length > 125 || !utf8.Valid(long[n+2:]) {
		t.Errorf("long reason: got %d bytes, valid UTF-8: %v", h.length, utf8.Valid(long[n+2:]))
	}
}

// --- ws.go: connections ---

// A refused handshake is answered with the header lines that say what is wanted.
func TestRefusedHandshake(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		ours, theirs := net.Pipe()
		r.pipe <- theirs
		defer ours.Close()
		go io.WriteString(ours, "GET /app/key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
		if err != nil {
			t.Fatal(err)
		}
		h := resp.Header
		if resp.StatusCode != 426 || h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" || h.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("got %d %v", resp.StatusCode, h) // RFC 9110 §15.5.22, §7.8; RFC 6455 §4.4
		}
	})
}

// recorder is a handler that writes down what it is told.
type recorder struct {
	conn
	got  []string
	echo bool
}

func (r *recorder) handleOpen(uint32) { r.got = append(r.got, "open") }
func (r *recorder) handleMessage(op opcode, b []byte) {
	r.got = append(r.got, fmt.Sprintf("%d:%s", op, b))
	if r.echo {
		r.sendText(b)
	}
}
func (r *recorder) handleControl(op opcode) { r.got = append(r.got, fmt.Sprintf("control %d", op)) }
func (r *recorder) handleDeadline(uint32)   {}
func (r *recorder) handleDrain()            { r.close(endStopped) }
func (r *recorder) handleClosed(e *ending)  { r.got = append(r.got, "closed "+e.word) }

// maskedFrame is a frame as a client sends it.
func maskedFrame(op opcode, fin bool, rsv byte, payload string) string {
	h := frameHeader{fin: fin, op: op, rsv: rsv, masked: true, mask: 0x04030201, length: uint64(len(payload))}
	b := []byte(payload)
	maskBytes(b, h.mask)
	return string(append(appendFrameHeader(nil, h), b...))
}

// feed gives bytes to a connection of a loop that does not run, cut into pieces,
// and returns what its handler saw.
func feed(input string, pieces int, deflate bool) []string {
	ls, err := newLoops(1, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		panic(err)
	}
	l := ls.all[0]
	r := &recorder{}
	r.handler, r.maxMessage, r.deflate = r, 1000, deflate
	l.place(&r.conn)
	r.state = connOpen
	for b := []byte(input); len(b) > 0; {
		n := min(pieces, len(b))
		r.receive(append([]byte(nil), b[:n]...))
		b = b[n:]
	}
	for b := range r.out.All {
		if h, n := parseFrameHeader(b); h.op == opPong {
			r.got = append(r.got, "pong "+string(b[n:]))
		} else if h.op == opClose {
			code, _, _ := parseClose(b[n:])
			r.got = append(r.got, fmt.Sprintf("close %d", code))
		}
	}
	return r.got
}

// deflated is a message as a client compresses it.
func deflated(b []byte) []byte {
	payload, _ := new(deflate.Writer).Deflate(b)
	return payload
}

func TestReadMachine(t *testing.T) {
	text := func(s string) string { return maskedFrame(opText, true, 0, s) }
	compressed := string(deflated(bytes.Repeat([]byte("z"), 500)))
	for _, c := range []struct {
		name, input, want string
	}{
		{"one", text("hi"), "1:hi"},
		{"two in one read", text("a") + text("b"), "1:a|1:b"},
		{"empty", text(""), "1:"},
		{"empty binary", maskedFrame(opBinary, true, 0, ""), "2:"},
		{"exactly the limit", text(strings.Repeat("x", 1000)), "1:" + strings.Repeat("x", 1000)},
		{"over the limit", text(strings.Repeat("x", 1001)), "closed too_big|close 1009"},
		{"fragments", maskedFrame(opText, false, 0, "a") + maskedFrame(opContinuation, false, 0, "") + maskedFrame(opContinuation, true, 0, "b"), "1:ab"},
		{"fragments over the limit", maskedFrame(opText, false, 0, strings.Repeat("x", 900)) + maskedFrame(opContinuation, true, 0, strings.Repeat("x", 101)), "closed too_big|close 1009"},
		{"ping between fragments", maskedFrame(opText, false, 0, "a") + maskedFrame(opPing, true, 0, "p") + maskedFrame(opContinuation, true, 0, "b"), "control 9|1:ab|pong p"},
		{"character across fragments", maskedFrame(opText, false, 0, "\xc3") + maskedFrame(opContinuation, true, 0, "\xa9"), "1:é"},
		{"half a character at the end", text("\xc3"), "closed invalid_text|close 1007"},
		{"half a character at the end of fragments", maskedFrame(opText, false, 0, "x") + maskedFrame(opContinuation, true, 0, "\xc3"), "closed invalid_text|close 1007"},
		{"bad text early", maskedFrame(opText, false, 0, "\xff"), "closed invalid_text|close 1007"},
		{"binary may be anything", maskedFrame(opBinary, true, 0, "\xff"), "2:\xff"},
		{"pong", maskedFrame(opPong, true, 0, "x"), "control 10"},
		{"close", maskedFrame(opClose, true, 0, "\x03\xe9bye"), "closed peer_closed|close 1001"},
		{"empty close", maskedFrame(opClose, true, 0, ""), "closed peer_closed|close 1000"},
		{"nothing after a close", maskedFrame(opClose, true, 0, "") + text("x"), "closed peer_closed|close 1000"},
		{"invalid close", maskedFrame(opClose, true, 0, "\x03\xee"), "closed protocol_error|close 1002"},
		{"unmasked", "\x81\x01x", "closed protocol_error|close 1002"},
		{"compressed", maskedFrame(opText, true, rsv1, compressed), "1:" + strings.Repeat("z", 500)},
		{"compressed fragments", maskedFrame(opText, false, rsv1, compressed[:2]) + maskedFrame(opContinuation, true, 0, compressed[2:]), "1:" + strings.Repeat("z", 500)},
		{"bomb", maskedFrame(opText, true, rsv1, string(deflated(make([]byte, 100_000)))), "closed too_big|close 1009"},
		{"compressed text that is none", maskedFrame(opText, true, rsv1, string(deflated(bytes.Repeat([]byte("\xff"), 50)))), "closed invalid_text|close 1007"},
		{"compressed rubbish", maskedFrame(opText, true, rsv1, "rubbish?"), "closed invalid_deflate|close 1007"},
	} {
		for pieces := range 9 {
			if pieces == 0 {
				pieces = 1 << 20
			}
			if got := strings.Join(feed(c.input, pieces, true), "|"); got != c.want {
				t.Errorf("%s in pieces of %d: got %.80q, want %.80q", c.name, pieces, got, c.want)
			}
		}
	}
	// A header that claims too much ends the connection before the payload comes.
	huge := appendFrameHeader(nil, frameHeader{fin: true, op: opText, masked: true, length: 1 << 40})
	if got := strings.Join(feed(string(huge), 1, false), "|"); got != "closed too_big|close 1009" {
		t.Errorf("huge: got %q", got)
	}
}

// FuzzFrames checks that how bytes are cut into reads changes nothing.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(maskedFrame(opText, false, 0, "a")+maskedFrame(opPing, true, 0, "p")+maskedFrame(opContinuation, true, 0, "é")), uint8(1))
	f.Add([]byte(maskedFrame(opClose, true, 0, "\x03\xe8")), uint8(3))
	f.Add([]byte(maskedFrame(opText, true, rsv1, "\xaa\xaa\x04\x00")), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, pieces uint8) {
		whole := feed(string(b), len(b)+1, true)
		cut := feed(string(b), int(pieces)+1, true)
		// What is read whole may be judged later than what comes byte by byte, but
		// only invalid text, and only at the end.
		if w, c := strings.Join(whole, "|"), strings.Join(cut, "|"); w != c {
			t.Fatalf("whole %q, in pieces of %d %q", w, pieces+1, c)
		}
	})
}

// pipeLoop runs one loop with one recorder at the end of a pipe.
func pipeLoop(t *testing.T, r *recorder) (peer net.Conn, stop func()) {
	ls, err := newLoops(1, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	ls.start()
	ls.sockets.Add(1)
	ours, theirs := net.Pipe()
	r.handler, r.maxMessage = r, 10_000
	ls.adopt(&r.conn, ours, []byte("first"), nil)
	return theirs, func() {
		theirs.Close()
		ls.stop(0)
		if n := ls.sockets.Load(); n != 0 {
			t.Errorf("%d sockets are still counted", n)
		}
	}
}

func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		peer, stop := pipeLoop(t, r)
		defer stop()
		big := make([]byte, 100<<10)
		for range 30 {
			r.loopDo(func() { r.send(appendFrame(nil, opBinary, 0, big)) })
		}
		synctest.Wait()
		if got := r.got[len(r.got)-1]; got != "closed slow_consumer" {
			t.Errorf("got %q, want closed slow_consumer", got)
		}
		if n := r.out.Bytes(); n > maxQueueBytes+len(big)+100 {
			t.Errorf("%d bytes are queued", n)
		}
		// A peer that reads again still learns why.
		all, _ := io.ReadAll(peer)
		want := appendCloseFrame(nil, endSlow.code, endSlow.reason)
		if !bytes.HasSuffix(all, want) {
			t.Errorf("the last bytes are %q, want the close frame", all[max(0, len(all)-60):])
		}
	})
}

// doTask runs a function on a loop.
type doTask struct {
	f    func()
	done chan struct{}
}

func (d doTask) run(*loop) { d.f(); close(d.done) }

// loopDo runs f on the recorder's loop and waits for it.
func (r *recorder) loopDo(f func()) {
	synctest.Wait() // the loop is known once it has adopted the connection
	d := doTask{f, make(chan struct{})}
	r.loop.post(d)
	<-d.done
}

// A connection that is ended for another reason in the turn in which its queue has
// overflowed tells that reason all the same.
func TestOverflowDoesNotHideTheEnding(t *testing.T) {
	for _, sent := range []struct{ count, size int }{{30, 100 << 10}, {2, maxQueueBytes + 100<<10}, {1, maxQueueBytes + 100<<10}} { // one message may go over it
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{}
			peer, stop := pipeLoop(t, r)
			defer stop()
			r.loopDo(func() {
				for range sent.count {
					r.send(appendFrame(nil, opBinary, 0, make([]byte, sent.size)))
				}
				r.close(endStopped)
			})
			all, _ := io.ReadAll(peer)
			if want := appendCloseFrame(nil, endStopped.code, endStopped.reason); !bytes.HasSuffix(all, want) {
				t.Errorf("%d messages of %d bytes: the last bytes are %q, want the close frame", sent.count, sent.size, all[max(0, len(all)-60):])
			}
		})
	}
}

// The turn that runs counts for the lag and for readiness before it has ended.
func TestLagOfTheRunningTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		_, stop := pipeLoop(t, r)
		defer stop()
		synctest.Wait()
		ls := r.loop.group
		s := &server{loops: ls, hub: newHub(nil, ls, new(testProgram))}
		check := func(when string, want time.Duration) {
			t.Helper()
			if got := r.loop.lag(time.Now()); got != want {
				t.Errorf("%s: the lag is %v, want %v", when, got, want)
			}
			why := strings.Join(s.notReady(), "; ")
			if busy := strings.Contains(why, "an event loop is busy for "+want.String()); busy != (want > maxReadyLag) {
				t.Errorf("%s: not ready because of %q", when, why)
			}
		}
		check("before", 0)
		time.Sleep(10 * time.Second) // the turn that runs is the first after a pause
		d := doTask{func() { time.Sleep(7 * time.Second) }, make(chan struct{})}
		r.loop.post(d)
		time.Sleep(500 * time.Millisecond)
		check("half a second into the turn", 500*time.Millisecond)
		time.Sleep(5500 * time.Millisecond)
		check("six seconds into the turn", 6*time.Second)
		<-d.done
		synctest.Wait()
		check("after the turn", 7*time.Second)
		time.Sleep(3 * time.Second)
		check("later", 0)
	})
}

// countedLayer is TLS that counts what the loop gives it.
type countedLayer struct {
	*tls.Conn
	base          *poll.Base
	writes, bytes int
}

func (c *countedLayer) NetConn() net.Conn { return baseOf{c.base, c.base} }
func (c *countedLayer) Write(b []byte) (int, error) {
	c.writes++
	c.bytes += len(b)
	return c.Conn.Write(b)
}

// baseOf is how a layer's connection says what it stands on.
type baseOf struct {
	net.Conn
	base *poll.Base
}

func (b baseOf) PollBase() *poll.Base { return b.base }

// tlsPair shakes hands over two sockets.
func tlsPair(t *testing.T, ours, theirs net.Conn) *countedLayer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	base := &poll.Base{Conn: ours}
	server := tls.Server(base, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	client := make(chan error, 1)
	go func() { client <- tls.Client(theirs, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-client; err != nil {
		t.Fatal(err)
	}
	return &countedLayer{Conn: server, base: base}
}

// A connection that the peer has reset is done with at the first write that fails:
// nothing is queued, gathered or written for it in the rest of the turn, however many
// small events that turn has for it.
func TestDeadConnectionIsDoneWith(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a stream learns of the reset at some later time")
	}
	small := newBroadcast([]byte(`{"event":"client-","channel":"z"}`), protocol.SocketID{}, time.Now())
	for _, over := range []string{"plain", "TLS"} {
		for how, send := range map[string]func(c *conn){
			"at once":            func(c *conn) { c.sendFrames(&small.frames) },
			"queued":             func(c *conn) { c.send(small.plain) },
			"to several at once": func(c *conn) { c.loop.sendEach([]*conn{c}, &small.frames, false) },
			"alone":              func(c *conn) { c.loop.sendEach([]*conn{c}, &small.frames, true) },
		} {
			t.Run(over+"/"+how, func(t *testing.T) {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
				peer, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer peer.Close()
				ours, err := listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				file, err := ours.(*net.TCPConn).File()
				if err != nil {
					t.Fatal(err)
				}
				same, err := net.FileConn(file) // the same socket, to see that the reset has come
				if err != nil {
					t.Fatal(err)
				}
				file.Close()
				defer same.Close()
				var layer *countedLayer
				if over == "TLS" {
					layer = tlsPair(t, ours, peer)
					ours = layer
				}

				sockets := new(atomic.Int64)
				ls, err := newLoops(1, sockets, poll.New)
				if err != nil {
					t.Fatal(err)
				}
				ls.start()
				sockets.Add(1)
				r := &recorder{}
				r.handler, r.maxMessage = r, 10_000
				ls.adopt(&r.conn, ours, []byte("first"), nil)
				l := ls.all[0]
				turn := func(f func()) {
					d := doTask{f, make(chan struct{})}
					l.post(d)
					<-d.done
				}
				turn(func() {})
				turn(func() {
					if !r.out.Empty() || r.state != connOpen {
						t.Errorf("state %d, %d bytes wait", r.state, r.out.Bytes())
					}
					before, beforeBytes := 0, 0
					if layer != nil {
						before, beforeBytes = layer.writes, layer.bytes
					}
					peer.(*net.TCPConn).SetLinger(0)
					peer.Close()
					for err = nil; err == nil; {
						_, err = same.Read(make([]byte, 4096))
					}
					for range 30_000 {
						send(&r.conn)
					}
					if r.out.Bytes() != 0 || !r.out.Empty() || l.outs.Bytes() != 0 {
						t.Errorf("%d bytes are queued, the loop counts %d; want none", r.out.Bytes(), l.outs.Bytes())
					}
					if layer != nil && (layer.writes-before > 1 || layer.bytes-beforeBytes > loopBufferBytes) {
						t.Errorf("%d writes of %d bytes; want 1 of at most %d", layer.writes-before, layer.bytes-beforeBytes, loopBufferBytes)
					}
				})
				turn(func() {
					// A layer may be read once more before the turn ends.
					if got := strings.Join(r.got, "|"); got != "open|closed write_failed" && got != "open|closed peer_gone" || r.state != connClosed {
						t.Errorf("got %s, state %d; want that it was closed once", got, r.state)
					}
				})
				ls.stop(0)
				if n := sockets.Load(); n != 0 {
					t.Errorf("%d sockets are still counted", n)
				}
			})
		}
	}
}

// What comes after the loops have ended is closed, not kept.
func TestAdoptionAfterTheEnd(t *testing.T) {
	sockets := new(atomic.Int64)
	ls, err := newLoops(1, sockets, poll.New)
	if err != nil {
		t.Fatal(err)
	}
	ls.start()
	ls.stop(0)
	sockets.Add(1)
	ours, theirs := net.Pipe()
	r := &recorder{}
	r.handler = r
	ls.adopt(&r.conn, ours, []byte("first"), nil)
	theirs.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF || sockets.Load() != 0 {
		t.Errorf("got %v and %d sockets, want EOF and none", err, sockets.Load())
	}
	if ls.all[0].post(stopTask{}); ls.all[0].inbox.Len() != 0 {
		t.Error("a loop that has ended took a task")
	}
}

func TestPongsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		peer, stop := pipeLoop(t, r)
		defer stop()
		r.loopDo(func() { r.send(make([]byte, 512<<10)) }) // more than the transport takes
		ping := []byte(strings.Repeat(maskedFrame(opPing, true, 0, strings.Repeat("p", 125)), 100))
		for range 200 {
			if _, err := peer.Write(ping); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		pongs := 0
		r.loopDo(func() {
			for b := range r.out.All {
				if h, _ := parseFrameHeader(b); h.op == opPong {
					pongs++
				}
			}
		})
		if pongs != 1 || r.state != connOpen {
			t.Errorf("%d pongs wait, state %d; want 1 and open", pongs, r.state)
		}
	})
}

func TestClosingEndsWithoutPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		peer, stop := pipeLoop(t, r)
		defer stop()
		defer peer.Close()
		r.loopDo(func() { r.close(endProtocol) })
		time.Sleep((closeTimeout + 2) * time.Second) // in the bubble: no time passes
		synctest.Wait()
		if r.state != connClosed {
			t.Errorf("state %d, want closed", r.state)
		}
	})
}

// --- pusher.go: parts ---

func signedQuery(a *appSettings, method, path, body string, at time.Time, extra map[string]string) map[string]string {
	sum := md5.Sum([]byte(body))
	q := map[string]string{"auth_key": a.key, "auth_timestamp": strconv.FormatInt(at.Unix(), 10), "auth_version": "1.0"}
	if body != "" {
		q["body_md5"] = hex.EncodeToString(sum[:])
	}
	for k, v := range extra {
		q[k] = v
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		lines = append(lines, name+"="+q[name])
	}
	q["auth_signature"] = protocol.Sign(a.secret, method+"\n"+path+"\n"+strings.Join(lines, "&"))
	return q
}

// --- pusher.go: conversations ---

// rig is a whole server in memory, inside a synctest bubble.
type rig struct {
	t    *testing.T
	hub  *hub
	http *http.Server
	pipe chan net.Conn
	apps []*appSettings
	all  []*testClient

	stopped bool // the loops are
}

// pipeListener accepts what is put into its channel.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// testProgram is the program around a hub; a test sets what it needs otherwise.
type testProgram struct {
	prefix string
	full   func() bool
	remote func(*http.Request) string
	logf   func(word, who, why string)
}

// program is what is around the hub of a rig.
func (r *rig) program() *testProgram { return r.hub.program.(*testProgram) }

func (p *testProgram) Peers(*registry) peers                              { return nil }
func (p *testProgram) Tracer() func(what, who, message string)            { return nil }
func (p *testProgram) Prefix() string                                     { return p.prefix }
func (p *testProgram) Full() bool                                         { return p.full != nil && p.full() }
func (p *testProgram) Detach(nc net.Conn) net.Conn                        { return nc }
func (p *testProgram) Connected(*http.Request, string, protocol.SocketID) {}

func (p *testProgram) Remote(r *http.Request) string {
	if p.remote == nil {
		return r.RemoteAddr
	}
	return p.remote(r)
}

func (p *testProgram) Refused(word, who, why string) {
	if p.logf != nil {
		p.logf(word, who, why)
	}
}

func testApp(edit func(a *appSettings)) *appSettings {
	a := &appSettings{id: "app-id", key: "app-key", secret: "app-secret", allowedOrigins: []string{"*"},
		pingInterval: 60 * time.Second, activityTimeout: 30 * time.Second, maxMessageSize: 10_000, maxSubscribed: 10_000}
	if edit != nil {
		edit(a)
	}
	return a
}

func withRig(t *testing.T, edit func(a *appSettings), f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		ls, err := newLoops(2, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
		if err != nil {
			t.Fatal(err)
		}
		a := testApp(edit)
		r := &rig{t: t, hub: newHub([]*appSettings{a}, ls, new(testProgram)), pipe: make(chan net.Conn), apps: []*appSettings{a}}
		r.http = &http.Server{Handler: r.hub, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		ls.start()
		go r.http.Serve(pipeListener(r.pipe))
		f(r)
		synctest.Wait()
		r.checkConsistency()
		for _, c := range r.all {
			c.nc.Close()
		}
		close(r.pipe)
		r.http.Close()
		if !r.stopped {
			ls.stop(0)
		}
		counted := r.hub.tables.Load().byID[a.id]
		in, out := sum(counted, func(t *traffic) *atomic.Uint64 { return &t.connected }), sum(counted, func(t *traffic) *atomic.Uint64 { return &t.disconnected })
		if in != out {
			t.Errorf("%d connections were counted in, %d out", in, out)
		}
		if n := counted.connections.Load(); n != 0 {
			t.Errorf("%d connections are still counted", n)
		}
	})
}

// testClient is the other end of a connection. It reads all the time.
type testClient struct {
	r   *rig
	nc  net.Conn
	id  string // socket ID
	mu  sync.Mutex
	got []string
}

// dial connects, with the extra header lines given.
func (r *rig) dial(path string, lines ...string) *testClient {
	ours, theirs := net.Pipe()
	r.pipe <- theirs
	c := &testClient{r: r, nc: ours}
	r.all = append(r.all, c)
	fmt.Fprintf(ours, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
		path, strings.Join(append(lines, ""), "\r\n"))
	br := bufio.NewReader(ours)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		r.t.Fatalf("handshake: %v, %v", resp, err)
	}
	go c.readLoop(br)
	synctest.Wait()
	return c
}

// connect dials and takes connection_established off.
func (r *rig) connect() *testClient {
	c := r.dial("/app/" + r.apps[0].key)
	got := c.take()
	var e struct{ Data string }
	var data struct {
		SocketID string `json:"socket_id"`
	}
	if json.Unmarshal([]byte(got), &e) != nil || json.Unmarshal([]byte(e.Data), &data) != nil || data.SocketID == "" {
		r.t.Fatalf("got %s, want connection_established", got)
	}
	c.id = data.SocketID
	return c
}

func (c *testClient) readLoop(r *bufio.Reader) {
	add := func(s string) {
		c.mu.Lock()
		c.got = append(c.got, s)
		c.mu.Unlock()
	}
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			add("eof")
			return
		}
		for {
			h, n := parseFrameHeader(head)
			if n == 0 {
				b, err := r.ReadByte()
				if err != nil {
					return
				}
				head = append(head, b)
				continue
			}
			payload := make([]byte, h.length)
			io.ReadFull(r, payload)
			switch h.op {
			case opText:
				add(string(payload))
			case opClose:
				code, reason, _ := parseClose(payload)
				add(fmt.Sprintf("close %d %s", code, reason))
			default:
				add(fmt.Sprintf("frame %d %s", h.op, payload))
			}
			break
		}
	}
}

// take waits until the server is idle and returns what has come, one a line.
func (c *testClient) take() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := strings.Join(c.got, "\n")
	c.got = nil
	return got
}

func (c *testClient) send(text string) { c.sendFrame(opText, text) }

func (c *testClient) sendFrame(op opcode, payload string) {
	c.sendBytes(maskedFrame(op, true, 0, payload))
}

func (c *testClient) sendBytes(frames string) {
	if _, err := io.WriteString(c.nc, frames); err != nil {
		c.r.t.Fatal(err)
	}
}

// subscribe signs as the app would. channelData may be empty.
func (c *testClient) subscribe(channel, channelData string) {
	message := c.id + ":" + channel
	d := map[string]string{"channel": channel}
	if channelData != "" {
		message += ":" + channelData
		d["channel_data"] = channelData
	}
	d["auth"] = c.r.apps[0].key + ":" + protocol.Sign(c.r.apps[0].secret, message)
	b, _ := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": d})
	c.send(string(b))
}

func (c *testClient) want(lines ...string) {
	c.r.t.Helper()
	if got, want := c.take(), strings.Join(lines, "\n"); got != want {
		c.r.t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// request sends a signed request and returns status and body.
func (r *rig) request(method, path, body string, query map[string]string) string {
	ours, theirs := net.Pipe()
	r.pipe <- theirs
	defer ours.Close()
	values := url.Values{}
	for k, v := range signedQuery(r.apps[0], method, path, body, time.Now(), query) {
		values.Set(k, v)
	}
	go fmt.Fprintf(ours, "%s %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, values.Encode(), len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// checkConsistency recomputes everything that is kept twice. The server is idle.
func (r *rig) checkConsistency() {
	t := r.t
	subscribed := map[*channel]int{}
	for _, l := range r.hub.loops.all {
		for slot, c := range l.conns {
			if c == nil {
				continue
			}
			cl := c.handler.(*client)
			if int(c.slot) != slot || c.loop != l {
				t.Errorf("connection in slot %d thinks it is in %d", slot, c.slot)
			}
			n := 0
			for s := range cl.all {
				n++
				subscribed[s.ch]++
				if at := s.ch.members(l.index)[s.index]; at.client != cl || at.sub != s || cl.find([]byte(s.ch.name)) != s {
					t.Errorf("subscription to %s is not where it should be", s.ch.name)
				}
			}
			if many := cl.many(); many != nil && (many.Len() != n || cl.subscriptions != nil) {
				t.Errorf("client has %d subscriptions, counts %d", n, many.Len())
			}
		}
		if n := l.backlog.Load(); n != 0 || l.owed.Load() != 0 || l.pending() || len(l.holding)+l.flows.Jobs() > 0 {
			t.Errorf("an idle loop has a backlog of %d, %d deliveries, %d flows that hold somebody", n, l.flows.Jobs(), len(l.holding))
		}
	}
	checkLists(t, r.hub)
	for id, a := range r.hub.tables.Load().byID {
		if n := a.undelivered.Load(); n != 0 {
			t.Errorf("app %s has %d bytes to be delivered, and no loop has any", id, n)
		}
	}
	r.checkTraffic(len(subscribed), subscribed)
	for i := range r.hub.registry.shards {
		sh := &r.hub.registry.shards[i]
		for ch := range sh.channels.All {
			users, lists := map[string]int{}, 0
			for l := range r.hub.loops.all {
				list := ch.members(l)
				lists += len(list)
				if int(ch.placesLocked(l)) != len(list) {
					t.Errorf("%s: loop %d counts %d, has %d", ch.name, l, ch.placesLocked(l), len(list))
				}
				for _, s := range list {
					if ch.kind.Presence {
						users[s.sub.member.ID]++
					}
				}
			}
			if int(ch.count) != lists || lists != subscribed[ch] || lists == 0 {
				t.Errorf("%s: counts %d, lists %d, clients %d", ch.name, ch.count, lists, subscribed[ch])
			}
			if len(users) != ch.present.len() {
				t.Errorf("%s: %d users are present, %d are subscribed", ch.name, ch.present.len(), len(users))
			}
			for id, n := range users {
				if u := ch.present.find(id); u == nil || u.connections != n || ch.present.order[u.position] != u {
					t.Errorf("%s: user %s is not counted %d times", ch.name, id, n)
				}
			}
		}
	}
}

// While an app's events have more deliveries to come than may wait, those who publish
// for it wait: nothing more is read of the connections that do, what they had sent before
// is kept, and requests are answered later or with a 503. Others of the app are served,
// and other apps publish.
func TestPublishersWait(t *testing.T) {
	withRig(t, func(a *appSettings) { a.clientEvents = clientEventsAll }, func(r *rig) {
		other := testApp(func(a *appSettings) { a.id, a.key, a.clientEvents = "other", "other-key", clientEventsAll })
		r.hub.configure([]*appSettings{r.apps[0], other}, *r.hub.tables.Load())
		busy, quiet := r.hub.tables.Load().byID[r.apps[0].id], r.hub.tables.Load().byID["other"]
		publisher, second, subscriber := r.connect(), r.connect(), r.connect()
		subscriber.send(`{"event":"pusher:subscribe","data":{"channel":"x"}}`)
		subscriber.want(succeeded("x", "{}"))
		event := func(n int) string { return fmt.Sprintf(`{"event":"client-e","data":%d,"channel":"x"}`, n) }
		ping, pong := `{"event":"pusher:ping"}`, string(messagePong)
		answer := make(chan string, 8)
		// A loop that has nothing but what it must not read looks again after a millisecond.
		want := func(c *testClient, lines ...string) {
			t.Helper()
			time.Sleep(10 * time.Millisecond)
			c.want(lines...)
		}
		publish := func(a *app) {
			go func() {
				done, fail := r.hub.awaitRoom(context.Background(), a)
				if fail != nil {
					answer <- fail.Text
					return
				}
				answer <- "let in"
				done()
			}()
		}

		busy.undelivered.Add(maxUndelivered + 1)
		publisher.sendBytes(maskedFrame(opText, true, 0, event(1)) + maskedFrame(opText, true, 0, event(2)) +
			maskedFrame(opText, false, 0, event(3)[:9]) + maskedFrame(opPing, true, 0, "p") + maskedFrame(opContinuation, true, 0, event(3)[9:]))
		want(subscriber, event(1)) // the first is on its way before it is known to be too much
		second.send(event(4))
		want(subscriber, event(4))
		second.send(ping)
		want(second)
		subscriber.send(ping)
		want(subscriber, pong)
		publish(busy)
		time.Sleep(time.Second) // others have nothing to wait for
		if len(answer) > 0 {
			t.Errorf("a request was answered with %s", <-answer)
		}
		own := r.apps
		r.apps = []*appSettings{other}
		a := r.connect()
		a.send(`{"event":"pusher:subscribe","data":{"channel":"x"}}`)
		want(a, succeeded("x", "{}"))
		a.send(event(5))
		a.send(event(6))
		want(a) // its own
		publish(quiet)
		time.Sleep(10 * time.Millisecond)
		if len(answer) == 0 {
			t.Error("a request of another app waits")
		} else if got := <-answer; got != "let in" {
			t.Errorf("another app's request got %s", got)
		}
		r.apps = own

		busy.undelivered.Add(-maxUndelivered)
		want(subscriber, event(2), event(3))
		want(publisher, fmt.Sprintf("frame %d p", opPong))
		want(second, pong)
		if got := <-answer; got != "let in" {
			t.Errorf("the request that had waited got %s", got)
		}

		busy.undelivered.Add(maxUndelivered)
		for range 3 { // whichever is the next
			publish(busy)
		}
		time.Sleep(roomPatience + time.Second)
		for range 3 {
			if got := <-answer; got != "The server is behind with delivering; send again shortly." {
				t.Errorf("got %s", got)
			}
		}
		publisher.send(event(7))
		want(subscriber, event(7))
		publisher.send(event(8))
		publisher.nc.Close() // and what was kept of it is forgotten
		busy.undelivered.Add(-maxUndelivered - 1)
		want(subscriber, event(8))
		if n := quiet.undelivered.Load(); n != 0 {
			t.Errorf("%d bytes of the other app are undelivered", n)
		}
	})
}

// New connections, pings and other apps have their turn while one app's events go to
// very many, and an event of another app does not wait for all of them.
func TestFlowsTakeTurns(t *testing.T) {
	const members, events = 500, 20_000
	w := newCrowd(t, members)
	l := w.loop
	other := w.hub.newApp("other")
	c := &client{hub: w.hub, app: other, id: protocol.NewSocketID()}
	c.handler, c.maxMessage = c, 10_000
	l.place(&c.conn)
	c.state, c.blocked = connOpen, true
	s, _ := w.hub.registry.join(c, "news", protocol.Kind{}, nil, time.Now())
	c.addSubscription(s)
	for range events {
		w.hub.registry.publish(w.app, channelName("news"), newBroadcast(messagePing, protocol.SocketID{}, time.Now()), false)
	}
	if cost := int64(members * events * (len(messagePing) + 2 + messageCost)); w.app.undelivered.Load() != cost || !w.hub.behind(w.app) || w.hub.behind(other) {
		t.Errorf("%d bytes are to be delivered, want %d; and only the app of which they are is behind", w.app.undelivered.Load(), cost)
	}
	w.hub.registry.publish(other, channelName("news"), newBroadcast(messagePing, protocol.SocketID{}, time.Now()), false)
	task := doTask{func() {}, make(chan struct{})}
	l.post(task)
	l.runTasks()
	select {
	case <-task.done:
	default:
		t.Error("a task waits for the events that were posted before it")
	}
	l.serveNext(flowShare)
	l.serveNext(flowShare)
	l.dirty, l.later = l.later, l.dirty
	if c.out.Empty() || l.flows.Jobs() != events {
		t.Errorf("the other app's event waits: %d of %d deliveries are left", l.flows.Jobs(), events+1)
	}
	left := l.flows.Jobs()
	if l.deliver(time.Now()); l.flows.Jobs() != left {
		t.Error("more is queued before what was queued the last time is written")
	}
	w.settle()
	l.deliver(time.Now().Add(-turnDeliverTime)) // its time is up at the first look at the clock
	if l.flows.Jobs() == 0 || l.flows.Jobs() < left-flowShare || !l.pending() || l.timeout() != 0 {
		t.Errorf("%d of %d deliveries are left after one more turn", l.flows.Jobs(), left)
	}
}

// checkTraffic compares what an app has counted with the channels that there are.
func (r *rig) checkTraffic(channels int, subscribed map[*channel]int) {
	total := 0
	for _, n := range subscribed {
		total += n
	}
	gotChannels, gotTotal := 0, 0
	for _, a := range r.hub.tables.Load().byID {
		for l := range a.perLoop {
			for k := range a.perLoop[l].kinds {
				t := &a.perLoop[l].kinds[k]
				gotChannels += int(t.occupied.Load() - t.vacated.Load())
				gotTotal += int(t.subscribed.Load() - t.unsubscribed.Load())
			}
		}
	}
	if gotChannels != channels || gotTotal != total {
		r.t.Errorf("%d channels and %d subscriptions are counted, %d and %d are there", gotChannels, gotTotal, channels, total)
	}
}

func succeeded(channel, data string) string {
	return string(protocol.EncodeEvent("pusher_internal:subscription_succeeded", []byte(data), channel))
}

func TestPublicChannel(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, b := r.connect(), r.connect()
		a.send(`{"event":"pusher:subscribe","data":{"channel":"news"}}`)
		b.send(`{"event":"pusher:subscribe","data":"{\"auth\":\"\",\"channel\":\"news\"}"}`)
		a.want(succeeded("news", "{}"))
		b.want(succeeded("news", "{}"))
		got := r.request("POST", "/apps/app-id/events", `{"name":"App\\Events\\E","data":"{\"a\":1.0}","channels":["news","none"],"info":"subscription_count"}`, nil)
		if want := `200 {"channels":{"news":{"subscription_count":2},"none":{"subscription_count":0}}}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		event := `{"event":"App\\Events\\E","data":"{\"a\":1.0}","channel":"news"}`
		a.want(event)
		b.want(event)
		r.request("POST", "/apps/app-id/events", `{"name":"e","data":"x","channel":"news","socket_id":"`+a.id+`"}`, nil)
		a.want()
		b.want(`{"event":"e","data":"x","channel":"news"}`)
		a.send(`{"event":"pusher:unsubscribe","data":{"channel":"news"}}`)
		a.send(`{"event":"pusher:unsubscribe","data":{"channel":"news"}}`)
		r.request("POST", "/apps/app-id/events", `{"name":"e","data":"x","channel":"news"}`, nil)
		a.want()
		b.want(`{"event":"e","data":"x","channel":"news"}`)
		if got, want := r.request("GET", "/apps/app-id/channels", "", map[string]string{"info": "subscription_count"}), `200 {"channels":{"news":{"subscription_count":1}}}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		b.nc.Close()
		synctest.Wait()
		if got, want := r.request("GET", "/apps/app-id/channels", "", nil), `200 {"channels":{}}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestRefusedSubscriptions(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a := r.connect()
		unauthorized := func(channel, reason string) []string {
			return []string{string(protocol.EncodeError(protocol.ErrUnauthorized)), string(protocol.EncodeSubscriptionError(channel, "AuthError", protocol.ErrUnauthorized.Message+": "+reason, 401))}
		}
		for _, channel := range []string{"private-a", "presence-a", "private-encrypted-a", "private-cache-a", "presence-cache-a", "private-encrypted-cache-a"} {
			a.send(`{"event":"pusher:subscribe","data":{"channel":"` + channel + `"}}`)
			a.want(unauthorized(channel, "no auth was given; the application's auth endpoint makes it")...)
			a.send(`{"event":"pusher:subscribe","data":{"auth":"app-key:00","channel":"` + channel + `"}}`)
			a.want(unauthorized(channel, "the signature must have 64 hexadecimal digits in lower case")...)
		}
		for _, data := range []string{`"x"`, `{}`, `[]`, `null`, `{"channel":null}`, `{"channel":[]}`, `{"channel":"a","auth":{}}`, `{"channel":"a","channel_data":{}}`, `{"channel":"a","channel_data":"x"}`} {
			a.send(`{"event":"pusher:subscribe","data":` + data + `}`)
			a.want(string(protocol.EncodeError(protocol.ErrFormat)))
		}
		// Reverb answers 4200 to what breaks it; what it takes and we do not has no code.
		for data, code := range map[string]string{`{"user_info":{}}`: "null", `{"user_id":null}`: "null", `{"user_id":""}`: "null", `{"user_id":"\ud83d"}`: "null", `[]`: "null", ``: "null",
			`{"user_id":"` + strings.Repeat("u", 201) + `"}`: "null", `{"user_id":[]}`: "4200", `5`: "4200", `{bad`: "4200"} {
			a.subscribe("presence-a", data)
			got := a.take()
			if !strings.HasPrefix(got, `{"event":"pusher:error","data":{"code":`+code+`,"message":"Invalid `) || !strings.Contains(got, `\"type\":\"InvalidChannelData\"`) {
				t.Errorf("%s: got %s", data, got)
			}
		}
		if got, want := r.request("GET", "/apps/app-id/channels", "", nil), `200 {"channels":{}}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// Every ending has a word and a reason that fits a close frame; every row of the table
// that closes has one of them, with its code.
func TestEndings(t *testing.T) {
	for _, e := range endings {
		if e.word == "" || len(e.reason) > 123 || !utf8.ValidString(e.reason) {
			t.Errorf("%+v: got no word, or a reason that does not fit a close frame", e)
		}
	}
	for i, e := range protocol.Errors() {
		end := pusherEndings[e.Row]
		if e.Row != i || (end == nil) != (e.Close == 0) || end != nil && (end.code != e.Close || end.word != e.Word || end.reason != e.Message || !slices.Contains(endings, end)) {
			t.Errorf("%+v: the ending is %+v", e, end)
		}
	}
}

// channelName is the name of a channel that is known to be one.
func channelName(s string) protocol.Name {
	name, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return name
}

// Endings are made by the function that registers them, and nowhere else. A word of refusal
// that stands in the text is one of those that metrics begin with.
func TestEndingsAreRegistered(t *testing.T) {
	ls, err := newLoops(1, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	words := newHub(nil, ls, new(testProgram)).refused.Counts()
	for _, file := range []string{"main.go", "ws.go", "pusher.go", "redis.go", "tls.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "newEnding" {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CompositeLit:
					if id, ok := n.Type.(*ast.Ident); ok && id.Name == "ending" {
						t.Errorf("%s: a %s is made without being registered", file, id.Name)
					}
				case *ast.CallExpr:
					if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "refuse" && len(n.Args) > 1 {
						if lit, ok := n.Args[0].(*ast.BasicLit); ok {
							if _, known := words[strings.Trim(lit.Value, `"`)]; !known {
								t.Errorf("%s: the refusal %s is not registered", file, lit.Value)
							}
						}
					}
				}
				return true
			})
		}
	}
}

// The reason for a refused name shows the character, over HTTP and the WebSocket.
func TestRefusedNameShowsTheCharacter(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a := r.connect()
		for name, shown := range map[string]string{`kanal-ü`: `"ü"`, `a\nb`: `"\u000a"`, `a\u202eb`: `"\u202e"`} {
			why := shown + " cannot stand in a channel name; letters, digits and _ - = @ , . ; can"
			if got := r.request("POST", "/apps/app-id/events", `{"name":"e","data":"x","channel":"`+name+`"}`, nil); !strings.HasPrefix(got, "400 ") || !strings.Contains(got, why) {
				t.Errorf("got %s, want %s", got, why)
			}
			a.send(`{"event":"pusher:subscribe","data":{"channel":"` + name + `"}}`)
			want := string(protocol.EncodeError(protocol.ErrChannelName.Because(why)))
			if got := a.take(); !strings.HasPrefix(got, want) || !strings.Contains(want, `"code":null`) {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

// Half a surrogate pair passes unchanged in data; a name cannot have it.
func TestHalfSurrogatePair(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, b := r.connect(), r.connect()
		member := `{"user_id":"1","user_info":{"n":"\ud83d"}}`
		b.subscribe("presence-x", `{"user_id":"2"}`)
		b.take() // or a, on another loop, may be first
		a.subscribe("presence-x", member)
		a.take()
		if got, want := b.take(), string(protocol.EncodeEvent("pusher_internal:member_added", []byte(member), "presence-x")); !strings.HasSuffix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
		a.send(`{"event":"client-x","channel":"presence-x","data":{"t":"cut \ud83d"}}`)
		b.want(`{"event":"client-x","data":{"t":"cut \ud83d"},"channel":"presence-x","user_id":"1"}`)
		a.want()
		for _, data := range []string{`"\ud83d"`, `"{\"t\":\"\\ud83d\"}"`} {
			if got := r.request("POST", "/apps/app-id/events", `{"name":"e","data":`+data+`,"channel":"presence-x"}`, nil); got != "200 {}" {
				t.Errorf("got %s", got)
			}
			a.want(`{"event":"e","data":` + data + `,"channel":"presence-x"}`)
			b.take()
		}
		for _, body := range []string{`{"name":"\ud83d","data":"x","channel":"c"}`, `{"name":"e","data":"x","channel":"\ud83d"}`, `{"name":"e","data":"x","channels":["\ud83d"]}`,
			`{"name":"e","data":"x","channel":"c","socket_id":"\ud83d"}`} {
			if got := r.request("POST", "/apps/app-id/events", body, nil); !strings.HasPrefix(got, "422 ") {
				t.Errorf("%s: got %s", body, got)
			}
		}
		for _, m := range []string{`{"event":"client-\ud83d","channel":"presence-x"}`, `{"event":"client-x","channel":"\ud83d"}`,
			`{"event":"pusher:subscribe","data":{"channel":"\ud83d"}}`, `{"event":"pusher:subscribe","data":"\ud83d"}`} {
			a.send(m)
			a.want(string(protocol.EncodeError(protocol.ErrFormat)))
		}
	})
}

// A refused subscription says why, to the client and to the log, and nothing secret.
func TestWhyASubscriptionIsRefused(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		var logged []string
		r.program().logf = func(word, who, why string) { logged = append(logged, word+" "+who+" "+why) }
		a := r.connect()
		with := func(secret, text string) string { return "app-key:" + protocol.Sign(secret, a.id+text) }
		for _, c := range []struct{ channel, auth, data, want string }{ // the causes are those of TestJudge in protocol
			{"private-x", with("wrong", ":private-x"), "", "the signature was made with another secret, or over another socket_id or channel"},
			{"presence-x", with("app-secret", ":presence-x"), "", "none was sent; a presence channel needs an object"},
			{"presence-x", with("app-secret", ":presence-x:{bad"), "{bad", "channel_data must hold JSON"},
		} {
			logged = nil
			d := map[string]string{"channel": c.channel, "auth": c.auth}
			if c.data != "" {
				d["channel_data"] = c.data
			}
			b, _ := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": d})
			a.send(string(b))
			var e struct{ Event, Data, Channel string }
			var told struct{ Error string }
			_, second, _ := strings.Cut(a.take(), "\n")
			json.Unmarshal([]byte(second), &e)
			json.Unmarshal([]byte(e.Data), &told)
			if e.Event != "pusher:subscription_error" || e.Channel != c.channel || !strings.Contains(told.Error, c.want) {
				t.Errorf("got %s, want %s", second, c.want)
			}
			line := strings.Join(logged, "|")
			if !strings.Contains(line, " pipe app app-id, channel "+strconv.Quote(c.channel)+", socket "+a.id+": ") || !strings.Contains(line, c.want) {
				t.Errorf("logged %s, want %s", line, c.want)
			}
		}
	})
}

// Behind a proxy the log names the client, and nobody else pays for that.
func TestAddressBehindProxy(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		who := ""
		r.program().logf = func(_, w, _ string) { who = w }
		for remote, want := range map[string]string{"192.0.2.7": "192.0.2.7", "[2001:db8::1]:4711": "2001:db8::1", "pipe": "pipe", "nonsense": "pipe"} {
			r.program().remote = func(*http.Request) string { return remote }
			a := r.connect()
			a.send(`{"event":"pusher:subscribe","data":{"channel":"private-x"}}`)
			if a.take(); who != want {
				t.Errorf("%s: got %s, want %s", remote, who, want)
			}
		}
	})
	if got := reflect.TypeFor[client]().Size(); got > 144 {
		t.Errorf("a client takes %d bytes; 144 is a size class", got)
	}
	if got := reflect.TypeFor[clientExtra]().Size(); got > 48 {
		t.Errorf("clientExtra takes %d bytes; 48 is a size class", got)
	}
}

func TestPresence(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, b, c := r.connect(), r.connect(), r.connect()
		a.subscribe("presence-x", `{"user_id":7,"user_info":{"n":1.0,"e":{}}}`)
		a.want(succeeded("presence-x", `{"presence":{"count":1,"ids":["7"],"hash":{"7":{"n":1.0,"e":{}}}}}`))
		b.subscribe("presence-x", `{"user_id":"0"}`)
		b.want(succeeded("presence-x", `{"presence":{"count":2,"ids":["7","0"],"hash":{"7":{"n":1.0,"e":{}},"0":null}}}`))
		a.want(`{"event":"pusher_internal:member_added","data":"{\"user_id\":\"0\"}","channel":"presence-x"}`)
		c.subscribe("presence-x", `{"user_id":"7","user_info":{"other":true}}`)
		c.want(succeeded("presence-x", `{"presence":{"count":2,"ids":["7","0"],"hash":{"7":{"n":1.0,"e":{}},"0":null}}}`))
		a.want()
		b.want()
		if got, want := r.request("GET", "/apps/app-id/channels/presence-x/users", "", nil), `200 {"users":[{"id":"7"},{"id":"0"}]}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := r.request("GET", "/apps/app-id/channels/presence-x", "", map[string]string{"info": "user_count,subscription_count"}), `200 {"occupied":true,"user_count":2,"subscription_count":3}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		a.send(`{"event":"client-t","channel":"presence-x","data":{"a":{}},"user_id":"666","extra":1}`)
		b.want(`{"event":"client-t","data":{"a":{}},"channel":"presence-x","user_id":"7"}`)
		c.want(`{"event":"client-t","data":{"a":{}},"channel":"presence-x","user_id":"7"}`)
		a.nc.Close() // user 7 is still here by c
		b.want()
		c.send(`{"event":"pusher:unsubscribe","data":{"channel":"presence-x"}}`)
		b.want(`{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"7\"}","channel":"presence-x"}`)
		b.subscribe("presence-x", `{"user_id":"9"}`) // as somebody else
		b.want(succeeded("presence-x", `{"presence":{"count":1,"ids":["9"],"hash":{"9":null}}}`))
	})
}

// foyer is two loops that do not run, and clients whose sockets take what the test says.
type foyer struct {
	t     *testing.T
	hub   *hub
	apps  []*app
	loops []*loop
	all   []*visitor
}

// visitor is a client of a foyer.
type visitor struct {
	*client
	got []byte // what its socket has taken, not read by the test
}

func newFoyer(t *testing.T, poolBytes int64) *foyer {
	t.Helper()
	ls, err := newLoops(2, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	other := testApp(func(a *appSettings) { a.id, a.key = "other", "other-key" })
	f := &foyer{t: t, hub: newHub([]*appSettings{testApp(nil), other}, ls, new(testProgram)), loops: ls.all}
	f.hub.registry.openDesks(poolBytes)
	known := f.hub.tables.Load().byID
	f.apps = []*app{known["app-id"], known["other"]}
	return f
}

func (f *foyer) enter(app, loop int) *visitor {
	v := &visitor{client: &client{hub: f.hub, app: f.apps[app], id: protocol.NewSocketID()}}
	v.handler, v.maxMessage = v.client, 10_000
	f.loops[loop].place(&v.conn)
	v.state, v.blocked, v.dirty = connOpen, true, true // the test flushes
	f.all = append(f.all, v)
	return v
}

// subscribe signs as the app would.
func (v *visitor) subscribe(channel, data string) {
	a := v.app.settings.Load()
	v.client.subscribe(protocol.Subscription{Channel: channel, ChannelData: []byte(data), Auth: a.key + ":" + protocol.Sign(a.secret, v.id.String()+":"+channel+":"+data)})
}

func (v *visitor) unsubscribe(channel string) {
	v.handleEvent(protocol.Event{Name: []byte("pusher:unsubscribe"), Data: []byte(`{"channel":"` + channel + `"}`)})
}

// flush lets the socket take so many bytes.
func (v *visitor) flush(n int) {
	v.blocked = false
	for ready, _ := v.ready(); n > 0 && ready; ready, _ = v.ready() {
		b := v.out.Next(nil)
		b = b[:min(n, len(b))]
		v.got, n = append(v.got, b...), n-len(b)
		v.out.Written(&v.loop.outs, len(b))
	}
	v.blocked = true
}

// end ends the connection as a failure does.
func (v *visitor) end() {
	v.state = connClosing
	v.handleClosed(endPeerGone)
	v.state = connClosed
	v.out.Clear(&v.loop.outs)
}

// texts takes the whole messages off what the socket has taken.
func (v *visitor) texts() (all []string) {
	for {
		h, n := parseFrameHeader(v.got)
		if n == 0 || len(v.got) < n+int(h.length) {
			return all
		}
		all = append(all, string(v.got[n:n+int(h.length)]))
		v.got = v.got[n+int(h.length):]
	}
}

// turn does what waits in the inbox of every loop and delivers all.
func (f *foyer) turn() {
	for _, l := range f.loops {
		l.supplied = 0
		for l.runTasks(); l.flows.Jobs() > 0; {
			l.serveNext(1000)
		}
		l.dirty = l.dirty[:0]
	}
}

// settle has all sockets take everything, until nothing is left.
func (f *foyer) settle() {
	for range 300 {
		f.turn()
		for _, v := range f.all {
			if v.state == connOpen {
				v.flush(math.MaxInt)
			}
		}
		time.Sleep(time.Millisecond) // in the bubble: pauses between lists pass
		synctest.Wait()
	}
	checkLists(f.t, f.hub)
}

// checkLists sees to it that nothing is left of lists of members. Nobody waits for one.
func checkLists(t *testing.T, h *hub) {
	t.Helper()
	for i, d := range h.registry.desks {
		if len(d.claims) > 0 {
			t.Errorf("loop %d has %d claims", i, len(d.claims))
		}
	}
	if ls := h.registry.lists; ls.Used() != 0 || ls.Waiting() != 0 {
		t.Errorf("%d bytes of lists are counted, %d listings wait", ls.Used(), ls.Waiting())
	}
}

// Every event after the moment of a joiner's list comes behind the list, once and in order;
// on a cache channel the last event before it, or cache_miss, stands between. The courses
// are random. An event's data is its number, and whoever is listed keeps its own list: with
// what it is told it must come to the same as the channel. What lists are and when they are
// made is tested in internal/memberlists.
func TestListsAndEvents(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) { listsAndEvents(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// course is what has happened on a channel of an app: to whom each of its events is not sent.
type course []protocol.SocketID

// guest is a visitor that reads what it gets.
type guest struct {
	*visitor
	views  map[string][]*view // of each subscription to the channel; what comes is for the first
	within *view              // the answer to a subscription to a cache channel is half read
}

// view is what a guest knows of a channel by one subscription.
type view struct {
	of      *course
	cache   bool
	answers int // given, and not read
	listed  bool
	next    int // event
	read    int // lists
	members map[string]bool
}

// given notes that the loop has given the subscription a list.
func (v *view) given() {
	if v.answers++; !v.listed {
		v.listed, v.next = true, len(*v.of)
	}
}

// skip goes on to the next event that is for id.
func (v *view) skip(id protocol.SocketID) {
	for v.next < len(*v.of) && (*v.of)[v.next] == id {
		v.next++
	}
}

// pull takes what the socket has taken, and holds it against what may come.
func (g *guest) pull(t *testing.T) {
	for _, text := range g.texts() {
		var e struct {
			Event, Channel string
			Data           any
		}
		var user struct {
			ID       string `json:"user_id"`
			Presence struct{ IDs []string }
		}
		json.Unmarshal([]byte(text), &e)
		data, _ := e.Data.(string)
		json.Unmarshal([]byte(data), &user)
		answer := e.Event == "pusher_internal:subscription_succeeded"
		all := g.views[e.Channel]
		for answer && len(all) > 0 && all[0].answers == 0 {
			all = all[1:]
		}
		if g.views[e.Channel] = all; len(all) == 0 || !answer && all[0].read == 0 || g.within != nil && g.within != all[0] {
			t.Fatalf("%s got %s", g.id, text)
		}
		if v := all[0]; !g.fits(v, e.Event, user.ID, user.Presence.IDs, e.Data) {
			t.Fatalf("%s got %s\nafter %+v", g.id, text, v)
		}
	}
}

func (g *guest) fits(v *view, event, user string, users []string, data any) bool {
	behind := g.within != nil // an answer
	switch g.within = nil; event {
	case "pusher_internal:subscription_succeeded":
		v.answers, v.read, v.members = v.answers-1, v.read+1, map[string]bool{}
		for _, id := range users {
			v.members[id] = true
		}
		if v.cache {
			g.within = v
		}
		return !behind && len(v.members) > 0
	case "pusher:cache_miss":
		return behind && (v.next == 0 || v.read > 1)
	case "pusher_internal:member_added", "pusher_internal:member_removed":
		known := v.members[user]
		if delete(v.members, user); event == "pusher_internal:member_added" {
			v.members[user] = true
		}
		return !behind && (known != v.members[user] || v.read > 1) // a second list is ahead of what waits
	}
	n := int(data.(float64))
	if behind {
		return n == v.next-1 || v.read > 1
	}
	v.skip(g.id)
	v.next++
	return n == v.next-1
}

func listsAndEvents(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	f := newFoyer(t, 40_000)
	channels := []string{"presence-a", "presence-cache-b"}
	courses := map[*app]map[string]*course{}
	for _, a := range f.apps {
		courses[a] = map[string]*course{channels[0]: {}, channels[1]: {}}
	}
	arrive := func(i int) *guest {
		return &guest{visitor: f.enter(i%2, i/2%2), views: map[string][]*view{}}
	}
	var guests []*guest
	for i := range 24 {
		guests = append(guests, arrive(i))
	}
	join := func(g *guest, name string) {
		id := strconv.Itoa(random.IntN(12))
		if s := g.find([]byte(name)); s == nil || s.member.ID != id {
			g.views[name] = append(g.views[name], &view{of: courses[g.app][name], cache: name == channels[1]})
		}
		g.subscribe(name, `{"user_id":"`+id+`","user_info":"`+strings.Repeat("x", random.IntN(3000))+`"}`)
	}
	// turn lets a loop do its tasks, and notes who was given a list.
	turn := func(l *loop) {
		waiting := f.hub.registry.desks[l.index].claims
		before := maps.Clone(waiting)
		l.supplied = 0
		l.runTasks()
		for s := range before {
			for _, g := range guests {
				if waiting[s] == nil && g.find([]byte(s.ch.name)) == s {
					all := g.views[s.ch.name]
					all[len(all)-1].given()
				}
			}
		}
		l.dirty, l.later = l.dirty[:0], l.later[:0]
	}
	for range 1500 {
		i := random.IntN(len(guests))
		g, name := guests[i], channels[random.IntN(2)]
		switch step := random.IntN(100); {
		case step < 20:
			join(g, name)
		case step < 24:
			g.unsubscribe(name)
		case step < 27: // both in one turn
			g.unsubscribe(name)
			join(g, name)
		case step < 29:
			g.end()
			guests[i] = arrive(i)
		case step < 37:
			c := courses[g.app][name]
			b := newEventBroadcast([]byte("e"), strconv.AppendInt(nil, int64(len(*c)), 10), name, "", protocol.SocketID{}, time.Now())
			if random.IntN(4) == 0 {
				b.except = g.id
			}
			*c = append(*c, b.except)
			f.hub.registry.publish(g.app, channelName(name), b, true)
		case step < 67:
			g.flush([]int{1, 100, 2000, math.MaxInt}[random.IntN(4)])
			g.pull(t)
		case step < 85:
			turn(f.loops[random.IntN(2)])
		case step < 97:
			if l := f.loops[random.IntN(2)]; l.flows.Jobs() > 0 {
				l.serveNext(1 + random.IntN(20))
				l.dirty = l.dirty[:0]
			}
		default:
			time.Sleep(time.Millisecond) // in the bubble
			synctest.Wait()
		}
	}
	for range 500 {
		for _, l := range f.loops {
			for turn(l); l.flows.Jobs() > 0; {
				l.serveNext(1000)
				l.dirty = l.dirty[:0]
			}
		}
		for _, g := range guests {
			g.flush(math.MaxInt)
			g.pull(t)
		}
		time.Sleep(time.Millisecond) // in the bubble
		synctest.Wait()
	}
	for _, g := range guests {
		for s := range g.all {
			name, members := s.ch.name, map[string]bool{}
			for _, m := range f.hub.registry.users(g.app, name) {
				members[m.ID] = true
			}
			v := g.views[name][0]
			if v.skip(g.id); len(g.views[name]) > 1 || v.answers > 0 || v.next != len(*v.of) || !maps.Equal(v.members, members) {
				t.Errorf("%s on %s is at %d of %d events, and knows %v of %v", g.id, name, v.next, len(*v.of), v.members, members)
			}
		}
	}
	checkLists(t, f.hub)
}

// A connection whose socket takes nothing has no list, and one that goes, in whatever way,
// leaves none behind; one that asks again and again gets one list a turn.
func TestListsAreGivenWhenTheyAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFoyer(t, maxListBytes)
		made := f.hub.registry.lists.Encoded
		data := func(i int) string { return `{"user_id":"` + strconv.Itoa(i) + `","user_info":{}}` }
		for i := range 20 { // half of them on each loop
			f.enter(0, i%2).subscribe("presence-x", data(i))
		}
		if f.turn(); made() != 0 {
			t.Errorf("%d lists were made for sockets that take nothing", made())
		}
		reading, blocked := f.all[:10], f.all[10:]
		for _, v := range reading {
			v.flush(math.MaxInt)
		}
		if f.turn(); made() != 1 {
			t.Errorf("%d lists were made for 10 who joined at once, want 1", made())
		}
		for i, v := range blocked { // they go, in all the ways
			switch i % 4 {
			case 0:
				v.unsubscribe("presence-x")
			case 1:
				v.unsubscribe("presence-x")
				v.subscribe("presence-x", data(1000+i))
			case 2:
				v.flush(math.MaxInt) // wanted, then gone
				v.end()
			case 3:
				v.close(endSlow)
				v.out.Clear(&v.loop.outs)
			}
		}
		f.settle()

		v, before := reading[0], made()
		for i := range 20 {
			for range 100 {
				v.subscribe("presence-x", `{"user_id":"0","user_info":`+strconv.Itoa(i)+`}`) // another list each turn
			}
			v.flush(math.MaxInt)
			f.turn()
			v.flush(math.MaxInt)
		}
		if n := made() - before; n > 40 {
			t.Errorf("%d lists were made in 20 turns for one who asks again and again", n)
		}
		for _, v := range f.all {
			if v.state == connOpen {
				v.end()
			}
		}
		f.settle()
	})
}

// The connection that keeps others waiting for their lists ends with a word of its own, and
// the others get theirs.
func TestSlowList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFoyer(t, 1) // one list at a time for each app
		slow, next := f.enter(0, 0), f.enter(0, 1)
		big := `{"user_id":"1","user_info":"` + strings.Repeat("x", 9000) + `"}`
		for _, v := range []*visitor{slow, next} {
			v.subscribe("presence-"+v.id.String(), big)
			v.flush(1)
			f.turn()
			v.flush(1)
		}
		for range 20 {
			time.Sleep(time.Second) // in the bubble
			synctest.Wait()
			f.turn()
		}
		if slow.state != connClosing || f.hub.closed.Of("slow_list").Load() != 1 {
			t.Fatal("it is not closed, and another waits")
		}
		slow.out.Clear(&slow.loop.outs)
		f.turn()
		if next.flush(math.MaxInt); next.state != connOpen || len(next.texts()) != 1 {
			t.Error("the other has no list")
		}
		f.settle()
	})
}

// The limits of presence channels are told with a code of null. A user who is there
// already counts once.
func TestPresenceLimits(t *testing.T) {
	withRig(t, func(a *appSettings) { a.maxMembers, a.maxMemberSize = 2, 20 }, func(r *rig) {
		a, b, c := r.connect(), r.connect(), r.connect()
		refused := func(c *testClient, e *protocol.Error, reason string) {
			t.Helper()
			e = e.Because(reason)
			c.want(`{"event":"pusher:error","data":{"code":null,"message":"`+e.Message+`"}}`,
				string(protocol.EncodeSubscriptionError("presence-x", "LimitReached", e.Message, e.Status)))
		}
		a.subscribe("presence-x", `{"user_id":"1"}`)
		a.take() // or b comes first
		b.subscribe("presence-x", `{"user_id":"2"}`)
		b.take()
		a.take()
		c.subscribe("presence-x", `{"user_id":"3"}`)
		refused(c, protocol.ErrMembers, "a presence channel of this app can have 2")
		c.subscribe("presence-x", `{"user_id":"12345678"}`)
		refused(c, protocol.ErrMemberSize, "it has 22 bytes, 20 are allowed")
		c.subscribe("presence-x", `{"user_id":"2"}`) // the second connection of one who is there
		c.want(succeeded("presence-x", `{"presence":{"count":2,"ids":["1","2"],"hash":{"1":null,"2":null}}}`))
		a.want()
		a.send(`{"event":"pusher:unsubscribe","data":{"channel":"presence-x"}}`)
		synctest.Wait() // or b comes first
		b.subscribe("presence-x", `{"user_id":"3"}`)
		if got := b.take(); !strings.HasSuffix(got, succeeded("presence-x", `{"presence":{"count":2,"ids":["2","3"],"hash":{"2":null,"3":null}}}`)) {
			t.Errorf("got %s", got)
		}
	})
}

func TestPresenceOrderUnderChurn(t *testing.T) {
	var p presence
	var want []string
	rng := rand.New(rand.NewPCG(1, 2))
	members := map[string]*protocol.Member{}
	for i := range 5000 {
		id := strconv.Itoa(rng.IntN(200))
		if at := slices.Index(want, id); at >= 0 && rng.IntN(3) > 0 {
			if !p.remove(members[id]) {
				t.Fatalf("step %d: %s stays", i, id)
			}
			want = slices.Delete(want, at, at+1)
		} else if at < 0 {
			members[id] = &protocol.Member{ID: id}
			if !p.add(members[id]) {
				t.Fatalf("step %d: %s was there", i, id)
			}
			want = append(want, id)
		}
		if len(p.order) > 2*len(p.users)+17 {
			t.Fatalf("step %d: %d places for %d users", i, len(p.order), len(p.users))
		}
	}
	var got []string
	for _, m := range p.list() {
		got = append(got, m.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCacheChannel(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, b := r.connect(), r.connect()
		miss := string(protocol.EncodeEvent("pusher:cache_miss", []byte("{}"), "private-encrypted-cache-x"))
		a.subscribe("private-encrypted-cache-x", "")
		a.want(succeeded("private-encrypted-cache-x", "{}"), miss)
		a.send(`{"event":"client-x","channel":"private-encrypted-cache-x","data":1}`)
		synctest.Wait() // or b may be there in time to hear it
		b.subscribe("private-encrypted-cache-x", "")
		b.want(succeeded("private-encrypted-cache-x", "{}"), miss)
		a.nc.Close()
		b.nc.Close()
		synctest.Wait()
		r.request("POST", "/apps/app-id/events", `{"name":"e","data":"x","channel":"private-encrypted-cache-x"}`, nil) // nobody is there
		c := r.connect()
		event := `{"event":"e","data":"x","channel":"private-encrypted-cache-x"}`
		c.subscribe("private-encrypted-cache-x", "")
		c.want(succeeded("private-encrypted-cache-x", "{}"), event)
		if got, want := r.request("GET", "/apps/app-id/channels/private-encrypted-cache-x", "", map[string]string{"info": "cache"}), `200 {"occupied":true,"cache":`+event+`}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		c.nc.Close()
		synctest.Wait()
		time.Sleep(cachedEventLife) // in the bubble: no time passes
		d := r.connect()
		d.subscribe("private-encrypted-cache-x", "")
		d.want(succeeded("private-encrypted-cache-x", "{}"), miss)
	})
}

// One app's cached events do not push out another's (internal/lib/lastevents has the rest).
func TestCacheIsBoundedByApp(t *testing.T) {
	a, b := testApp(nil), testApp(func(a *appSettings) { a.id, a.key = "other", "other-key" })
	ls, err := newLoops(1, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	h := newHub([]*appSettings{a, b}, ls, new(testProgram))
	now := time.Unix(0, 0)
	publish := func(app string, channel int, message []byte) {
		h.registry.publish(h.tables.Load().byID[app], channelName("cache-"+strconv.Itoa(channel)), newBroadcast(message, protocol.SocketID{}, now), true)
	}
	for i := range 200 {
		publish("app-id", i, []byte("x"))
	}
	large := make([]byte, 9000)
	for i := range 9000 {
		publish("other", i, large)
	}
	left := 0
	for i := range 200 {
		if h.registry.channelStats(h.tables.Load().byID["app-id"], channelName("cache-"+strconv.Itoa(i)), now).Cached != nil {
			left++
		}
	}
	if left != 200 {
		t.Errorf("%d of 200 events are left after another app has published 9,000", left)
	}
	if newest := h.registry.channelStats(h.tables.Load().byID["other"], channelName("cache-8999"), now); newest.Cached == nil {
		t.Error("the other app's newest event is not there")
	}
}

// The cluster drops topics one by one, also those of an app that is configured no more.
func TestChannelsOfAFormerAppGo(t *testing.T) {
	a, b := testApp(nil), testApp(nil)
	b.id, b.key = "other", "other-key"
	ls, err := newLoops(1, new(atomic.Int64), poll.New)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub([]*appSettings{a, b}, ls, new(testProgram))
	first := h.tables.Load().byID["other"]
	h.registry.Snapshot("other:presence-x", []string{"7"}, []string{"{}"}, "", 0)
	sh, _ := h.registry.place(first, "presence-x")
	if n := sh.channels.Len(); n != 1 {
		t.Fatalf("%d channels, want 1", n)
	}
	h.configure([]*appSettings{a}, tables{})
	h.registry.Dropped("other:presence-x")
	if sh.channels.Len() != 0 || !first.gone.Load() || h.tables.Load().byKey["other-key"] != nil {
		t.Errorf("%d channels of the former app are left", sh.channels.Len())
	}
	h.configure([]*appSettings{a, b}, tables{})
	if tables := h.tables.Load(); tables.byKey["other-key"] != first || first.gone.Load() || len(tables.former) != 0 {
		t.Error("the app did not come back as the one that it was")
	}
}

func TestClientEvents(t *testing.T) {
	for _, c := range []struct {
		policy                      clientEventPolicy
		memberPublic, memberPrivate *protocol.Error
		stranger                    *protocol.Error
	}{
		{clientEventsMembers, nil, nil, protocol.ErrNotMember},
		{clientEventsAll, nil, nil, nil},
		{clientEventsNone, protocol.ErrNoClientEvent, protocol.ErrNoClientEvent, protocol.ErrNoClientEvent},
		{clientEventsPrivate, protocol.ErrNoClientEvent, nil, protocol.ErrNotMember},
	} {
		withRig(t, func(a *appSettings) { a.clientEvents = c.policy }, func(r *rig) {
			a, b, stranger := r.connect(), r.connect(), r.connect()
			for _, cl := range []*testClient{a, b} {
				cl.subscribe("pub", "")
				cl.subscribe("private-x", "")
				cl.take()
			}
			check := func(from *testClient, channel string, want *protocol.Error) {
				t.Helper()
				from.send(`{"event":"client-x","channel":"` + channel + `","data":{"f":1.0,"o":{}}}`)
				if want != nil {
					from.want(string(protocol.EncodeError(want)))
					b.want()
					return
				}
				from.want()
				b.want(`{"event":"client-x","data":{"f":1.0,"o":{}},"channel":"` + channel + `"}`)
			}
			check(a, "pub", c.memberPublic)
			check(a, "private-x", c.memberPrivate)
			check(stranger, "private-x", c.stranger)
		})
	}
}

// A client that subscribes again to a private channel speaks as whom it was signed for
// last.
func TestClientEventAfterSubscribingAgain(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, b := r.connect(), r.connect()
		a.subscribe("private-x", `{"user_id":"1"}`)
		a.subscribe("private-x", `{"user_id":"2"}`)
		b.subscribe("private-x", "")
		b.take()
		a.send(`{"event":"client-x","channel":"private-x","data":1}`)
		b.want(`{"event":"client-x","data":1,"channel":"private-x","user_id":"2"}`)
	})
}

func TestMalformedMessages(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a := r.connect()
		for _, m := range []string{"", "{", "[]", "5", "null", `"x"`, "{}", `{"event":null}`, `{"event":5}`, `{"event":""}`, `{"event":"pusher:nothing"}`,
			`{"event":"pusher:signin","data":{}}`, `{"event":"other"}`, `{"event":"client-x"}`, `{"event":"client-x","channel":""}`, `{"event":"client-x","channel":5}`,
			`{"event":"\ud800"}`, "\ufeff{}", strings.Repeat("[", 600) + strings.Repeat("]", 600)} {
			a.send(m)
			a.want(string(protocol.EncodeError(protocol.ErrFormat)))
		}
		a.sendFrame(opBinary, "\xff\xfe")
		a.want(string(protocol.EncodeError(protocol.ErrFormat)))
		a.sendFrame(opBinary, `{"event":"pusher:ping"}`)
		a.want(string(messagePong))
		a.send(`{"event":"other","channel":"x"}`)
		a.send(`{"event":"pusher:pong","data":{}}`)
		a.want()
	})
}

// TestDataOfPusherEvents: a heartbeat is never refused for its data. The first values
// are empty as PHP's empty() has it; the next are empty once Reverb has decoded the
// string (php 8.2; Reverb: src/Protocols/Pusher/Server.php); the last are not empty.
func TestDataOfPusherEvents(t *testing.T) {
	values := []string{`""`, `"0"`, `"\u0030"`, `0`, `0.0`, `-0`, `-0.0`, `0e5`, `0E+1`, `-0e-3`, `1e-400`, `false`, `null`, `[]`, `[ ]`, `{}`,
		`"0.0"`, `"-0"`, `"false"`, `"null"`, `"[]"`, `"{}"`, `"\"\""`, `"\"0\""`,
		`"x"`, `" "`, `"00"`, `"\u0000"`, `5`, `-1`, `1e-323`, `true`, `[0]`, `[[]]`, `{"a":1}`, `"{"`, `"` + strings.Repeat("x", 5000) + `"`}
	limited := func(a *appSettings) { a.limit = rateLimit{true, 2 * len(values), time.Minute, false} } // heartbeats are free, the others are not
	withRig(t, limited, func(r *rig) {
		a := r.connect()
		for _, v := range values {
			a.send(`{"event":"pusher:ping","data":` + v + `}`)
			a.want(string(messagePong))
			a.send(`{"event":"pusher:pong","data":` + v + `}`)
			a.want()
			for _, name := range []string{"subscribe", "unsubscribe"} {
				a.send(`{"event":"pusher:` + name + `","data":` + v + `}`)
				a.want(string(protocol.EncodeError(protocol.ErrFormat)))
			}
		}
		a.send(`{"event":"pusher:subscribe","data":""}`)
		a.want(string(protocol.EncodeError(protocol.ErrRateLimit)))
		a.send(`{"event":"pusher:ping","data":""}`)
		a.want(string(messagePong))
	})
}

func TestRefusedConnections(t *testing.T) {
	withRig(t, func(a *appSettings) { a.allowedOrigins, a.maxConnections = []string{"laravel.com"}, 1 }, func(r *rig) {
		refused := func(e *protocol.Error) []string {
			return []string{string(protocol.EncodeError(e)), fmt.Sprintf("close %d %s", e.Close, e.Message)}
		}
		r.dial("/app/nope").want(refused(protocol.ErrUnknownApp)...)
		r.dial("/app/app-key").want(refused(protocol.ErrOrigin)...)
		r.dial("/app/app-key", "Origin: https://evil.com").want(refused(protocol.ErrOrigin)...)
		first := r.dial("/app/app-key", "Origin: https://laravel.com")
		if got := first.take(); !strings.Contains(got, "connection_established") {
			t.Errorf("got %s", got)
		}
		r.dial("/app/app-key", "Origin: https://laravel.com").want(refused(protocol.ErrOverQuota)...)
		first.nc.Close()
		synctest.Wait()
		if got := r.dial("/app/app-key", "Origin: https://laravel.com").take(); !strings.Contains(got, "connection_established") {
			t.Errorf("got %s", got)
		}
		r.program().full = func() bool { return true }
		r.dial("/app/app-key", "Origin: https://laravel.com").want(refused(protocol.ErrOverCapacity)...)
	})
}

func TestHeartbeat(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		silent, answering, frames := r.connect(), r.connect(), r.connect()
		frames.sendFrame(opPing, "x")
		frames.want("frame 10 x")
		time.Sleep(62 * time.Second) // in the bubble: no time passes
		silent.want(string(messagePing))
		answering.want(string(messagePing))
		frames.want("frame 9 ")
		answering.send(`{"event":"pusher:pong","data":{}}`)
		frames.sendFrame(opPong, "")
		time.Sleep(31 * time.Second)
		silent.want(string(protocol.EncodeError(protocol.ErrNoPong)), "close 4201 "+protocol.ErrNoPong.Message, "eof")
		answering.want()
		frames.want()
		time.Sleep(30 * time.Second)
		answering.want(string(messagePing)) // 60 seconds after its pong
	})
}

func TestRateLimit(t *testing.T) {
	for _, terminate := range []bool{false, true} {
		withRig(t, func(a *appSettings) { a.limit = rateLimit{true, 3, time.Minute, terminate} }, func(r *rig) {
			a := r.connect()
			for range 3 {
				a.send("{bad")
				a.want(string(protocol.EncodeError(protocol.ErrFormat)))
				a.send(`{"event":"pusher:ping"}`)
				a.want(string(messagePong))
			}
			a.send("{bad")
			if terminate {
				a.want(string(protocol.EncodeError(protocol.ErrRateLimit)), "close 1008 "+protocol.ErrRateLimit.Message)
				return
			}
			a.want(string(protocol.EncodeError(protocol.ErrRateLimit)))
			time.Sleep(59 * time.Second)
			a.send("{bad")
			a.want(string(protocol.EncodeError(protocol.ErrRateLimit)))
			time.Sleep(2 * time.Second)
			a.take()
			a.send("{bad")
			a.want(string(protocol.EncodeError(protocol.ErrFormat)))
		})
	}
}

func TestTerminateAndDrain(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, b, other := r.connect(), r.connect(), r.connect()
		a.subscribe("presence-x", `{"user_id":1}`)
		b.subscribe("presence-y", `{"user_id":"1"}`)
		other.subscribe("presence-x", `{"user_id":"2"}`)
		a.take()
		b.take()
		other.take()
		if got := r.request("POST", "/apps/app-id/users/1/terminate_connections", "{}", nil); got != "200 {}" {
			t.Errorf("got %s", got)
		}
		for _, c := range []*testClient{a, b} {
			c.want(string(protocol.EncodeError(protocol.ErrTerminated)), "close 4009 "+protocol.ErrTerminated.Message)
		}
		other.want(`{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"1\"}","channel":"presence-x"}`)
		r.stopped = true
		r.hub.loops.stop(2 * time.Second)
		other.want(string(protocol.EncodeError(protocol.ErrRestart)), "close 4200 "+protocol.ErrRestart.Message, "eof")
	})
}

func TestManySubscriptions(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a := r.connect()
		for i := range 100 {
			a.subscribe("c"+strconv.Itoa(i), "")
		}
		a.take()
		r.checkConsistency()
		for i := range 50 {
			a.send(`{"event":"pusher:unsubscribe","data":{"channel":"c` + strconv.Itoa(2*i) + `"}}`)
		}
		a.take()
		if got := r.request("GET", "/apps/app-id/channels/c1", "", map[string]string{"info": "subscription_count"}); got != `200 {"occupied":true,"subscription_count":1}` {
			t.Errorf("got %s", got)
		}
	})
}

// liveHeap is how many bytes of the heap are in use.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what sync.Pool holds goes at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// addClient adds a connection without a subscription.
func (w *crowd) addClient() *client {
	c := &client{hub: w.hub, app: w.app, id: protocol.NewSocketID()}
	c.handler, c.maxMessage = c, 10_000
	w.loop.place(&c.conn)
	c.state, c.blocked = connOpen, true
	return c
}

func (w *crowd) join(c *client, channel string) {
	s, _ := w.hub.registry.join(c, channel, protocol.Kind{}, nil, time.Now())
	c.addSubscription(s)
}

// What a peer can claim with 60 bytes: a subscription to a channel of its own. It took
// 383 bytes of heap once.
func TestMemoryOfSubscriptions(t *testing.T) {
	w := newCrowd(t, 0)
	var clients []*client
	for range 10 {
		clients = append(clients, w.addClient())
	}
	const each = 10_000
	before := liveHeap()
	for i, c := range clients {
		for j := range each {
			w.join(c, "a-channel-of-its-own-"+strconv.Itoa(i*each+j))
		}
	}
	if got := (liveHeap() - before) / int64(each*len(clients)); got > 190 {
		t.Errorf("a subscription to a channel of its own takes %d bytes, want 190 at most", got)
	}
	for _, c := range clients {
		c.handleClosed(endPeerGone)
	}
	if got := liveHeap() - before; got > 1<<20 {
		t.Errorf("%d bytes are left of 100,000 subscriptions that are gone", got)
	}
	runtime.KeepAlive(w)
}

// Unsubscribing takes the same time however many subscriptions there are: with a walk
// through all of them this takes many times as long as making them.
func TestUnsubscribingIsConstantTime(t *testing.T) {
	w := newCrowd(t, 0)
	c := w.addClient()
	const n = 200_000
	begin := time.Now()
	for i := range n {
		w.join(c, strconv.Itoa(i))
	}
	made := time.Since(begin)
	begin = time.Now()
	for i := range 5000 {
		c.removeSubscription(c.find([]byte(strconv.Itoa(i)))) // the oldest
	}
	if took := time.Since(begin); took > made {
		t.Errorf("making %d subscriptions took %v, ending 5,000 of them %v", n, made, took)
	}
}

// BenchmarkSubscriptionPair is the oldest of 10,000 subscriptions that ends, and is made
// again.
func BenchmarkSubscriptionPair(b *testing.B) {
	w := newCrowd(b, 0)
	c := w.addClient()
	const n = 10_000
	names := make([]string, n)
	for i := range names {
		names[i] = "channel-" + strconv.Itoa(i)
		w.join(c, names[i])
	}
	i := 0
	for b.Loop() {
		c.removeSubscription(c.find([]byte(names[i])))
		w.join(c, names[i])
		if i++; i == n {
			i = 0
		}
	}
}

// TestMembersModel compares a channel's lists with plain ones while places on three loops
// are made, filled and given up.
func TestMembersModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		const loops = 3
		ch := &channel{app: &app{perLoop: make([]perLoop, loops)}}
		var want [loops]map[*subscription]bool
		var waiting [loops]int // places that are not filled
		for i := range want {
			want[i] = map[*subscription]bool{}
		}
		for step := range rng.IntN(60) {
			l := rng.IntN(loops)
			switch rng.IntN(3) {
			case 0:
				ch.reserveLocked(l, loops)
				waiting[l]++
			case 1:
				if waiting[l] > 0 {
					waiting[l]--
					s := &subscription{ch: ch}
					s.index = ch.addLocked(l, subscriber{client: new(client), sub: s})
					want[l][s] = true
				}
			case 2:
				for s := range want[l] {
					ch.removeLocked(l, s.index)
					delete(want[l], s)
					break
				}
			}
			all := 0
			for l := range want {
				list := ch.members(l)
				all += len(want[l]) + waiting[l]
				if len(list) != len(want[l]) || int(ch.placesLocked(l)) != len(list)+waiting[l] {
					t.Fatalf("round %d, step %d: loop %d has %d members on %d places, want %d and %d", round, step, l, len(list), ch.placesLocked(l), len(want[l]), waiting[l])
				}
				for i, at := range list {
					if !want[l][at.sub] || int(at.sub.index) != i {
						t.Fatalf("round %d, step %d: loop %d has a member that it should not have at %d", round, step, l, i)
					}
				}
			}
			if int(ch.count) != all {
				t.Fatalf("round %d, step %d: counts %d, want %d", round, step, ch.count, all)
			}
		}
	}
}

func TestMaxSubscriptions(t *testing.T) {
	withRig(t, func(a *appSettings) { a.maxSubscribed = 2 }, func(r *rig) {
		a := r.connect()
		for _, channel := range []string{"one", "two", "two", "three"} {
			a.subscribe(channel, "")
		}
		full := protocol.ErrSubscriptions.Because("a connection can hold 2")
		a.want(succeeded("one", "{}"), succeeded("two", "{}"), succeeded("two", "{}"),
			string(protocol.EncodeError(full)), string(protocol.EncodeSubscriptionError("three", "LimitReached", full.Message, 429)))
		a.send(`{"event":"pusher:unsubscribe","data":{"channel":"one"}}`)
		a.subscribe("three", "")
		a.want(succeeded("three", "{}"))
	})
}

func TestConnectionsPerAddress(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		r.program().remote = func(r *http.Request) string { return r.Header.Get("X-From") }
		limited := tables{maxRequestSize: 10_000, authWindow: time.Minute, maxPerAddress: 2}
		r.hub.configure(r.apps, limited)
		dial := func(from string, ok bool) *testClient {
			t.Helper()
			c := r.dial("/app/app-key", "X-From: "+from)
			if got := c.take(); strings.HasPrefix(got, `{"event":"pusher:connection_established"`) != ok ||
				!ok && got != string(protocol.EncodeError(protocol.ErrAddressLimit))+"\nclose 4100 "+protocol.ErrAddressLimit.Message {
				t.Errorf("from %s: got %s", from, got)
			}
			return c
		}
		first := dial("192.0.2.1:1", true)
		dial("192.0.2.1:2", true)
		dial("[::ffff:192.0.2.1]:3", false)
		dial("192.0.2.2:1", true)
		dial("[2001:db8::1]:1", true)
		dial("2001:db8::ffff:1", true)
		dial("[2001:db8::2]:1", false)
		dial("[2001:db8:0:1::2]:1", true)
		for range 3 {
			dial("@", true) // a Unix socket has no address
		}
		first.nc.Close()
		synctest.Wait()
		dial("192.0.2.1:4", true)
		dial("192.0.2.1:5", false)
		if n := r.hub.refused.Of("address_limit").Load(); n != 3 {
			t.Errorf("%d connections were counted as refused, want 3", n)
		}
		unknown := r.dial("/app/unknown", "X-From: 192.0.2.9:1")
		if got := unknown.take(); !strings.Contains(got, "close 4001") {
			t.Errorf("got %s", got)
		}
		limited.maxPerAddress = 0
		r.hub.configure(r.apps, limited)
		dial("192.0.2.1:6", true)
		for _, c := range r.all {
			c.nc.Close()
		}
		synctest.Wait()
		if n := r.hub.addresses.Len(); n != 0 {
			t.Errorf("%d addresses are still counted", n)
		}
	})
}

// A connection that never got in is not counted off.
func TestAddressOfAnAppThatIsGone(t *testing.T) {
	w := newCrowd(t, 0)
	w.hub.configure([]*appSettings{w.app.settings.Load()}, tables{maxPerAddress: 2})
	stays, goes := w.addClient(), w.addClient()
	stays.setRemote("192.0.2.1")
	goes.setRemote("192.0.2.1:2")
	stays.handleOpen(0)
	w.app.gone.Store(true)
	goes.handleOpen(0)
	if n := w.hub.addresses.Len(); n != 1 {
		t.Errorf("%d addresses are counted, want that of the connection that stays", n)
	}
	stays.handleClosed(endPeerGone)
	if n := w.hub.addresses.Len(); n != 0 {
		t.Errorf("%d addresses are counted", n)
	}
}

func TestShortMemory(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a := r.connect()
		a.subscribe("before", "")
		a.want(succeeded("before", "{}"))
		r.hub.short.Store(true)
		a.subscribe("after", "")
		a.subscribe("before", "")
		a.want(string(protocol.EncodeError(protocol.ErrMemory)), string(protocol.EncodeSubscriptionError("after", "MemoryShort", protocol.ErrMemory.Message, 503)), succeeded("before", "{}"))
		r.hub.short.Store(false)
		a.subscribe("after", "")
		a.want(succeeded("after", "{}"))
		r.hub.tables.Load().byID["app-id"].held.Store(true)
		a.send(`{"event":"client-x","channel":"after","data":1}`)
		a.want(string(protocol.EncodeError(protocol.ErrMemory)))
		if n := r.hub.refused.Of("memory").Load(); n != 2 {
			t.Errorf("%d were counted as refused, want 2", n)
		}
	})
}

// When memory is nearly used up, the connections for which most waits are closed, and the
// apps whose connections hold most are held.
func TestRelieve(t *testing.T) {
	w := newCrowd(t, 0)
	other := testApp(func(a *appSettings) { a.id, a.key = "other", "other-key" })
	w.hub.configure([]*appSettings{w.app.settings.Load(), other}, tables{})
	second := w.hub.tables.Load().byID["other"]
	var clients []*client
	for i := range 12 {
		c := w.addClient()
		c.send(make([]byte, 1000+i*20_000))
		if i == 1 {
			c.app = second
		}
		clients = append(clients, c)
	}
	relieve := func() int {
		closed := make(chan int, 1)
		go func() { closed <- w.hub.relieve(t.Context()) }()
		for {
			w.loop.runTasks()
			select {
			case n := <-closed:
				w.loop.runTasks()
				return n
			default:
				runtime.Gosched()
			}
		}
	}
	n := relieve()
	for i, c := range clients {
		if want := i < 2; (c.state == connOpen) != want {
			t.Errorf("connection %d is open: %v", i, !want)
		}
	}
	if n != 10 || w.hub.closed.Of(endMemory.word).Load() != 10 {
		t.Errorf("%d connections were to be closed, %d are counted", n, w.hub.closed.Of(endMemory.word).Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if letsIn(ctx, w.hub, w.app) || !letsIn(ctx, w.hub, second) {
		t.Error("an app that is held publishes, or one that is not does not")
	}
	if n := relieve(); n != 1 || w.app.held.Load() {
		t.Errorf("%d connections were closed then, or the app is held for a few bytes", n)
	}
	if clients[0].shedQueue(); clients[0].state != connOpen {
		t.Error("a connection is closed for which little waits")
	}
	second.undelivered.Store(maxUndelivered/16 + 1)
	if n := w.hub.relieve(ctx); n != 0 || w.app.held.Load() || !second.held.Load() {
		t.Error("the app alone is to be held that has events on a loop that does not answer")
	}
	w.app.held.Store(true)
	w.hub.configure([]*appSettings{other}, tables{}) // the app may come back
	if w.hub.unhold(); w.app.held.Load() {
		t.Error("the app is held for ever")
	}
	links := 0
	for _, c := range clients {
		for range c.out.All {
			links++
		}
	}
	if n := w.loop.outs.Links(); n != links {
		t.Errorf("%d slices are counted, %d are in queues", n, links)
	}
}

// letsIn says whether an event of a may be published.
func letsIn(ctx context.Context, h *hub, a *app) bool {
	done, fail := h.awaitRoom(ctx, a)
	if fail == nil {
		done()
	}
	return fail == nil
}

// Events that wait count with what they take if nobody reads them.
func TestCrowded(t *testing.T) {
	w := newCrowd(t, 100)
	publish := func() {
		w.hub.registry.publish(w.app, channelName("news"), newBroadcast(messagePing, protocol.SocketID{}, time.Now()), false)
	}
	publish()
	if w.loop.group.crowded() {
		t.Error("crowded without a limit")
	}
	w.loop.group.setRoom(w.loop.group.claimed(), 0)
	n := 0
	for ; !w.loop.group.crowded(); n++ {
		publish()
	}
	if took := n * 100 * outqueue.LinkBytes; took < leastRoom/2 || took > leastRoom {
		t.Errorf("%d events to 100 members are let in for %d bytes", n, leastRoom)
	}
	before := w.loop.group.claimed()
	for w.loop.runTasks(); w.loop.flows.Jobs() > 0; {
		w.loop.serveNext(flowShare) // what waited for the loop waits for the peers now
	}
	if after := w.loop.group.claimed(); !w.loop.group.crowded() && after < before*9/10 || w.loop.outs.Links() != (n+1)*100 || w.loop.owed.Load() != 0 {
		t.Errorf("%d bytes are claimed then, %d before, %d slices wait", after, before, w.loop.outs.Links())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.loop.group.setRoom(w.loop.group.claimed()-leastRoom-1, 0)
	if letsIn(ctx, w.hub, w.app) {
		t.Error("an event is let in although there is no room")
	}
	w.loop.group.setRoom(w.loop.group.claimed(), 1<<30)
	if !letsIn(ctx, w.hub, w.app) {
		t.Error("no event is let in although there is room")
	}
}

func TestAPIErrors(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		post := func(body string) string { return r.request("POST", "/apps/app-id/events", body, nil) }
		for body, want := range map[string]string{
			"{":    "400 Bad request: the body is not JSON: invalid JSON at byte 1: it ends too early.",
			"\xff": "400 Bad request: the body is not UTF-8.",
			"{}":   `422 {"name":["The name field is required."],"data":["The data field is required."],"channels":["The channels field is required when channel is not present."],"channel":["The channel field is required when channels is not present."]}`,
			`{"name":"e","data":{"a":1},"channel":"c"}`:                                   `422 {"data":["The data field must be a string."]}`,
			`{"name":"e","data":"x","channel":"a b"}`:                                     `400 Bad request: channel "a b": " " cannot stand in a channel name; letters, digits and _ - = @ , . ; can.`,
			`{"name":"e","data":"x","channels":["c` + strings.Repeat(`","c`, 100) + `"]}`: "400 Bad request: the event is for 101 channels; 100 are allowed.",
			`{"name":"` + strings.Repeat("e", 201) + `","data":"x","channel":"c"}`:        "400 Bad request: the event's name has 201 bytes; 200 are allowed.",
			`{"name":"e","data":"` + strings.Repeat("x", 10_000) + `","channel":"c"}`:     "413 Payload too large: the body has 10036 bytes, REVERB_MAX_REQUEST_SIZE allows 10000.",
			`{"name":"e","data":"x","channel":"#server-to-user-1"}`:                       "200 {}",
			`{"name":"e","data":"x","channel":"c","socket_id":"unknown"}`:                 "200 {}",
			`{"batch":[{"name":"e","data":"x","channel":"c"}]}`:                           `422 {"name":["The name field is required."],"data":["The data field is required."],"channels":["The channels field is required when channel is not present."],"channel":["The channel field is required when channels is not present."]}`,
		} {
			if got := post(body); got != want {
				t.Errorf("%.60q: got %s, want %s", body, got, want)
			}
		}
		for path, want := range map[string]string{
			"GET /apps/nope/channels":      "404 No matching application for ID [nope].",
			"GET /nope":                    "404 Not found.",
			"GET /apps/app-id/events":      "405 Method not allowed.",
			"POST /up":                     "405 Method not allowed.",
			"GET /up":                      `200 {"health":"OK"}`,
			"GET //up":                     `200 {"health":"OK"}`,
			"GET /apps/app-id/channels/":   "404 Not found.",
			"GET /apps/app-id/connections": `200 {"connections":0}`,
			"GET /apps/app-id/channels/presence-none": `200 {"occupied":false}`,
		} {
			method, p, _ := strings.Cut(path, " ")
			if got := r.request(method, p, "", nil); got != want {
				t.Errorf("%s: got %s, want %s", path, got, want)
			}
		}
		batch := `{"batch":[{"name":"a","data":"x","channel":"c","info":"subscription_count"},{"name":"b","data":"y","channel":"presence-c"}]}`
		if got := r.request("POST", "/apps/app-id/batch_events", batch, nil); got != `200 {"batch":[{"subscription_count":0},{}]}` {
			t.Errorf("got %s", got)
		}
		batch = `{"batch":[{"name":"a","data":"x","channel":"c"}]}`
		if got := r.request("POST", "/apps/app-id/batch_events", batch, nil); got != "200 {}" {
			t.Errorf("a batch without info: got %s", got)
		}
		for _, name := range []string{"x", "private-x", "private-encrypted-x", "presence-x", "cache-x", "private-cache-x", "presence-cache-x"} {
			want := `200 {"occupied":false,"subscription_count":0}`
			if strings.HasPrefix(name, "presence-") {
				want = `200 {"occupied":false,"user_count":0,"subscription_count":0}`
			}
			if got := r.request("GET", "/apps/app-id/channels/"+name, "", map[string]string{"info": "subscription_count,user_count"}); got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
		c := r.connect()
		c.subscribe("c", "")
		c.want(succeeded("c", "{}"))
		for name, want := range map[string]string{
			"presence-x":       `200 {"users":[]}`,
			"presence-cache-x": `200 {"users":[]}`,
			"c":                `400 Bad request: only presence channels have users; "c" is not a presence channel.`,
			"private-x":        `400 Bad request: only presence channels have users; "private-x" is not a presence channel.`,
			"presence-%C3%BC":  "400 Bad request: channel ",
		} {
			if got := r.request("GET", "/apps/app-id/channels/"+name+"/users", "", nil); got != want && !(strings.HasSuffix(want, " ") && strings.HasPrefix(got, want)) {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
		batch = `{"batch":[{"name":"a","data":"x","channel":"c","channels":[[1]],"info":"subscription_count"}]}`
		if got := r.request("POST", "/apps/app-id/batch_events", batch, nil); got != `200 {"batch":[{"subscription_count":1}]}` {
			t.Errorf("of a batch's event only channel counts: got %s", got)
		}
		c.want(`{"event":"a","data":"x","channel":"c"}`)
		many := map[string]string{}
		for i := range 100 {
			many["p"+strconv.Itoa(i)] = ""
		}
		if got := r.request("GET", "/apps/app-id/channels", "", many); got != "400 Bad request: the query cannot be decoded: more than 100 parameters." {
			t.Errorf("got %s", got)
		}
	})
}

// ask sends a GET for path?query as they stand, with a signature over the query that
// signed yields, and returns status and body.
func (r *rig) ask(path, signedPath, query, signedQuery string) string {
	ours, theirs := net.Pipe()
	r.pipe <- theirs
	defer ours.Close()
	auth := fmt.Sprintf("auth_key=app-key&auth_timestamp=%d&auth_version=1.0", time.Now().Unix())
	signature := protocol.Sign(r.apps[0].secret, "GET\n"+signedPath+"\n"+fmt.Sprintf(signedQuery, auth))
	go fmt.Fprintf(ours, "GET %s?%s&%s&auth_signature=%s HTTP/1.1\r\nHost: x\r\n\r\n", path, query, auth, signature)
	resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// Requests that libraries and proxies write otherwise than a browser would.
func TestRequestsAsTheyAreSent(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		p := r.connect()
		p.subscribe("presence-a", `{"user_id":"1"}`)
		p.take()
		r.program().prefix = "/ws"
		c := r.dial("/ws//app/app-key") // pusher-js with wsPath '/ws/'
		if got := c.take(); !strings.Contains(got, "connection_established") {
			t.Errorf("got %s", got)
		}
		for _, name := range []string{"a@b=1;c", "zz"} {
			c.subscribe(name, "")
		}
		c.take()
		const channels = "/apps/app-id/channels"
		for _, q := range []struct{ path, signedPath, query, signedQuery, want string }{
			{"/ws" + channels, channels, "filter_by_prefix=a@b=1;", "%s&filter_by_prefix=a@b=1;", `200 {"channels":{"a@b=1;c":{}}}`},
			{"/ws" + channels, channels, "filter_by_prefix=zz&x=,{}|\"\xff\u00fc", "%s&filter_by_prefix=zz&x=,{}|\"\xff\u00fc", `200 {"channels":{"zz":{}}}`},
			{"/ws" + channels, channels, "filter_by_prefix=p&info[0]=user_count&info[1]=subscription_count", "%s&filter_by_prefix=p&info=user_count,subscription_count", `200 {"channels":{"presence-a":{"user_count":1,"subscription_count":1}}}`},
			{"/ws" + channels, "/ws" + channels, "filter_by_prefix=p&info[10]=user_count&info[9]=x&INFO2[1]=2&INFO2[0]=1", "INFO2=2,1&%s&filter_by_prefix=p&info=user_count,x", `200 {"channels":{"presence-a":{"user_count":1}}}`},
			{"/ws" + channels, channels, "filter_by_prefix=p&info%%5B%%5D=user_count&info%%5B%%5D=x", "%s&filter_by_prefix=p&info=user_count,x", `200 {"channels":{"presence-a":{"user_count":1}}}`},
			// What was signed in lower case means what the name in lower case means.
			{"/ws" + channels, channels, "FILTER_BY_PREFIX=zz", "%s&filter_by_prefix=zz", `200 {"channels":{"zz":{}}}`},
			{"/ws" + channels, channels, "BODY_MD5=x", "%s&body_md5=x", `401 Authentication signature invalid: body_md5 "x" is not the MD5 of the 0 bytes of body that arrived.`},
			{"/ws" + channels, channels, "FILTER_BY_PREFIX=zz&filter_by_prefix=p", "FILTER_BY_PREFIX=zz&%s&filter_by_prefix=p",
				`400 Bad request: the query cannot be decoded: "FILTER_BY_PREFIX" and "filter_by_prefix" are one parameter.`},
			// Paths.
			{"/ws//apps/app-id/channels/zz", "/apps/app-id/channels/zz", "", "%s", `200 {"occupied":true}`},
			{"/ws//apps/app-id/channels/zz", "/ws/apps/app-id/channels/zz", "", "%s", `200 {"occupied":true}`},
			{"//ws//apps/app-id/channels/zz", "//ws//apps/app-id/channels/zz", "", "%s", `200 {"occupied":true}`},
			{"/ws/apps/app-id/channels/a%40b%3D1%3Bc", "/apps/app-id/channels/a@b=1;c", "", "%s", `200 {"occupied":true}`},
			{"/ws/apps/app-id/channels/a@b=1;c", "/apps/app-id/channels/a%40b%3D1%3Bc", "", "%s", `200 {"occupied":true}`},
			{"/ws/apps/app-id/channels/a|%7C", "/apps/app-id/channels/a|%7C", "", "%s", `200 {"occupied":false}`},
			{"/ws/apps/app-id/channels/%7a%7A", "/ws/apps/app-id/channels/zz", "", "%s", `200 {"occupied":true}`},
			{"/ws/x/apps/app-id/channels/zz", "/apps/app-id/channels/zz", "", "%s", "404 Not found."},
			{"/wsapps/app-id/channels/zz", "/apps/app-id/channels/zz", "", "%s", "404 Not found."},
		} {
			if got := r.ask(q.path, q.signedPath, strings.ReplaceAll(q.query, "%%", "%"), q.signedQuery); got != q.want {
				t.Errorf("%s?%s: got %s, want %s", q.path, q.query, got, q.want)
			}
		}
	})
}

func TestEarlyBytesAreTheFirstFrame(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		ours, theirs := net.Pipe()
		r.pipe <- theirs
		c := &testClient{r: r, nc: ours}
		r.all = append(r.all, c)
		go io.WriteString(ours, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"+
			maskedFrame(opText, true, 0, `{"event":"pusher:ping"}`))
		br := bufio.NewReader(ours)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		go c.readLoop(br)
		if got := c.take(); !strings.HasSuffix(got, "\n"+string(messagePong)) {
			t.Errorf("got %s", got)
		}
	})
}

// crowd is a loop that does not run, with subscribers of one channel. Their send queues
// take everything; no socket is there.
type crowd struct {
	hub     *hub
	loop    *loop
	app     *app
	clients []*client
}

func newCrowd(t testing.TB, members int) *crowd {
	t.Helper()
	ls, err := newLoops(1, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	h := newHub([]*appSettings{testApp(nil)}, ls, new(testProgram))
	w := &crowd{hub: h, loop: ls.all[0], app: h.tables.Load().byID["app-id"]}
	for range members {
		c := &client{hub: h, app: w.app, id: protocol.NewSocketID()}
		c.handler, c.maxMessage = c, 10_000
		w.loop.place(&c.conn)
		c.state, c.blocked = connOpen, true
		s, _ := h.registry.join(c, "news", protocol.Kind{}, nil, time.Now())
		c.addSubscription(s)
		w.clients = append(w.clients, c)
	}
	return w
}

// connect gives every client a socket and returns the other ends. They are closed
// after the test.
func (w *crowd) connect(t *testing.T) (peers []net.Conn) {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	w.loop.poller = p
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, c := range w.clients {
		peer, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		if err := peer.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		ours, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := ours.(*net.TCPConn).SetWriteBuffer(1 << 16); err != nil { // or it grows
			t.Fatal(err)
		}
		if c.sock, err = p.Add(ours, c.token()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.sock.Close(p) })
		c.blocked = false
		peers = append(peers, peer)
	}
	return peers
}

// work does what waits in the inbox. All that is to be written then is on dirty.
func (w *crowd) work() {
	w.loop.runTasks()
	for w.loop.flows.Jobs() > 0 {
		w.loop.deliver(time.Now())
		w.gather()
	}
}

// gather puts on dirty what a fan-out has touched.
func (w *crowd) gather() {
	l := w.loop
	if len(l.dirty) == 0 {
		l.dirty, l.later = l.later, l.dirty
	}
	l.dirty = append(l.dirty, l.later...)
	l.later = l.later[:0]
}

// turn does what waits in the inbox, and empties the send queues as if the sockets had
// taken everything. It returns how many connections were sent something.
func (w *crowd) turn() (sent int) {
	w.work()
	return w.settle()
}

// settle empties the send queues.
func (w *crowd) settle() (sent int) {
	l := w.loop
	w.gather()
	for _, c := range l.dirty {
		if !c.out.Empty() {
			sent++
		}
		c.out.Written(&l.outs, c.out.Bytes())
		c.dirty = false
	}
	l.dirty = l.dirty[:0]
	return sent
}

// BenchmarkBroadcast is one event to the subscribers of one loop, through their send
// queues, without what the system does.
func BenchmarkBroadcast(b *testing.B) {
	const members = 1000
	w := newCrowd(b, members)
	message := protocol.AppendEvent(nil, "e", []byte(`"`+strings.Repeat("x", 200)+`"`), "news", "")
	b.ReportAllocs()
	for b.Loop() {
		w.hub.registry.publish(w.app, channelName("news"), newBroadcast(message, protocol.SocketID{}, time.Time{}), false)
		w.turn()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/members, "ns/delivery")
}

// waitingRoom is a cluster that lets in later, when the test says so.
type waitingRoom struct {
	peers
	ready []func()
	late  bool
}

// Publishers wait, and the server is not ready, while Redis has more than it takes.
func TestBehindCluster(t *testing.T) {
	w, room := newCrowd(t, 0), &waitingRoom{}
	w.hub.registry.cluster = room
	for _, late := range []bool{false, true} {
		if room.late = late; w.hub.behind(w.app) != late || w.hub.busy() != late {
			t.Errorf("Redis is late: %v; an app waits: %v; the server is busy: %v", late, w.hub.behind(w.app), w.hub.busy())
		}
	}
}

func (r *waitingRoom) Join(_, _, _ string, _ bool, ready func()) { r.ready = append(r.ready, ready) }
func (r *waitingRoom) Leave(_, _ string)                         {}
func (r *waitingRoom) SetCount(string)                           {}
func (r *waitingRoom) Behind() bool                              { return r.late }

// A member gets every event that is published between its joining and its leaving, once
// and in order, whatever joins, leaves and ends while an event is on its way to others.
// The test plays random courses against lists that it keeps itself.
func TestFanOutInParts(t *testing.T) {
	for seed := range uint64(40) {
		fanOutInParts(t, seed, seed%2 == 1)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func fanOutInParts(t *testing.T, seed uint64, inCluster bool) {
	random := rand.New(rand.NewPCG(seed, 0))
	w, room := newCrowd(t, 0), &waitingRoom{}
	if inCluster {
		w.hub.registry.cluster = room
	}
	channels := []string{"a", "b", "c"}
	// stay is what one subscription shall hear, and how much of it has been heard.
	type stay struct {
		want  []int
		heard int
	}
	type guest struct {
		*client
		stays map[string]*stay // those who are in
		asked map[string]*bool // whether those who wait to be let in still want to
	}
	guests := make([]*guest, 100)
	arrive := func() *guest {
		c := &client{hub: w.hub, app: w.app, id: protocol.NewSocketID()}
		c.handler, c.maxMessage = c, 10_000
		w.loop.place(&c.conn)
		c.state, c.blocked = connOpen, true
		return &guest{c, map[string]*stay{}, map[string]*bool{}}
	}
	for i := range guests {
		guests[i] = arrive()
	}
	listen := func(g *guest) {
		for b := range g.out.All {
			_, n := parseFrameHeader(b)
			e, err := protocol.ParseEvent(b[n:])
			number, notEvent := strconv.Atoi(string(e.Data))
			if err != nil || notEvent != nil {
				continue
			}
			in := g.stays[string(e.Channel)]
			if in == nil || in.heard == len(in.want) || in.want[in.heard] != number {
				t.Errorf("%s on %s got event %d; it had had %+v", g.id, e.Channel, number, in)
				continue
			}
			in.heard++
		}
		g.out.Written(&w.loop.outs, g.out.Bytes())
	}
	settle := func() {
		l := w.loop
		for _, c := range append(l.dirty, l.later...) {
			c.dirty = false
		}
		l.dirty, l.later = l.dirty[:0], l.later[:0]
		for _, g := range guests {
			listen(g)
			for s := g.subscriptions; s != nil; s = s.next {
				if list := s.ch.members(0); int(s.index) >= len(list) || list[s.index].sub != s {
					t.Errorf("%s on %s is not where it should be", g.id, s.ch.name)
				}
			}
		}
	}
	unsubscribe := func(g *guest, channel string) {
		w.loop.runTasks() // a reservation that is in the inbox is no subscription yet
		g.handleEvent(protocol.Event{Name: []byte("pusher:unsubscribe"), Data: []byte(`{"channel":"` + channel + `"}`)})
		if wanted := g.asked[channel]; wanted != nil {
			*wanted = false
		}
		delete(g.asked, channel)
		delete(g.stays, channel)
	}
	for number := range 3000 {
		g, channel := guests[random.IntN(len(guests))], channels[random.IntN(len(channels))]
		listen(g) // what comes later is judged by what holds later
		switch step := random.IntN(100); {
		case step < 40:
			g.subscribe(protocol.Subscription{Channel: channel})
			switch {
			case g.stays[channel] != nil || g.asked[channel] != nil:
			case !inCluster:
				g.stays[channel] = &stay{}
			default:
				wanted, ready := new(bool), room.ready[len(room.ready)-1]
				*wanted, g.asked[channel] = true, wanted
				room.ready[len(room.ready)-1] = func() {
					ready()
					if *wanted {
						delete(g.asked, channel)
						g.stays[channel] = &stay{}
					}
				}
			}
		case step < 54:
			unsubscribe(g, channel)
		case step < 55: // many at once
			for _, g := range guests {
				if random.IntN(8) > 0 {
					listen(g)
					unsubscribe(g, channel)
				}
			}
		case step < 57:
			w.loop.runTasks()
			g.state = connClosing
			g.handleClosed(endPeerGone)
			for _, wanted := range g.asked {
				*wanted = false
			}
			guests[slices.Index(guests, g)] = arrive()
		case step < 65:
			b := newEventBroadcast([]byte("e"), strconv.AppendInt(nil, int64(number), 10), channel, "", protocol.SocketID{}, time.Now())
			if random.IntN(4) == 0 {
				b.except = g.id
			}
			w.hub.registry.publish(w.app, channelName(channel), b, false)
			for _, g := range guests {
				if in := g.stays[channel]; in != nil && g.id != b.except {
					in.want = append(in.want, number)
				}
			}
		case step < 75 && len(room.ready) > 0:
			room.ready[0]()
			room.ready = room.ready[1:]
		case step < 90:
			w.loop.runTasks()
			if w.loop.flows.Jobs() > 0 {
				w.loop.serveNext(1 + random.IntN(40))
			}
			settle()
		}
	}
	for w.loop.runTasks(); w.loop.flows.Jobs() > 0; settle() {
		w.loop.serveNext(1)
	}
	for _, g := range guests {
		for channel, in := range g.stays {
			if in.heard != len(in.want) {
				t.Errorf("%s on %s heard %d of %d events", g.id, channel, in.heard, len(in.want))
			}
		}
	}
	if n, m := w.app.undelivered.Load(), w.loop.backlog.Load(); n != 0 || m != 0 {
		t.Errorf("%d bytes are still counted as undelivered, %d as backlog", n, m)
	}
}

// A client that the cluster lets in is told so before anybody can publish what it shall
// hear: its loop is asked under the lock under which events get their numbers.
func TestLettingInIsOrdered(t *testing.T) {
	w, room := newCrowd(t, 0), &waitingRoom{}
	w.hub.registry.cluster = room
	c := &client{hub: w.hub, app: w.app, id: protocol.NewSocketID()}
	c.handler = c
	w.loop.place(&c.conn)
	c.state = connOpen
	c.subscribe(protocol.Subscription{Channel: "a"})
	release := w.loop.inbox.Hold() // nothing can be posted
	done := make(chan struct{})
	go func() {
		room.ready[0]()
		close(done)
	}()
	for w.app.perLoop[0].kinds[protocol.Kind{}.Index()].subscribed.Load() == 0 {
		runtime.Gosched()
	}
	sh, _ := w.hub.registry.place(w.app, "a")
	for range 2000 {
		if sh.mu.TryLock() {
			sh.mu.Unlock()
			t.Error("an event can be published between the two")
			break
		}
		runtime.Gosched()
	}
	release()
	<-done
	if w.loop.inbox.Len() != 1 {
		t.Errorf("%d tasks were posted, want 1", w.loop.inbox.Len())
	}
}

// A delivery allocates nothing: neither through the send queues, nor written at once
// to a socket.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	w := newCrowd(t, 100)
	b := newBroadcast(messagePing, protocol.SocketID{}, time.Now())
	if n := testing.AllocsPerRun(100, func() {
		w.hub.registry.publish(w.app, channelName("news"), b, false)
		if sent := w.turn(); sent != len(w.clients) {
			t.Fatalf("%d of %d got the event", sent, len(w.clients))
		}
	}); n != 0 {
		t.Errorf("through the send queues: %v allocations for %d deliveries", n, len(w.clients))
	}

	w = newCrowd(t, 2*maxTogether+1)
	peers := w.connect(t)
	var reading sync.WaitGroup
	for _, peer := range peers {
		reading.Go(func() {
			io.Copy(io.Discard, peer) // until it is closed below
		})
	}
	n := testing.AllocsPerRun(100, func() {
		w.hub.registry.publish(w.app, channelName("news"), b, false)
		w.work()
		if len(w.loop.dirty) > 0 {
			t.Fatal("what could be written at once was queued")
		}
	})
	for _, c := range w.clients {
		c.sock.CloseWrite(w.loop.poller)
	}
	reading.Wait()
	if runtime.GOOS == "linux" && n != 0 { // elsewhere sockets have goroutines and buffers
		t.Errorf("written at once: %v allocations for %d deliveries", n, len(w.clients))
	}
}

// An event reaches every socket as a whole, those that take none or some of it at
// first too.
func TestBroadcastWaitsForFullSockets(t *testing.T) {
	w := newCrowd(t, 2*maxTogether+1)
	l := w.loop
	before := make([]int, len(w.clients)) // bytes that a peer gets before the event
	peers := w.connect(t)
	for i := 3; i < len(before); i += 7 {
		for err := error(nil); err == nil; {
			var n int
			n, err = w.clients[i].sock.Write(l.poller, make([]byte, 1<<16))
			before[i] += n
		}
	}
	b := newBroadcast(bytes.Repeat([]byte("event "), 100_000), protocol.SocketID{}, time.Now())
	w.hub.registry.publish(w.app, channelName("news"), b, false)
	w.work()
	for i, c := range w.clients {
		if c.out.Empty() {
			t.Errorf("socket %d has taken %d bytes at once", i, len(b.plain))
		}
	}
	var left atomic.Int32
	for i, peer := range peers {
		left.Add(1)
		go func() {
			defer l.poller.Wake()
			defer left.Add(-1)
			got := make([]byte, before[i]+len(b.plain))
			if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got[before[i]:], b.plain) {
				t.Errorf("member %d did not get the event as it is: %v", i, err)
			}
		}()
	}
	events := make([]poll.Event, 64)
	for left.Load() > 0 {
		for _, c := range l.dirty {
			c.flush()
		}
		l.dirty = l.dirty[:0]
		n, err := l.poller.Wait(events, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			l.handleEvent(ev)
		}
	}
}

// lateBytes is a supplier that notes what it is told.
type lateBytes struct{ wanted, dropped int }

func (b *lateBytes) Wanted()  { b.wanted++ }
func (b *lateBytes) Dropped() { b.dropped++ }

// Supplied bytes that are too many for a turn are written in the next one, which comes at
// once; bytes that were queued go out.
func TestSuppliedBytesHaveAShare(t *testing.T) {
	w := newCrowd(t, 2)
	peers, l := w.connect(t), w.loop
	late, other := w.clients[0], w.clients[1]
	from := new(lateBytes)
	place := late.queueSupply(from)
	l.flush()
	late.supply(place, []byte("late"), nil)
	other.send([]byte("other"))
	l.supplied = supplyTurnBytes
	late.flush()
	late.dirty = true
	l.flush()
	if from.wanted != 1 || from.dropped != 0 || place.Left() != 4 || !other.out.Empty() {
		t.Fatalf("the supplier was told %+v, %d bytes are left, the other has its bytes: %v", from, place.Left(), other.out.Empty())
	}
	if len(l.deferred) != 1 || l.pending() {
		t.Errorf("%d connections wait for the next turn", len(l.deferred))
	}
	if l.endTurn(time.Now()); !l.pending() || l.timeout() != 0 || len(l.deferred) != 0 {
		t.Errorf("%d connections wait, the next turn comes after %v", len(l.deferred), l.timeout())
	}
	if l.flush(); from.dropped != 1 || l.pending() {
		t.Errorf("in its turn the supplier was told %+v", from)
	}
	for i, want := range []string{"late", "other"} {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(peers[i], got); string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

// A socket that is full is not written to before it says that it takes more.
func TestFullSocketIsLeftAlone(t *testing.T) {
	w := newCrowd(t, 1)
	peer, c := w.connect(t)[0], w.clients[0]
	sent := 0
	for !c.blocked {
		c.send(make([]byte, 1<<16))
		c.flush()
		sent += 1 << 16
	}
	if _, err := io.ReadFull(peer, make([]byte, sent-c.out.Bytes())); err != nil {
		t.Fatal(err)
	}
	queued := c.out.Bytes()
	c.send(make([]byte, 10))
	c.flush()
	if n := c.out.Bytes(); n != queued+10 {
		t.Errorf("%d bytes wait, want %d", n, queued+10)
	}
	events := make([]poll.Event, 4)
	for !c.out.Empty() || c.blocked {
		n, err := w.loop.poller.Wait(events, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			w.loop.handleEvent(ev)
		}
		c.flush()
	}
	if _, err := io.ReadFull(peer, make([]byte, queued+10)); err != nil {
		t.Error(err)
	}
}

// After a pause of the whole process an answer that came in time waits to be read.
func TestAnswerThatWaits(t *testing.T) {
	w := newCrowd(t, 1)
	peer, c, l := w.connect(t)[0], w.clients[0], w.loop
	c.pinged, c.pingTick = true, 1
	io.WriteString(peer, maskedFrame(opPong, true, 0, ""))
	if _, err := l.poller.Wait(make([]poll.Event, 4), -1); err != nil {
		t.Fatal(err)
	}
	l.now = 1 + seconds(c.app.settings.Load().activityTimeout)
	c.handleDeadline(l.now)
	if c.state != connOpen || c.pinged {
		t.Fatal("it was not seen")
	}
	c.pinged, c.pingTick = true, l.now+1
	l.now += 1 + seconds(c.app.settings.Load().activityTimeout)
	c.handleDeadline(l.now)
	if c.state != connClosing {
		t.Error("a connection that does not answer stays")
	}
}

// A client event allocates its bytes and the task that carries them, and nothing for
// the frame it came in.
func TestClientEventAllocations(t *testing.T) {
	w := newCrowd(t, 10)
	frame := maskedFrame(opText, true, 0, `{"event":"client-typing","channel":"news","data":{"who":"somebody with a name of some length"}}`)
	buf := make([]byte, len(frame))
	if n := testing.AllocsPerRun(100, func() {
		copy(buf, frame)
		w.clients[0].receive(buf)
		if sent := w.turn(); sent != len(w.clients)-1 {
			t.Fatalf("%d of %d got the event", sent, len(w.clients)-1)
		}
	}); n > 2 {
		t.Errorf("%v allocations", n)
	}
	if w.clients[0].state != connOpen {
		t.Error("the sender was closed")
	}
}

// answerRecorder is an http.ResponseWriter that is used again.
type answerRecorder struct {
	header http.Header
	status int
	body   []byte
}

func (a *answerRecorder) Header() http.Header    { return a.header }
func (a *answerRecorder) WriteHeader(status int) { a.status = status }
func (a *answerRecorder) Write(b []byte) (int, error) {
	a.body = append(a.body, b...)
	return len(b), nil
}

// publisher is a signed publish that can be repeated.
func (w *crowd) publisher(t testing.TB) func() {
	t.Helper()
	settings := w.app.settings.Load()
	body := `{"name":"App\\Events\\Changed","data":"{\"id\":1,\"text\":\"` + strings.Repeat("x", 200) + `\"}","channels":["news"]}`
	values := url.Values{}
	for k, v := range signedQuery(settings, "POST", "/apps/app-id/events", body, time.Now(), nil) {
		values.Set(k, v)
	}
	reader := strings.NewReader("")
	r := httptest.NewRequest("POST", "/apps/app-id/events?"+values.Encode(), nil)
	r.Body, r.ContentLength = io.NopCloser(reader), int64(len(body))
	answer := &answerRecorder{header: http.Header{}}
	return func() {
		reader.Reset(body)
		clear(answer.header)
		answer.body = answer.body[:0]
		w.hub.ServeHTTP(answer, r)
		if answer.status != 200 || string(answer.body) != "{}" {
			t.Fatalf("got %d %s", answer.status, answer.body)
		}
		if sent := w.turn(); sent != len(w.clients) {
			t.Fatalf("%d of %d got the event", sent, len(w.clients))
		}
	}
}

// A publish allocates a handful beyond what net/http does.
func TestPublishAllocations(t *testing.T) {
	if b, ok := debug.ReadBuildInfo(); ok && slices.Contains(b.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("sync.Pool forgets at random where races are looked for")
	}
	if n := testing.AllocsPerRun(100, newCrowd(t, 3).publisher(t)); n > 10 {
		t.Errorf("%v allocations, want at most 10", n)
	}
}

// BenchmarkPublish is a signed publish to three members, without net/http.
func BenchmarkPublish(b *testing.B) {
	publish := newCrowd(b, 3).publisher(b)
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}

// BenchmarkParts are the parts of a publish and of a client event, one by one.
func BenchmarkParts(b *testing.B) {
	a := testApp(nil)
	data := []byte(`"` + strings.Repeat("x", 200) + `"`)
	message := protocol.AppendEvent(nil, "client-typing", data, "news", "")
	frame := []byte(maskedFrame(opText, true, 0, string(message)))
	keys, auth := a.credentials(), a.key+":"+protocol.Sign(a.secret, "1.2:private-news")
	for _, part := range []struct {
		name string
		f    func() bool
	}{
		{"frame header", func() bool { h, n := parseFrameHeader(frame); return n > 0 && h.length == uint64(len(message)) }},
		{"client message", func() bool {
			e, err := protocol.ParseEvent(message)
			return err == nil && string(e.Name) == "client-typing"
		}},
		{"signature", func() bool { return keys.CheckChannel("1.2", "private-news", nil, auth) }},
		{"broadcast", func() bool {
			return len(newEventBroadcast([]byte("client-typing"), data, "news", "", protocol.SocketID{}, time.Time{}).plain) > len(message)
		}},
	} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !part.f() {
					b.Fatal("wrong result")
				}
			}
		})
	}
}

// BenchmarkClientEvent is a client event from its frame to nine send queues.
func BenchmarkClientEvent(b *testing.B) {
	w := newCrowd(b, 10)
	frame := maskedFrame(opText, true, 0, `{"event":"client-typing","channel":"news","data":{"who":"somebody"}}`)
	buf := make([]byte, len(frame))
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, frame)
		w.clients[0].receive(buf)
		w.turn()
	}
}

// --- main.go ---

func load(env []string, flags map[string]string) *config {
	return loadConfig(append([]string{"REVERB_ENV_FILE=/dev/null"}, env...), flags, time.Unix(1_800_000_000, 0))
}

func TestConfigDefaults(t *testing.T) {
	c := load([]string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}, nil)
	if len(c.problems)+len(c.warnings) > 0 || len(c.apps) != 1 {
		t.Fatalf("got %q, %q, %d apps", c.problems, c.warnings, len(c.apps))
	}
	a := c.apps[0]
	got := strings.TrimSuffix(fmt.Sprintln(c.host, c.port, c.path, a.pingInterval, a.activityTimeout, a.maxConnections, a.maxMessageSize, a.clientEvents, a.limit, a.allowedOrigins, c.maxRequestSize, c.authWindow, c.compression, c.grace), "\n")
	if want := "0.0.0.0 8080  1m0s 30s 0 10000 0 {false 60 60000000000 false} [*] 10000 10m0s false 5s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPath(t *testing.T) {
	for s, want := range map[string]string{"": "", "/": "", "ws": "/ws", "/a/b/": "/a/b", "/a~b.c": "/a~b.c", "/a b": "error", "/a\t": "error", "/ws{": "error", "/é": "error", "/a%20": "error", "/a?b": "error", "/a#b": "error", "/a//b": "error", "/../a": "error"} {
		c := &config{}
		if err := readPath(c, s); err != nil {
			c.path = "error"
		}
		if c.path != want {
			t.Errorf("%q: got %q, want %q", s, c.path, want)
		}
	}
}

func TestPanicIsReported(t *testing.T) {
	var out strings.Builder
	s := &server{log: slog.New(slog.NewTextHandler(&out, nil))}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler || !strings.Contains(out.String(), "level=ERROR") || !strings.Contains(out.String(), "path=/x panic=oops stack=") {
			t.Errorf("panicked with %v, logged %q", p, out.String())
		}
	}()
	defer s.reportPanic(httptest.NewRequest("GET", "/x?auth_signature=secret", nil))
	panic("oops")
}

func TestConfigSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := write(".env", "APP_NAME=\"My App\"\nREVERB_APP_ID=\"1\"\nREVERB_APP_KEY=k\nREVERB_SERVER_PORT=8081\nREVERB_SERVER_PATH=/ws/\nREVERB_HOST=\"${H}\"\nREVERB_APP_MAX_CONNECTIONS=null\nREDIS_PASSWORD=null\nREVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=private\nREVERB_DEBUG=(true)\n")
	secret := write("secret", "from-file\n")
	c := loadConfig([]string{"H=example.com", "REVERB_ENV_FILE=" + env, "REVERB_APP_SECRET_FILE=" + secret, "REVERB_SERVER_PORT=8082"}, map[string]string{"port": "8083"}, time.Now())
	if len(c.problems)+len(c.warnings) > 0 {
		t.Fatalf("got %q, %q", c.problems, c.warnings)
	}
	got := fmt.Sprint(c.port, c.path, c.publicHost, c.app.id, c.app.secret, c.app.maxConnections, c.app.clientEvents, c.debug, c.redisPassword == "")
	if want := fmt.Sprint(8083, "/ws", "example.com", "1", "from-file", 0, clientEventsPrivate, true, true); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var out bytes.Buffer
	c.printInForce(&out)
	for _, want := range []string{"8083                     --port\n", "/ws/                     " + env + ":5\n", "********                 file " + secret + "\n", "members", "default\n"} {
		if !strings.Contains(out.String(), want) && want != "members" {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "from-file") {
		t.Error("the secret shows")
	}
}

func TestConfigProblemsAllAtOnce(t *testing.T) {
	const secret = "hunter2hunter2"
	c := load([]string{
		"REVERB_SERVER_PORT=80a0", "REVERB_SCHEME=ftp", "REVERB_APP_PING_INTERVAL=0", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=everyone",
		"REVERB_APP_RATE_LIMITING_ENABLED=perhaps", "REVERB_ALLOWED_ORIGINS=a.b:80", "REVERB_LOG_LEVEL=loud", "REVERB_LOG_FORMAT=xml",
		"REVERB_SERVER_PATH=/a b", "REVERB_APP_ID=1", "REVERB_APP_SECRET=" + secret, "REVERB_TLS_CERT=/does/not/exist", "REVERB_TLS_PASSPHRASE=" + secret,
		"REVERB_TLS_MIN_VERSION=1.0", "REVERB_TLS_CIPHERS=RC4", "REVERB_SCALING_ENABLED=true", "REDIS_URL=foo://u:" + secret + "@x", "REVERB_ADMIN_LISTEN=x",
		"REVERB_APP_SECRET_FILE=/also/not", "REVERB_SERVR_PORT=1", "REVERB_APPS_FIL=x", "REVERB_HOST=0.0.0.0", "REVERB_PULSE_INGEST_INTERVAL=15",
	}, nil)
	text := strings.Join(append(c.problems, c.warnings...), "\n")
	for _, want := range []string{
		`REVERB_SERVER_PORT="80a0" (environment): not a whole number from 0 to 65535, such as 8080`, `REVERB_SCHEME="ftp"`, `REVERB_APP_PING_INTERVAL="0"`,
		`REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM="everyone"`, `REVERB_APP_RATE_LIMITING_ENABLED="perhaps"`, `REVERB_ALLOWED_ORIGINS="a.b:80"`,
		`REVERB_LOG_LEVEL="loud"`, `REVERB_LOG_FORMAT="xml"`, `REVERB_SERVER_PATH="/a b"`, "REVERB_APP_KEY: not set", `REVERB_TLS_CERT: /does/not/exist: there is no such file`,
		`REVERB_TLS_MIN_VERSION="1.0"`, `REVERB_TLS_CIPHERS="RC4"`, `REDIS_URL="********"`,
		`REVERB_ADMIN_LISTEN="x"`, `REVERB_APP_SECRET_FILE="/also/not": REVERB_APP_SECRET is set too`,
		"REVERB_SERVR_PORT is not a variable of this program; the nearest is REVERB_SERVER_PORT", "REVERB_APPS_FIL is not a variable of this program; the nearest is REVERB_APPS_FILE",
		`REVERB_HOST="0.0.0.0" is an address to listen on`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, secret) || strings.Contains(text, "PULSE") {
		t.Errorf("too much in\n%s", text)
	}
}

// TestVariablesOfOthers holds that Laravel's variables and the platform's stop nothing
// while what they govern is off, and what they mean when it is on.
func TestVariablesOfOthers(t *testing.T) {
	app := []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}
	const link = "tcp://10.0.0.1:6379"
	service := func(name string) []string {
		return []string{name + "_PORT=" + link, name + "_SERVICE_HOST=10.0.0.1", name + "_SERVICE_PORT=80", name + "_SERVICE_PORT_HTTP=80",
			name + "_PORT_80_TCP=tcp://10.0.0.1:80", name + "_PORT_80_TCP_PROTO=tcp", name + "_PORT_80_TCP_PORT=80", name + "_PORT_80_TCP_ADDR=10.0.0.1"}
	}
	for _, tt := range []struct {
		env     []string
		warning string // the only one, in part
	}{
		{[]string{"REDIS_PORT=0"}, ""},
		{[]string{"REDIS_HOST=/run/redis/redis.sock", "REDIS_PORT=0"}, ""},
		{[]string{"REDIS_TIMEOUT=0.5"}, ""},
		{[]string{"REDIS_TIMEOUT=soon"}, ""},
		{[]string{"REDIS_DB=laravel"}, ""},
		{[]string{"REDIS_SCHEME=http"}, ""},
		{[]string{"REDIS_URL=::", "REDIS_HOST=a@b:c"}, ""},
		{[]string{"REVERB_REDIS_PORT=x"}, ""},
		{service("REDIS"), ""},
		{service("REVERB_REDIS"), ""},
		{service("REVERB"), "has set REVERB_PORT to the address of a service, which is taken as not given; set enableServiceLinks: false"},
		{service("REVERB_SERVER"), "has set REVERB_SERVER_PORT to the"},
		{service("REVERB_ADMIN"), ""},
		{append(service("REVERB"), service("REVERB_SERVER")...), "has set REVERB_SERVER_PORT and REVERB_PORT to the"},
		{[]string{"REVERB_NAME=/web/reverb", "REVERB_ENV_PATH=/bin", "REVERB_PORT_80_TCP_START=tcp://10.0.0.1:80"}, ""},
		{[]string{"REVERB_HOST=" + link}, "REVERB_HOST="},
	} {
		c := load(append(tt.env, app...), nil)
		if len(c.problems) > 0 || len(c.warnings) > 1 || tt.warning == "" != (len(c.warnings) == 0) || !strings.Contains(strings.Join(c.warnings, ""), tt.warning) || c.port != 8080 || c.publicPort != 0 {
			t.Errorf("%q: got %q, %q", tt.env, c.problems, c.warnings)
		}
	}
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("REVERB_SERVER_PORT=81\nREDIS_PORT=82\nREDIS_HOST=h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := loadConfig([]string{"REVERB_ENV_FILE=" + file, "REVERB_SCALING_ENABLED=true", "REDIS_PORT=" + link, "REVERB_SERVER_PORT=" + link}, nil, time.Now())
	if len(c.problems) > 0 || len(c.warnings) != 1 || c.port != 81 || c.redis.address.address != "h:82" {
		t.Errorf("behind a link: got %q, %q, %d, %+v", c.problems, c.warnings, c.port, c.redis)
	}
}

// TestRedisOfLaravel holds what Laravel's variables mean when scaling is on.
func TestRedisOfLaravel(t *testing.T) {
	const sock = "/run/redis/redis.sock"
	for _, tt := range []struct {
		env  string
		want string // the address, or a problem that begins so
	}{
		{"", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_HOST=" + sock + " REDIS_PORT=0", "unix " + sock + "   0 false 1m0s"},
		{"REDIS_HOST=" + sock + " REDIS_PORT=null REDIS_DB=3", "unix " + sock + "   3 false 1m0s"},
		{"REDIS_HOST=unix://" + sock + " REDIS_PORT=x", "unix " + sock + "   0 false 1m0s"},
		{"REDIS_SCHEME=unix REDIS_PATH=" + sock + " REDIS_PASSWORD=p", "unix " + sock + "  p 0 false 1m0s"},
		{"REDIS_SCHEME=unix REDIS_HOST=" + sock, "unix " + sock + "   0 false 1m0s"},
		{"REDIS_PATH=" + sock, "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_SCHEME=unix", `REDIS_SCHEME="unix" (environment, REDIS_SCHEME): with the scheme unix the path`},
		{"REDIS_SCHEME=tls REDIS_HOST=h", "tcp h:6379   0 true 1m0s"},
		{"REDIS_SCHEME=rediss", "tcp 127.0.0.1:6379   0 true 1m0s"},
		{"REDIS_SCHEME=TLS REDIS_URL=redis://h", "tcp h:6379   0 true 1m0s"},
		{"REDIS_SCHEME=tls REDIS_URL=tcp://h", "tcp h:6379   0 false 1m0s"},
		{"REDIS_SCHEME=http", `REDIS_SCHEME="http" (environment, REDIS_SCHEME): none of tcp`},
		{"REDIS_TIMEOUT=0.5", "tcp 127.0.0.1:6379   0 false 500ms"},
		{"REDIS_TIMEOUT=2.0", "tcp 127.0.0.1:6379   0 false 2s"},
		{"REDIS_TIMEOUT=0", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_TIMEOUT=0.0", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_TIMEOUT=1e-9", "tcp 127.0.0.1:6379   0 false 1ms"},
		{"REDIS_TIMEOUT=NaN", `REDIS_TIMEOUT="NaN" (environment, REDIS_TIMEOUT): not a number of seconds from 0 to 86400, such as 60`},
		{"REVERB_REDIS_TIMEOUT=-1", `REVERB_REDIS_TIMEOUT="-1" (environment): not a number`},
		{"REDIS_PORT=0", `REDIS_PORT="0" (environment, REDIS_PORT): Redis on a host has a port`},
		{"REDIS_PORT=six", `REDIS_PORT="six" (environment, REDIS_PORT): not a whole number`},
		{"REVERB_REDIS_PORT=six", `REVERB_REDIS_PORT="six" (environment): not a whole number`},
		{"REDIS_PORT=six REDIS_DB=x REDIS_SCHEME=http REDIS_URL=redis://h:1/2", "tcp h:1   2 false 1m0s"},
		{"REDIS_PORT=tcp://10.0.0.1:6379 REDIS_HOST=h", "tcp h:6379   0 false 1m0s"},
		{"REDIS_DB=laravel", `REDIS_DB="laravel" (environment, REDIS_DB): not a whole number`},
		{"REDIS_HOST=tcp://10.0.0.1:7", "tcp 10.0.0.1:7   0 false 1m0s"},
		{"REDIS_HOST=tls://::1", "tcp [::1]:6379   0 true 1m0s"},
		{"REDIS_HOST=rediss://u:p@h/4 REDIS_PORT=7", "tcp h:7 u p 4 true 1m0s"},
		{"REDIS_HOST=u:p@h REDIS_USERNAME=x", "tcp h:6379 u p 0 false 1m0s"},
		{"REDIS_HOST=tls://", `REDIS_HOST="tls://" (environment, REDIS_HOST): the host is missing`},
		{"REDIS_PORT=0 REVERB_REDIS_SENTINELS=s:1 REDIS_SCHEME=unix REDIS_PASSWORD=p", "tcp 127.0.0.1:6379  p 0 false 1m0s"},
		{"REDIS_DB=x REVERB_REDIS_CLUSTER=s:1", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_DB=1 REVERB_REDIS_CLUSTER=s:1", "tcp 127.0.0.1:6379   1 false 1m0s"},
		{"REVERB_REDIS_DB=1 REVERB_REDIS_CLUSTER=s:1", `REVERB_REDIS_DB="1": a Redis Cluster has the database 0 alone`},
	} {
		c := load(append([]string{"REVERB_SCALING_ENABLED=true"}, strings.Fields(tt.env)...), nil)
		a := c.redis.address
		got := fmt.Sprint(a.network, " ", a.address, " ", a.username, " ", a.password, " ", a.db, " ", a.tls, " ", c.redisTimeout)
		if len(c.problems) > 0 {
			got = strings.Join(c.problems, "\n")
		}
		if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: got %s, want %s", tt.env, got, tt.want)
		}
	}
}

// TestPasswordsDoNotShow puts URLs where they belong and where they do not.
func TestPasswordsDoNotShow(t *testing.T) {
	values := []string{"redis://u:PASS@127.0.0.1:1", "tls://:PASS@127.0.0.1:1", "rediss://PASS@127.0.0.1:1/0", "redis://u:PASS@127.0.0.1:1/0?password=PASS", "u:PASS@127.0.0.1", "u:PASS@127.0.0.1:1", "PASS@127.0.0.1:1",
		"redis://u:7?PASS@127.0.0.1", "redis://u:7#PASS@127.0.0.1", "redis://u:7/PASS@127.0.0.1", "redis://u:/PASS@127.0.0.1", "redis://u:%PASS@127.0.0.1", "unix://u:PASS@/none", "unix:/none?password=PASS", "/none?password=PASS", "127.0.0.1?password=PASS", "u:PASS"}
	names := []string{"REVERB_REDIS_HOST", "REDIS_HOST", "REVERB_REDIS_URL", "REDIS_URL", "REVERB_REDIS_SENTINELS", "REVERB_REDIS_CLUSTER"}
	for _, v := range variables() {
		if !v.secret && !slices.Contains(names, v.name) && v.name != "REVERB_SCALING_ENABLED" && v.name != "REVERB_APP_ID" && v.name != "REVERB_APP_KEY" {
			names = append(names, v.name)
		}
	}
	for _, name := range names {
		for _, value := range values {
			if value == "u:PASS" && !strings.HasSuffix(name, "_URL") {
				continue // user:password without a host is not the form of anything
			}
			env := []string{"REVERB_ENV_FILE=/dev/null", "REVERB_SCALING_ENABLED=true", "REDIS_PORT=1", "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s", name + "=" + value}
			c := loadConfig(env, nil, time.Now())
			var out, check bytes.Buffer
			c.report(&out)
			c.printInForce(&out)
			fmt.Fprint(&out, c.inForceJSON(), c.notes)
			if strings.Contains(name, "REDIS") {
				c.checkRedisLink(t.Context(), &findings{w: &check})
			}
			for line := range strings.Lines(out.String() + check.String()) {
				if strings.Contains(line, "PASS") {
					t.Errorf("%s=%s shows in\n%s", name, value, line)
				}
			}
		}
	}
}

// TestConfigTakenAppID refuses apps whose channels would be called like nodes of the cluster.
func TestConfigTakenAppID(t *testing.T) {
	for _, id := range []string{"node", "all", "nodes", "Node"} {
		for scaling, want := range map[string]bool{"true": id == "node" || id == "all", "false": false} {
			for _, env := range [][]string{
				{"REVERB_APP_ID=" + id, "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"},
				{`REVERB_APPS=[{"app_id":"1","key":"k","secret":"s"},{"app_id":"` + id + `","key":"k2","secret":"s2"}]`},
			} {
				c := load(append(env, "REVERB_SCALING_ENABLED="+scaling), nil)
				if got := strings.Contains(strings.Join(c.problems, "\n"), `app_id="`+id+`"`); got != want {
					t.Errorf("%v, scaling %s: refused %v, want %v; %q", env, scaling, got, want, c.problems)
				}
			}
		}
	}
}

// TestEnvFile holds which file is read (Laravel: LoadEnvironmentVariables).
func TestEnvFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{".env", ".env.staging", ".env.other", "x.env"} {
		if err := os.WriteFile(name, []byte("REVERB_APP_ID="+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args, env, want string
	}{
		{"", "", ".env default"},
		{"--env=staging", "", ".env.staging --env"},
		{"--env staging", "APP_ENV=other", ".env.staging --env"},
		{"--env=none", "APP_ENV=other", ".env.other environment, APP_ENV"},
		{"--env=none", "", ".env default"},
		{"--env=", "", ".env default"},
		{"", "APP_ENV=staging", ".env.staging environment, APP_ENV"},
		{"", "APP_ENV=production", ".env default"},
		{"", "APP_ENV=null", ".env default"},
		{"--env=staging", "REVERB_ENV_FILE=x.env", "x.env environment"},
		{"--env=staging --env-file=x.env", "", "x.env --env-file"},
	} {
		_, _, flags, err := parseArgs(strings.Fields(tt.args))
		if err != nil {
			t.Fatal(err)
		}
		c := loadConfig(strings.Fields(tt.env), flags, time.Now())
		s := c.setting("REVERB_ENV_FILE")
		if got := s.value + " " + s.origin; got != tt.want || c.app.id != s.value {
			t.Errorf("%s %s: got %s and the app of %s, want %s", tt.args, tt.env, got, c.app.id, tt.want)
		}
	}
}

func TestParseApps(t *testing.T) {
	one := `{"app_id":1,"key":"k","secret":"s","allowed_origins":["*.a.b"],"ping_interval":5,"activity_timeout":"7","max_connections":null,"max_message_size":99,"accept_client_events_from":null,"rate_limiting":{"enabled":true,"max_attempts":3,"decay_seconds":9,"terminate_on_limit":true},"options":{"host":"x"}}`
	want := "1 k s [*.a.b] 5s 7s 0 99 1 {true 3 9000000000 true}"
	for _, form := range []string{"[" + one + "]", `{"apps":[` + one + `]}`, `{"default":"reverb","servers":{},"apps":{"provider":"config","apps":[` + one + `]}}`} {
		apps, problems, warnings := parseApps([]byte(form))
		if len(apps) != 1 || len(problems)+len(warnings) > 0 {
			t.Fatalf("%.30s: got %d apps, %q, %q", form, len(apps), problems, warnings)
		}
		a := apps[0]
		if got := fmt.Sprint(a.id, " ", a.key, " ", a.secret, " ", a.allowedOrigins, a.pingInterval, a.activityTimeout, a.maxConnections, a.maxMessageSize, a.clientEvents, a.limit); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for form, want := range map[string]string{
		"{":                         "invalid JSON",
		"5":                         "neither an array",
		"[]":                        "the list is empty",
		"[5]":                       "app 0: not an object",
		`[{"key":"k"}]`:             "app 0: app_id: missing",
		"[" + one + "," + one + "]": "app 1: another app has the same",
		`[{"app_id":"1","key":"k","secret":"s","ping_interval":"x"}]`:                "app 0: ping_interval: not a whole number",
		`[{"app_id":"1","key":"k","secret":"s","rate_limiting":{"enabled":"soon"}}]`: "app 0: rate_limiting.enabled: neither true nor false",
		`[{"app_id":"1","key":"k","secret":"s","accept_client_events_from":"some"}]`: "app 0: accept_client_events_from: none of members",
	} {
		if _, problems, _ := parseApps([]byte(form)); !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("%.40s: got %q, want %q", form, problems, want)
		}
	}
}

// TestPHPBooleans reads what PHP takes for true.
func TestPHPBooleans(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "1": true, `"1"`: true, `"true"`: true, "false": false, "0": false, `"false"`: false, "null": false} {
		apps, problems, _ := parseApps([]byte(`[{"app_id":"1","key":"k","secret":"s","rate_limiting":{"enabled":` + value + `}}]`))
		if len(problems) > 0 || apps[0].limit.enabled != want {
			t.Errorf("%s: got %v, %q", value, apps[0].limit.enabled, problems)
		}
	}
}

// TestDumpOfServer warns where a dump of config('reverb') says something of the server
// that does not count.
func TestDumpOfServer(t *testing.T) {
	dump := func(server string) string {
		return `{"servers":{"reverb":{` + server + `}},"apps":{"apps":[{"app_id":"1","key":"k","secret":"s"}]}}`
	}
	c := load([]string{"REVERB_APPS=" + dump(`"host":"0.0.0.0","port":8080,"path":"","max_request_size":10000,"options":{"tls":[]},"scaling":{"enabled":false}`)}, nil)
	if len(c.warnings)+len(c.problems) > 0 {
		t.Errorf("got %q, %q", c.warnings, c.problems)
	}
	c = load([]string{"REVERB_APPS=" + dump(`"host":"127.0.0.1","port":"9000","path":"ws","max_request_size":1,"scaling":{"enabled":true}`)}, nil)
	if text := strings.Join(c.warnings, "\n"); len(c.warnings) != 5 || !strings.Contains(text, "REVERB_APPS says 9000 where REVERB_SERVER_PORT=8080 counts") {
		t.Errorf("got %s", text)
	}
}

// TestHosts holds what may stand for a host to listen on, and for the public one.
func TestHosts(t *testing.T) {
	for value, want := range map[string]string{"0.0.0.0": "0.0.0.0", "[::1]": "::1", "::": "::", "fe80::1%eth0": "fe80::1%eth0", "localhost": "localhost", "unix:/a b": "unix:/a b",
		"127.0.0.1:8080": "", "http://x": "", "a b": "", "unix:": "", "${HOST}": ""} {
		c := load([]string{"REVERB_SERVER_HOST=" + value}, nil)
		if want == "" && len(c.problems) == 0 || want != "" && (c.host != want || len(c.problems) > 0) {
			t.Errorf("%s: got %s, %q", value, c.host, c.problems)
		}
	}
	for value, good := range map[string]bool{"ws.example.com": true, "localhost": true, "::1": true, "[::1]": true, "10.0.0.1": true,
		"https://ws.example.com": false, "ws.example.com:443": false, "ws.example.com/": false, "${APP_HOST}": false, "0.0.0.0": false} {
		if c := load([]string{"REVERB_HOST=" + value}, nil); len(c.warnings) == 0 != good {
			t.Errorf("%s: got %q", value, c.warnings)
		}
	}
	if c := load([]string{"REVERB_ADMIN_LISTEN=9090"}, nil); c.adminListen != "127.0.0.1:9090" {
		t.Errorf("a port alone: got %s", c.adminListen)
	}
}

// TestControlPaths lets restart find the server by what both listen on.
func TestControlPaths(t *testing.T) {
	c := load(nil, nil)
	name := func(address string) string { return filepath.Base(c.controlPaths(address)[0]) }
	if got := name("0.0.0.0:8080"); got != "reverb-8080.sock" || got != name("[::1]:8080") {
		t.Errorf("got %s", got)
	}
	here, err := filepath.Abs("x.sock")
	if err != nil {
		t.Fatal(err)
	}
	if name("unix:x.sock") != name("unix:"+here) || name("unix:/a") == name("unix:/b") {
		t.Error("paths are not told apart, or not the same")
	}
}

func FuzzParseApps(f *testing.F) {
	f.Add([]byte(`[{"app_id":"1","key":"k","secret":"s","rate_limiting":{"enabled":true}}]`))
	f.Add([]byte(`{"apps":{"apps":[{"app_id":1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		apps, problems, _ := parseApps(b)
		if len(problems) > 0 {
			return
		}
		for _, a := range apps {
			if a.id == "" || a.key == "" || a.secret == "" || a.pingInterval <= 0 || a.maxMessageSize <= 0 {
				t.Fatalf("%q gave %+v", b, a.id)
			}
		}
	})
}

func TestCommandLine(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "start [] map[]",
		"start --host 1.2.3.4 --port=1": "start [] map[host:1.2.3.4 port:1]",
		"--debug":                       "start [] map[debug:true]",
		"trigger a b {} --dev":          "trigger [a b {}] map[dev:true]",
		"start --nope":                  "error there is no flag --nope",
		"start --port":                  "error --port needs a value",
		"start --host --port 80":        "error --host needs a value",
		"-p 80":                         "error there is no flag -p; flags have two dashes",
		"--dev=no":                      "error --dev takes no value",
		"trigger a b -1":                "trigger [a b -1] map[]",
		"trigger a b -15":               "trigger [a b -15] map[]",
		"listen -1 -news":               "listen [-1 -news] map[]",
		"reverb:start --no-interaction": "start [] map[]",
		"reverb:start -n --ansi":        "start [] map[]",
		"start --no-ansi -v":            "start [] map[]",
		"start --verbose -vv":           "start [] map[]",
		"-n":                            "start [] map[]",
		"start -vvv":                    "start [] map[verbosity:verbose=3]",
		"start --verbose=3":             "start [] map[verbosity:verbose=3]",
		"start -q -vvv":                 "start [] map[verbosity:quiet]",
		"start --quiet":                 "start [] map[verbosity:quiet]",
		"start -nq":                     "start [] map[verbosity:quiet]",
		"reverb:restart -q":             "restart [] map[verbosity:quiet]",
		"reverb:stop":                   "reverb:stop [] map[]",
		"start --env=staging":           "start [] map[env:staging]",
		"start --env staging --debug":   "start [] map[debug:true env:staging]",
		"start --env":                   "error --env needs a value",
		"-v":                            "version [] map[]",
		"-V":                            "version [] map[]",
		"--help":                        "help [] map[]",
	} {
		name, words, flags, err := parseArgs(strings.Fields(args))
		got := fmt.Sprint(name, " ", words, " ", flags)
		if err != nil {
			got = "error " + err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", args, got, want)
		}
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"help"}, nil, &out, &errs); code != exitOK {
		t.Errorf("help: got %d", code)
	}
	for _, v := range variables() {
		if !strings.Contains(out.String(), v.name) {
			t.Errorf("help lacks %s", v.name)
		}
	}
	for _, args := range [][]string{{"nope"}, {"start", "x"}, {"health", "x"}, {"check", "x"}, {"restart", "x"}} {
		if code := run(context.Background(), args, nil, &out, &errs); code != exitUsage {
			t.Errorf("%q: got %d", args, code)
		}
	}
	errs.Reset()
	if code := run(context.Background(), nil, []string{"REVERB_ENV_FILE=/dev/null"}, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "REVERB_APP_SECRET=") {
		t.Errorf("no app: got %d, %s", code, errs.String())
	}
}

// TestVerbosity holds what artisan's -q and -vvv do here.
func TestVerbosity(t *testing.T) {
	for args, want := range map[string]string{"start": "INFO info default", "start -q": "ERROR error --quiet", "start -vvv": "DEBUG debug --verbose=3"} {
		_, _, flags, err := parseArgs(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		c := load(nil, flags)
		s := c.setting("REVERB_LOG_LEVEL")
		if got := fmt.Sprint(c.logLevel, " ", s.value, " ", s.origin); got != want {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out, errs bytes.Buffer
	env := []string{"REVERB_ENV_FILE=/dev/null", "REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s", "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0", "REVERB_SERVR=1"}
	if code := run(ctx, []string{"reverb:start", "--quiet", "--no-interaction"}, env, &out, &errs); code != exitOK || out.Len()+errs.Len() > 0 {
		t.Errorf("quiet: got %d, %s%s", code, out.String(), errs.String())
	}
}

// TestReadmeTable holds the table in the README to the one in the code.
func TestReadmeTable(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables() {
		row := "| `" + v.name + "` | " + strings.TrimSuffix("`"+v.def+"`", "``") + " | " + v.help + " |"
		if !strings.Contains(string(b), strings.ReplaceAll(row, "|  |", "| |")) {
			t.Errorf("the README lacks the row\n%s", row)
		}
	}
}

// TestReadmeLayout has every room, every leaf and every root file in the README.
func TestReadmeLayout(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := filepath.Glob("internal/*")
	if err != nil {
		t.Fatal(err)
	}
	leaves, err := filepath.Glob("internal/lib/*")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(rooms, leaves, files) {
		if !strings.Contains(string(b), "`"+filepath.Base(name)+"`") {
			t.Errorf("the README lacks %s", name)
		}
	}
}

// TestRun is the whole program: it listens, serves, and stops when asked.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	env := []string{"REVERB_ENV_FILE=/dev/null", "REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s", "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0"}
	pr, pw := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, nil, env, io.Discard, pw)
		pw.Close()
	}()
	address := ""
	lines := bufio.NewScanner(pr)
	for address == "" && lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "listening on 127.0.0.1:"); ok {
			address = after[:strings.IndexAny(after, `" `)]
		}
	}
	go io.Copy(io.Discard, pr)
	at := append(slices.Clone(env[:5]), "REVERB_SERVER_PORT="+address)
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"health"}, at, &out, &errs); code != exitOK {
		t.Errorf("health: got %d, %s", code, errs.String())
	}
	listening, heard := io.Pipe()
	lctx, stopListening := context.WithCancel(ctx)
	listened := make(chan int, 1)
	go func() {
		listened <- run(lctx, []string{"listen", "presence-x"}, at, heard, io.Discard)
		heard.Close()
	}()
	said := bufio.NewScanner(listening)
	said.Scan()
	if code := run(ctx, []string{"trigger", "presence-x", "my-event", `{"n":1}`}, at, &out, &errs); code != exitOK {
		t.Errorf("trigger: got %d, %s", code, errs.String())
	}
	if said.Scan(); said.Text() != `presence-x my-event {"n":1}` {
		t.Errorf("heard %q", said.Text())
	}
	stopListening()
	if code := <-listened; code != exitOK {
		t.Errorf("listen: got %d", code)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("start: got %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestNoGoroutinePerConnection counts goroutines where sockets are the kernel's.
func TestNoGoroutinePerConnection(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only epoll does without")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(&config{apps: []*appSettings{testApp(nil)}, maxRequestSize: 10_000, getenv: func(string) string { return "" }}, ln, nil, 0, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, nil, nil) }()
	const n = 100
	before := runtime.NumGoroutine()
	for range n {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
		if got, err := bufio.NewReader(c).ReadString('}'); err != nil || !strings.Contains(got, " 101 ") {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	// The last request's goroutine may still be on its way out.
	for i := 0; runtime.NumGoroutine() > before+n/10 && i < 1_000_000; i++ {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before+n/10 {
		t.Errorf("%d goroutines with %d connections, %d without", after, n, before)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A request whose end another server may see elsewhere is the last of its connection.
func TestDoubtfulFraming(t *testing.T) {
	ln := make(pipeListener)
	s, err := newServer(&config{apps: []*appSettings{testApp(nil)}, maxRequestSize: 10_000, getenv: func(string) string { return "" }}, ln, nil, 0, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name, server := range map[string]*http.Server{"API": s.http, "admin": s.newAdmin(ln.Addr())} {
		pipes := make(pipeListener)
		go server.Serve(pipes)
		for request, stays := range map[string]bool{
			"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}":                                                                true,
			"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n":                false,
			"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                                                false,
			"POST /up HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n": false,
		} {
			ours, theirs := net.Pipe()
			pipes <- theirs
			ours.SetDeadline(time.Now().Add(10 * time.Second))
			go io.WriteString(ours, request+"GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(ours)
			if err != nil {
				t.Fatalf("%s: %q: %v", name, request, err)
			}
			if want := 1 + map[bool]int{true: 1}[stays]; strings.Count(string(b), "HTTP/1.") != want {
				t.Errorf("%s: %q: got %q, want %d answers", name, request, b, want)
			}
			ours.Close()
		}
		close(pipes)
		server.Close()
	}
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serving serves on the given listeners until the test ends.
func serving(t *testing.T, c *config, ln, admin net.Listener) {
	t.Helper()
	c.apps, c.maxRequestSize, c.getenv = []*appSettings{testApp(nil)}, 10_000, func(string) string { return "" }
	s, err := newServer(c, ln, nil, 0, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, admin, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// dialAt connects to a listener, with a deadline.
func dialAt(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

func mustRead(t *testing.T, c net.Conn, b []byte) string {
	t.Helper()
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What the log says of a stray connection names the variable that mends it.
func TestStrayHints(t *testing.T) {
	for _, tt := range []struct {
		secure, beside, proxies bool
		want                    [3]string // of a PROXY header, TLS, HTTP
	}{
		{false, false, false, [3]string{"set REVERB_PROXY_PROTOCOL=true", "give this server a certificate with REVERB_TLS_CERT", ""}},
		{true, false, false, [3]string{"set REVERB_PROXY_PROTOCOL=true", "", "set REVERB_SCHEME=https"}},
		{false, true, true, [3]string{"name the proxy in REVERB_TRUSTED_PROXIES", "let https and wss clients use REVERB_SERVER_PORT", ""}},
	} {
		h := strayHints(tt.secure, tt.beside, tt.proxies)
		for i, got := range []string{h.Proxy, h.TLS, h.HTTP} {
			if !strings.Contains(got, tt.want[i]) || (got == "") != (tt.want[i] == "") {
				t.Errorf("%v: got %q, want %q", tt, got, tt.want[i])
			}
		}
	}
}

// otherAddr is a listener that calls its address another.
type otherAddr struct {
	net.Listener
	addr net.Addr
}

func (l otherAddr) Addr() net.Addr { return l.addr }

// On loopback the admin address answers to its own names alone, and no other site's page
// gets a profile.
func TestAdminHosts(t *testing.T) {
	request := func(ln net.Listener, path, head string) (status string) {
		c := dialAt(t, ln)
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\n"+head+"\r\nConnection: close\r\n\r\n")
		return mustRead(t, c, make([]byte, 12))[9:]
	}
	loopback := listenLoopback(t)
	serving(t, &config{adminListen: "admin.test:9090"}, listenLoopback(t), loopback)
	for host, want := range map[string]string{
		"localhost": "200", "LocalHost:1": "200", "localhost.:80": "200", "127.0.0.1": "200", "127.0.0.1:9090": "200", "127.1.2.3:1": "200", "[::1]": "200", "[::1]:80": "200",
		"[::ffff:127.0.0.1]:80": "200", "admin.test:9090": "200", "ADMIN.test": "200", "": "200",
		"evil.example.com": "421", "evil.example.com:9090": "421", "localhost.evil.example": "421", "127.0.0.1.evil.example": "421", "10.0.0.1": "421", "[2001:db8::1]:80": "421", ".": "421", ":80": "421",
	} {
		for _, path := range []string{"/", "/metrics", "/status.json", "/live", "/ready", "/debug/pprof/cmdline"} {
			if got := request(loopback, path, "Host: "+host); got != want {
				t.Errorf("Host %q, %s: got %s, want %s", host, path, got, want)
			}
		}
	}
	for site, want := range map[string]string{"cross-site": "403", "same-site": "403", "same-origin": "200", "none": "200"} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/heap"} {
			if got := request(loopback, path, "Host: localhost\r\nSec-Fetch-Site: "+site); got != want {
				t.Errorf("%s for a page that is %s: got %s, want %s", path, site, got, want)
			}
		}
		if got := request(loopback, "/", "Host: localhost\r\nSec-Fetch-Site: "+site); got != "200" {
			t.Errorf("the status page for a link that is %s: got %s", site, got)
		}
	}
	inner := listenLoopback(t)
	serving(t, &config{}, listenLoopback(t), otherAddr{inner, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9090}})
	if got := request(inner, "/metrics", "Host: reverb.prometheus.test"); got != "200" {
		t.Errorf("not on loopback: got %s for a name", got)
	}
}

// Wrong secrets are looked at only so often. The right one still serves from elsewhere.
func TestGuessingTheSecret(t *testing.T) {
	admin := listenLoopback(t)
	serving(t, &config{}, listenLoopback(t), admin)
	try := func(from byte, secret string) *http.Response {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, from)}}
		client := http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: 10 * time.Second}
		resp, err := client.Post("http://"+admin.Addr().String()+"/channels.json", "application/json", strings.NewReader(`{"app":"app-id","secret":"`+secret+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	codes := map[int]int{}
	for i := range 50 {
		resp := try(1, strconv.Itoa(i))
		codes[resp.StatusCode]++
		if again := resp.Header.Get("Retry-After"); (resp.StatusCode == 429) != (again != "") {
			t.Errorf("status %d with Retry-After %q", resp.StatusCode, again)
		}
	}
	if codes[401] < 5 || codes[401] > 20 || codes[429] != 50-codes[401] {
		t.Errorf("got %v for 50 wrong secrets", codes)
	}
	if resp := try(1, "app-secret"); resp.StatusCode != 429 {
		t.Errorf("the right secret among the guesses: got %d, want 429 so that the guess tells nothing", resp.StatusCode)
	}
	if runtime.GOOS != "linux" {
		return // elsewhere 127.0.0.2 has to be set up first
	}
	for range 20 {
		if resp := try(2, "app-secret"); resp.StatusCode != 200 {
			t.Fatalf("the right secret from elsewhere: got %d", resp.StatusCode)
		}
	}
}

// server is the server's end of a connection.
func (c *testClient) server() *client {
	synctest.Wait()
	for _, l := range c.r.hub.loops.all {
		for _, sc := range l.conns {
			if sc != nil && sc.handler.(*client).id.String() == c.id {
				return sc.handler.(*client)
			}
		}
	}
	c.r.t.Fatalf("there is no connection %s", c.id)
	return nil
}

// A member hears nothing that was published before its subscription, even when the
// event reaches its loop later.
func TestEventsFromBeforeTheSubscription(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		old := r.connect()
		old.subscribe("news", "")
		old.want(succeeded("news", "{}"))
		late := r.connect()
		for late.server().loop != old.server().loop {
			late = r.connect()
		}
		c := late.server()
		both := doTask{func() {
			b := newEventBroadcast([]byte("e"), []byte(`"x"`), "news", "", protocol.SocketID{}, time.Now())
			r.hub.registry.publish(c.app, channelName("news"), b, false) // waits in the inbox
			c.handleMessage(opText, []byte(`{"event":"pusher:subscribe","data":{"channel":"news"}}`))
		}, make(chan struct{})}
		c.loop.post(both)
		<-both.done
		late.want(succeeded("news", "{}"))
		old.want(`{"event":"e","data":"x","channel":"news"}`)
	})
}

// otherNodes is a cluster that a test plays: joins wait until they are granted.
type otherNodes struct {
	peers // what a test does not expect is a nil dereference
	reg   *registry

	mu    sync.Mutex // the loops join and leave; the test looks when they are idle
	joins []clusterJoin
	left  []string // topic and user
}

type clusterJoin struct {
	topic, user, info string
	ready             func()
}

func (o *otherNodes) Join(topic, user, info string, _ bool, ready func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.joins = append(o.joins, clusterJoin{topic, user, info, ready})
}
func (o *otherNodes) Leave(topic, user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = append(o.left, topic+" "+user)
}
func (o *otherNodes) SetCount(string)                {}
func (o *otherNodes) Behind() bool                   { return false }
func (o *otherNodes) CatchUp(_ string, ready func()) { ready() }

// grant lets in whoever has asked, in order.
func (o *otherNodes) grant() {
	synctest.Wait()
	for _, j := range o.joins {
		if j.user != "" {
			o.reg.Added(j.topic, j.user, j.info)
		}
		j.ready()
	}
	o.joins = nil
	synctest.Wait()
}

// wantLeft compares what the cluster was told of those who left.
func (o *otherNodes) wantLeft(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(o.left, want) {
		t.Errorf("the cluster was told that %q left, want %q", o.left, want)
	}
	for _, l := range o.left {
		topic, _, _ := strings.Cut(l, " ")
		o.reg.Dropped(topic) // nobody else is in it, unless it is still in use here
	}
	o.left = nil
}

func withOtherNodes(t *testing.T, f func(r *rig, o *otherNodes)) {
	withRig(t, nil, func(r *rig) {
		o := &otherNodes{reg: r.hub.registry}
		o.reg.cluster = o
		f(r, o)
	})
}

// Joining waits for the cluster, and leaving is told to it: once by whoever unsubscribes,
// disconnects, or has given up before the cluster let it in.
func TestJoinAndLeaveOfACluster(t *testing.T) {
	withOtherNodes(t, func(r *rig, o *otherNodes) {
		a, b := r.connect(), r.connect()
		a.subscribe("news", "")
		a.want()
		o.grant()
		a.want(succeeded("news", "{}"))
		b.subscribe("presence-x", `{"user_id":"1"}`)
		o.grant()
		b.want(succeeded("presence-x", `{"presence":{"count":1,"ids":["1"],"hash":{"1":null}}}`))
		a.subscribe("presence-x", `{"user_id":"2"}`)
		o.grant()
		a.take()
		b.want(string(protocol.EncodeEvent("pusher_internal:member_added", []byte(`{"user_id":"2"}`), "presence-x")))
		o.reg.Added("app-id:presence-x", "2", "") // as another connection of the user's
		b.want()
		o.wantLeft(t)
		a.send(`{"event":"pusher:unsubscribe","data":{"channel":"news"}}`)
		o.wantLeft(t, "app-id:news ")
		a.nc.Close()
		o.wantLeft(t, "app-id:presence-x 2")
		o.reg.Removed("app-id:presence-x", "2")
		b.want(string(protocol.EncodeEvent("pusher_internal:member_removed", []byte(`{"user_id":"2"}`), "presence-x")))

		b.subscribe("never", "")
		b.send(`{"event":"pusher:unsubscribe","data":{"channel":"never"}}`)
		o.grant()
		b.want()
		o.wantLeft(t, "app-id:never ")
		r.checkConsistency()
	})
}

// A snapshot of the cluster replaces the last event of a cache channel, also by none.
func TestSnapshotOfACacheChannel(t *testing.T) {
	withOtherNodes(t, func(r *rig, o *otherNodes) {
		const event = `{"event":"e","data":"x","channel":"cache-x"}`
		miss := string(protocol.EncodeEvent("pusher:cache_miss", []byte("{}"), "cache-x"))
		for i, tt := range []struct{ cached, want string }{{event, event}, {"", miss}, {event, event}} {
			c := r.connect()
			c.subscribe("cache-x", "")
			synctest.Wait()
			o.reg.Snapshot("app-id:cache-x", nil, nil, tt.cached, time.Minute)
			o.grant()
			c.want(succeeded("cache-x", "{}"), tt.want)
			if i == 2 {
				time.Sleep(time.Minute) // the life that the snapshot tells
				late := r.connect()
				late.subscribe("cache-x", "")
				o.grant()
				late.want(succeeded("cache-x", "{}"), miss)
			}
		}
	})
}

// A reservation reaches the loop before anything that is published after it: it is posted
// under the shard's lock.
func TestReservationIsPostedUnderTheLock(t *testing.T) {
	ls, err := newLoops(1, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	h := newHub([]*appSettings{testApp(nil)}, ls, new(testProgram))
	o := &otherNodes{reg: h.registry}
	o.reg.cluster = o
	c := &client{hub: h, app: h.tables.Load().byID["app-id"]}
	c.loop = ls.all[0]
	o.reg.joinCluster(&reservation{client: c, name: "news"})
	sh, _ := o.reg.place(c.app, "news")
	release := c.loop.inbox.Hold() // so that post waits
	granted := make(chan struct{})
	go func() {
		o.joins[0].ready()
		close(granted)
	}()
	locked := 0
	for end := time.Now().Add(3 * time.Second); locked < 20 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if locked++; sh.mu.TryLock() {
			sh.mu.Unlock()
			locked = 0
		}
	}
	release()
	<-granted
	if locked < 20 {
		t.Error("the shard is free while the reservation waits to be posted")
	}
	ls.start()
	ls.stop(0)
}

// At most 64 watch at a time, and one that goes makes room.
func TestTaps(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		a, reg := r.hub.tables.Load().byID["app-id"], r.hub.registry
		var remove []func()
		for range 64 {
			_, away, ok := reg.tap(a, "news")
			if !ok {
				t.Fatalf("%d watch, and one more may not", len(remove))
			}
			remove = append(remove, away)
		}
		if _, _, ok := reg.tap(a, "news"); ok {
			t.Error("65 watch")
		}
		remove[0]()
		out, away, ok := reg.tap(a, "other")
		if !ok {
			t.Error("one has gone, and another may not watch")
		}
		r.request("POST", "/apps/app-id/events", `{"name":"e","data":"x","channel":"other"}`, nil)
		if got := string((<-out).message); got != `{"event":"e","data":"x","channel":"other"}` {
			t.Errorf("got %s", got)
		}
		for _, f := range append(remove[1:], away) {
			f()
		}
		if reg.taps.all.Load() != nil {
			t.Error("nobody watches, and there is a list of those who do")
		}
	})
}

// The trace of --debug names the connection that ends, and why.
func TestTraceOfAnEnding(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		traced := make(chan string, 10)
		r.hub.tracef = func(what, who, message string) { traced <- what + "|" + who + "|" + message }
		a := r.connect()
		a.nc.Close()
		synctest.Wait()
		close(traced)
		last := ""
		for s := range traced {
			last = s
		}
		if want := "Connection Closed|" + a.id + "|peer_gone"; last != want {
			t.Errorf("got %s, want %s", last, want)
		}
	})
}

// Every ending and every complaint has a word that can be a metric's label.
func TestWords(t *testing.T) {
	for _, e := range endings {
		if e.word == "" || strings.Trim(e.word, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%q is no word", e.word)
		}
	}
}

// --- main.go: admin and reload ---

// withServer gives a server that listens to nobody, around the hub of a rig.
func withServer(t *testing.T, c *config, f func(r *rig, s *server, log *bytes.Buffer)) {
	withRig(t, nil, func(r *rig) {
		var log bytes.Buffer
		s := &server{config: c, hub: r.hub, loops: r.hub.loops, sockets: places.New(0), log: slog.New(slog.NewTextHandler(&log, nil)), started: time.Now()}
		s.listeners = append(s.listeners, pipeListener(nil))
		f(r, s, &log)
	})
}

// adminAsks returns the status and the body of one answer of the admin server.
func adminAsks(t *testing.T, h http.Handler, method, target, body string, headers ...string) string {
	t.Helper()
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("%s %s: the policy is %q", method, target, policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s %s: %s is %q, want %q", method, target, name, got, want)
		}
	}
	return fmt.Sprintf("%d %s", w.Code, w.Body)
}

func TestAdminProbes(t *testing.T) {
	withServer(t, &config{getenv: func(string) string { return "" }}, func(r *rig, s *server, _ *bytes.Buffer) {
		h := s.newAdmin(&net.UnixAddr{}).Handler
		for _, tt := range []struct{ target, want string }{
			{"/live", "200 live\n"}, {"/ready", "200 ready\n"}, {"/", "200 <!doctype html>"}, {"/metrics", "200 # HELP "}, {"/status.json", `200 {"version":`},
			{"/nothing", "404 "}, {"/publish", "405 "},
		} {
			if got := adminAsks(t, h, "GET", tt.target, ""); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: got %.200s, want %s", tt.target, got, tt.want)
			}
		}
		s.draining.Store(true)
		if got := adminAsks(t, h, "GET", "/ready", ""); got != "503 stopping\n" {
			t.Errorf("while it stops: got %s", got)
		}
		if got := adminAsks(t, h, "GET", "/live", ""); got != "200 live\n" {
			t.Errorf("while it stops: got %s", got)
		}
		s.draining.Store(false)
		r.program().full = func() bool { return true }
		if got := adminAsks(t, h, "GET", "/ready", ""); !strings.HasPrefix(got, "503 0 of 0 connections are taken") {
			t.Errorf("when it is full: got %s", got)
		}
	})
}

// The console wants the secret of the app, and its own page as asker.
func TestAdminConsole(t *testing.T) {
	withServer(t, &config{getenv: func(string) string { return "" }}, func(r *rig, s *server, _ *bytes.Buffer) {
		h := s.newAdmin(&net.UnixAddr{}).Handler
		a := r.connect()
		a.subscribe("news", "")
		a.take()
		json := []string{"Content-Type", "application/json"}
		question := func(secret string) string { return `{"app":"app-id","secret":"` + secret + `","channel":""}` }
		for _, tt := range []struct {
			body    string
			headers []string
			want    string
		}{
			{question("app-secret"), json, `200 {"channels":[{"name":"news","subscriptions":1,"users":0}],"total":1}`},
			{question("app-secret"), append(json, "Sec-Fetch-Site", "same-origin"), "200 "},
			{question(""), json, "401 "},
			{question("app-secre"), json, "401 "},
			{question("app-secret "), json, "401 "},
			{`{"app":"another","secret":"app-secret"}`, json, "401 "},
			{`{"secret":"app-secret"}`, json, "401 "},
			{`[]`, json, "400 "},
			{question("app-secret"), []string{"Content-Type", "text/plain"}, "403 "},
			{question("app-secret"), append(json, "Sec-Fetch-Site", "cross-site"), "403 "},
		} {
			if got := adminAsks(t, h, "POST", "/channels.json", tt.body, tt.headers...); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s %q: got %s, want %s", tt.body, tt.headers, got, tt.want)
			}
		}
		publish := `{"app":"app-id","secret":"%s","channel":"news","event":"e","data":"x"}`
		if got := adminAsks(t, h, "POST", "/publish", fmt.Sprintf(publish, "wrong"), json...); !strings.HasPrefix(got, "401 ") {
			t.Errorf("got %s", got)
		}
		a.want()
		if got := adminAsks(t, h, "POST", "/publish", fmt.Sprintf(publish, "app-secret"), json...); !strings.HasPrefix(got, "200 ") {
			t.Errorf("got %s", got)
		}
		a.want(`{"event":"e","data":"x","channel":"news"}`)
	})
}

// A reload takes over apps and their settings, or says why it does not and changes
// nothing.
func TestReloadOfApps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	write := func(size string) {
		text := "REVERB_APP_ID=app-id\nREVERB_APP_KEY=app-key\nREVERB_APP_SECRET=app-secret\nREVERB_APP_MAX_MESSAGE_SIZE=" + size + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("20000")
	c := loadConfig([]string{"REVERB_ENV_FILE=" + file}, map[string]string{}, time.Now())
	if len(c.problems) > 0 {
		t.Fatal(c.problems)
	}
	withServer(t, c, func(r *rig, s *server, log *bytes.Buffer) {
		for _, tt := range []struct {
			size string
			want int
			says string
		}{{"20000", 20_000, "reloaded"}, {"many", 20_000, "not reloaded: REVERB_APP_MAX_MESSAGE_SIZE"}, {"30000", 30_000, "reloaded"}} {
			write(tt.size)
			log.Reset()
			s.reload(time.Now())
			if got := r.hub.tables.Load().byID["app-id"].settings.Load().maxMessageSize; got != tt.want || !strings.Contains(log.String(), tt.says) {
				t.Errorf("%s: got %d, want %d; the log: %s", tt.size, got, tt.want, log)
			}
		}
	})
}

// --- redis.go ---

func TestRedisAddress(t *testing.T) {
	for s, want := range map[string]redisAddress{
		"redis://localhost":           {"tcp", "localhost:6379", "", "", 0, false},
		"rediss://u:p%40ss@h:1/2":     {"tcp", "h:1", "u", "p@ss", 2, true},
		"tls://:p@[::1]:7/3":          {"tcp", "[::1]:7", "", "p", 3, true},
		"unix:///run/redis.sock?db=4": {"unix", "/run/redis.sock", "", "", 4, false},
	} {
		if got, err := parseRedisURL(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "localhost", "http://x", "redis://", "redis://x/y", "redis://:geheim@h:port", "redis://u:geheim@h/-1"} {
		if _, err := parseRedisURL(s); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: got %v", s, err)
		}
	}
	for host, want := range map[string]redisAddress{
		"h": {"tcp", "h:1", "u", "p", 2, false}, "tls://h": {"tcp", "h:1", "u", "p", 2, true},
		"/run/r": {"unix", "/run/r", "u", "p", 2, false}, "unix:/run/r": {"unix", "/run/r", "u", "p", 2, false}, "unix:///run/r": {"unix", "/run/r", "u", "p", 2, false},
	} {
		parts := redisParts{host: host, port: 1, username: "u", password: "p", db: 2}
		if got, err := parts.parse(); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", host, got, err, want)
		}
	}
}

func FuzzRedisURL(f *testing.F) {
	f.Add("rediss://u:p@h:1/2")
	f.Add("unix:///x?db=1")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := parseRedisURL(s); err == nil && (a.address == "" && a.network == "tcp" || a.db < 0) {
			t.Fatalf("%q gave %+v", s, a)
		}
	})
}

// FuzzRedisHost puts a password where a host belongs, among anything: it is not dialed,
// so it is not in an error either, and no error of parsing quotes it.
func FuzzRedisHost(f *testing.F) {
	f.Add("", "", "")
	f.Add("tls://", "7?", "/0")
	f.Add("redis://", "@x/", "?db=1")
	f.Fuzz(func(t *testing.T, scheme, before, after string) {
		const password = "SECRET"
		host := scheme + "u:" + before + password + after + "@h"
		a, err := redisParts{host: host, port: 1}.parse()
		if err != nil && strings.Contains(err.Error(), password) || err == nil && a.network == "tcp" && strings.Contains(a.address, password) {
			t.Fatalf("%q gave %+v, %v", host, a, err)
		}
	})
}

// clusterSlots is an answer to CLUSTER SLOTS: ranges and the ports of their masters.
func clusterSlots(parts ...[3]int) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(parts))
	for _, p := range parts {
		b = fmt.Appendf(b, "*3\r\n:%d\r\n:%d\r\n*3\r\n$0\r\n\r\n:%d\r\n$2\r\nid\r\n", p[0], p[1], p[2])
	}
	return b
}

func TestTopology(t *testing.T) {
	seed := redisAddress{network: "tcp", address: "10.0.0.1:7000", username: "u", password: "p", tls: true}
	parse := func(b []byte) (topology, error) {
		r, err := resp.NewReader(bytes.NewReader(b)).Read()
		if err != nil {
			t.Fatal(err)
		}
		return parseTopology(r, seed)
	}
	top, err := parse(clusterSlots([3]int{0, 5460, 1}, [3]int{5461, 10922, 2}, [3]int{10923, 16383, 1}))
	if err != nil || len(top.masters) != 2 || len(top.byBucket) != len(cluster.BucketTags()) {
		t.Fatalf("got %+v, %v", top, err)
	}
	want := seed
	want.address = "10.0.0.1:2"
	for b, i := range top.byBucket {
		slot := resp.Slot("reverb:{" + strconv.Itoa(b) + "}:app:channel")
		if second := slot >= 5461 && slot <= 10922; second != (top.masters[i] == want) {
			t.Errorf("bucket %d, slot %d: on %+v", b, slot, top.masters[i])
		}
	}
	for _, bad := range [][]byte{
		clusterSlots(), clusterSlots([3]int{0, 16000, 1}), clusterSlots([3]int{0, 16384, 1}), clusterSlots([3]int{-1, 5, 1}), clusterSlots([3]int{5, 4, 1}),
		[]byte("*1\r\n:1\r\n"), []byte("*1\r\n*3\r\n:0\r\n:16383\r\n*1\r\n:1\r\n"), []byte("+OK\r\n"),
	} {
		if got, err := parse(bad); err == nil {
			t.Errorf("%q: got %+v", bad, got)
		}
	}
}

// fakeRedis answers every connection with canned replies, one a command, and tells
// which commands came.
func fakeRedis(t *testing.T, replies ...string) (a redisAddress, commands func() []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer nc.Close()
				r := resp.NewReader(nc)
				for i := 0; ; i++ {
					c, err := r.Read()
					if err != nil || i == len(replies) {
						return
					}
					words := make([]string, len(c.Items))
					for i, w := range c.Items {
						words[i] = w.Text
					}
					mu.Lock()
					got = append(got, strings.Join(words, " "))
					mu.Unlock()
					io.WriteString(nc, replies[i])
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return redisAddress{network: "tcp", address: ln.Addr().String()}, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

func TestRedisLogin(t *testing.T) {
	hello := func(version string) string { return "%1\r\n$7\r\nversion\r\n$5\r\n" + version + "\r\n" }
	for _, c := range []struct {
		name               string
		db                 int
		user, password     string
		replies            []string
		wantErr, wantTalks string
	}{
		{"plain", 0, "", "", []string{hello("7.0.9"), "+OK\r\n"}, "", "HELLO 3|CLIENT SETNAME reverb"},
		{"password and database", 2, "", "geheim", []string{hello("7.0.9"), "+OK\r\n", "+OK\r\n"}, "", "HELLO 3 AUTH default geheim|SELECT 2|CLIENT SETNAME reverb"},
		{"user", 0, "u", "geheim", []string{hello("7.0.9"), "-NOPERM\r\n"}, "", "HELLO 3 AUTH u geheim|CLIENT SETNAME reverb"},
		{"no password", 0, "", "", []string{"-NOAUTH HELLO must be called\r\n"}, "it wants a password; set REVERB_REDIS_PASSWORD", "HELLO 3"},
		{"wrong password", 0, "", "geheim", []string{"-WRONGPASS invalid username-password pair\r\n"}, "compare REVERB_REDIS_USERNAME and REVERB_REDIS_PASSWORD", "HELLO 3 AUTH default geheim"},
		{"old", 0, "", "", []string{hello("6.0.9")}, "version 6.0.9 is too old; 6.2 or newer is needed", "HELLO 3"},
		{"very old", 0, "", "geheim", []string{"-ERR unknown command\r\n", "+OK\r\n", "$24\r\n# S\r\nredis_version:5.0.1\r\n\r\n"}, "version 5.0.1 is too old", "HELLO 3 AUTH default geheim|AUTH geheim|INFO server"},
		{"no such database", 99, "", "", []string{hello("7.0.9"), "-ERR DB index is out of range\r\n"}, "database 99 (REVERB_REDIS_DB or REDIS_DB): SELECT: Redis answers: ERR DB index", "HELLO 3|SELECT 99"},
		{"no Redis", 0, "", "", []string{"HTTP/1.1 400 Bad Request\r\n"}, "this is not RESP", "HELLO 3"},
	} {
		a, commands := fakeRedis(t, c.replies...)
		a.db, a.username, a.password = c.db, c.user, c.password
		conn, err := dialRedis(t.Context(), &redisOptions{address: a, name: "reverb", timeout: time.Minute})
		if err == nil {
			conn.nc.Close()
		}
		if got := strings.Join(commands(), "|"); got != c.wantTalks {
			t.Errorf("%s: said %q, want %q", c.name, got, c.wantTalks)
		}
		if (err == nil) != (c.wantErr == "") || err != nil && (!strings.Contains(err.Error(), c.wantErr) || strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.wantErr)
		}
	}
}

func TestSentinel(t *testing.T) {
	hello := "%1\r\n$7\r\nversion\r\n$5\r\n7.0.9\r\n"
	master, _ := fakeRedis(t, hello, "+OK\r\n", "*1\r\n$6\r\nmaster\r\n")
	replica, _ := fakeRedis(t, hello, "+OK\r\n", "*1\r\n$5\r\nslave\r\n")
	sentinel := func(of redisAddress) redisAddress {
		host, port, _ := net.SplitHostPort(of.address)
		a, _ := fakeRedis(t, hello, "+OK\r\n", fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port))
		return a
	}
	ignorant, _ := fakeRedis(t, hello, "+OK\r\n", "*-1\r\n")
	o := &redisOptions{service: "main", name: "reverb", timeout: time.Minute}
	o.sentinels = []redisAddress{ignorant, sentinel(replica), sentinel(master)}
	c, err := dialRedis(t.Context(), o)
	if err != nil || c.nc.RemoteAddr().String() != master.address {
		t.Fatalf("got %v", err)
	}
	c.nc.Close()
	o.sentinels = o.sentinels[:2]
	if _, err := dialRedis(t.Context(), o); err == nil || !strings.Contains(err.Error(), `knows no service "main"; set REVERB_REDIS_SERVICE`) || !strings.Contains(err.Error(), "is no master") {
		t.Errorf("got %v", err)
	}
}

// --- tls.go ---

// sealedByOpenSSL was made with: openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:geheim
const sealedByOpenSSL = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhGY98Suj6d0gICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEM0Vlc9CDjRJFPJHFblTruMEQHuY
j/wV0rKfBSunNH86hXnqiMG5vxTWSAZVQ8wY2woHRU9jX7g47397z87Ce26XxVMC
o0CE+t+fJvNdnGnb67c=
-----END ENCRYPTED PRIVATE KEY-----
`

// FuzzEncryptedKey: a key file is the operator's, but it may be damaged in any way.
func FuzzEncryptedKey(f *testing.F) {
	block, _ := pem.Decode([]byte(sealedByOpenSSL))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) < 512 {
			decryptPKCS8(der, "x")
		}
	})
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 operators have such keys
	sealed, err := x509.EncryptPEMBlock(crand.Reader, "EC PRIVATE KEY", keyDER, []byte("geheim"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, blocks ...*pem.Block) string {
		var b []byte
		for _, bl := range blocks {
			b = append(b, pem.EncodeToMemory(bl)...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, plain := &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}
	certFile, keyFile, both := write("cert", cert), write("key", plain), write("both", cert, plain)
	sealedFile, pkcs8 := write("sealed", sealed), write("pkcs8", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: keyDER})
	opened, err := decryptKey([]byte(sealedByOpenSSL), "geheim")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(opened)
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := decryptKey([]byte(sealedByOpenSSL), "falsch"); err != errPassphrase {
		t.Errorf("got %v, want %v", err, errPassphrase)
	}
	for _, c := range []struct{ cert, key, pass, want string }{
		{certFile, keyFile, "", ""}, {both, "", "", ""}, {certFile, sealedFile, "geheim", ""},
		{certFile, sealedFile, "", "set REVERB_TLS_PASSPHRASE"}, {certFile, sealedFile, "falsch", "does not open"},
		{certFile, pkcs8, "x", "openssl pkey"}, {certFile, "", "", "private key"}, {keyFile, certFile, "", "certificate"}, {dir + "/nope", "", "", "no such file"},
	} {
		_, warning, err := loadCertificate(c.cert, c.key, c.pass, now)
		if c.want == "" && (err != nil || warning != "") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "falsch")) {
			t.Errorf("%s, %s: got %v, %q, want %q", filepath.Base(c.cert), filepath.Base(c.key), err, warning, c.want)
		}
	}
	if _, _, err := loadCertificate(both, "", "", now.Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v, want that it has expired", err)
	}
	template.NotBefore, template.NotAfter = now.AddDate(0, 0, -80), now.AddDate(0, 0, 10)
	if der, err = x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	old := write("old", &pem.Block{Type: "CERTIFICATE", Bytes: der}, plain)
	if _, warning, err := loadCertificate(old, "", "", now); err != nil || !strings.Contains(warning, "in 10 days; renew it") && !strings.Contains(warning, "in 9 days; renew it") {
		t.Errorf("got %q, %v, want a warning", warning, err)
	}
	if _, err := loadCA(certFile); err != nil {
		t.Error(err)
	}
	if _, err := loadCA(keyFile); err == nil {
		t.Error("a key was taken for a CA")
	}
}

// TestControlAnswerIsText has a process answer on the control socket with what a
// terminal would obey.
func TestControlAnswerIsText(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	go control.Serve(ln, func(string) (any, <-chan struct{}) {
		return controlStatus{PID: 1, Version: "\x1b[31m", Listening: "\x1b]0;x\a\u009b31m\u202eFAKE\r\n", Connections: 2}, nil
	})
	environ := []string{"REVERB_CONTROL_SOCKET=" + path, "REVERB_ENV_FILE=" + os.DevNull, "REVERB_APP_ID=a", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}
	for _, command := range []string{"restart", "check"} {
		var out bytes.Buffer
		run(t.Context(), []string{command}, environ, &out, &out)
		if s := out.String(); !strings.Contains(s, "?]0;x??31m?FAKE??") || strings.ContainsAny(s, "\x1b\a\u009b\u202e\r") {
			t.Errorf("%s prints %q", command, s)
		}
	}
}

// TestUnixAddresses gives each Unix socket that is listened on the mode that is set, and
// names the variable where its owner is unknown.
func TestUnixAddresses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sockets have no mode")
	}
	dir := t.TempDir()
	c := &config{host: "unix:" + filepath.Join(dir, "main"), plainListen: "unix:" + filepath.Join(dir, "plain"), adminListen: "unix:" + filepath.Join(dir, "admin"),
		socketMode: 0o620, getenv: func(string) string { return "" }}
	ln, plain, admin, err := c.open()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{ln, plain, admin} {
		if fi, err := os.Lstat(l.Addr().String()); err != nil || fi.Mode() != os.ModeSocket|0o620 {
			t.Errorf("%s: got %v, %v; want a socket with permissions 0620", l.Addr(), fi, err)
		}
		l.Close()
	}
	c.socketOwner = "no-such-user"
	if _, _, _, err := c.open(); err == nil || !strings.Contains(err.Error(), `REVERB_SERVER_SOCKET_OWNER="no-such-user": there is no user`) {
		t.Errorf("got %v", err)
	}
}

// writeFile writes a file of a test's and returns its name.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// testCertificate makes a certificate for ws.test that is valid at the clock of load.
func testCertificate(t *testing.T) (der []byte, certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), DNSNames: []string{"ws.test"}}
	if der, err = x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der, pemText("CERTIFICATE", der), pemText("PRIVATE KEY", keyDER)
}

func pemText(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

var oneApp = []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}

// TestForeignCertificates: files that OpenSSL, and so PHP, takes.
func TestForeignCertificates(t *testing.T) {
	der, cert, key := testCertificate(t)
	const mark = "\ufeff"
	trusted := append(bytes.Clone(der), 0x30, 0x0a, 0x30, 0x08, 0x06, 0x06, 0x2b, 6, 1, 5, 5, 7) // X509_CERT_AUX behind it
	keyFile := writeFile(t, "key", mark+key)
	for name, text := range map[string]string{
		"mark": mark + cert, "joined": mark + cert + mark + cert, "X509": mark + pemText("X509 CERTIFICATE", der),
		"TRUSTED": pemText("TRUSTED CERTIFICATE", trusted), "trusted without trust": pemText("TRUSTED CERTIFICATE", der),
	} {
		file := writeFile(t, "cert", text)
		c := load(append([]string{"REVERB_TLS_CERT=" + file, "REVERB_TLS_KEY=" + keyFile, "REVERB_TLS_CA=" + file, "REVERB_HOST=ws.test",
			"REVERB_SCALING_ENABLED=true", "REVERB_REDIS_CA=" + file, "REVERB_REDIS_CERT=" + file, "REVERB_REDIS_KEY=" + keyFile}, oneApp...), nil)
		if len(c.problems)+len(c.warnings) > 0 {
			t.Errorf("%s: got %q, %q", name, c.problems, c.warnings)
			continue
		}
		if config, _, err := loadTLS(&c.tls, time.Unix(1_800_000_000, 0)); err != nil || !bytes.Equal(config.Certificates[0].Leaf.Raw, der) {
			t.Errorf("%s: got another certificate, or %v", name, err)
		}
	}
	damaged := writeFile(t, "cert", pemText("TRUSTED CERTIFICATE", trusted[:40]))
	if _, _, err := loadCertificate(damaged, keyFile, "", time.Unix(1_800_000_000, 0)); err == nil {
		t.Error("a damaged certificate is taken")
	}
}

func TestByteOrderMarks(t *testing.T) {
	secret, apps := writeFile(t, "secret", "\ufeffs\r\n"), writeFile(t, "apps", "\ufeff[{\"app_id\":\"1\",\"key\":\"k\",\"secret\":\"s\"}]")
	envFile := writeFile(t, "env", "\ufeffREVERB_APP_ID=1\rREVERB_APP_KEY=k\rREVERB_APP_SECRET=s\r")
	for _, env := range [][]string{
		{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET_FILE=" + secret}, {"REVERB_APPS_FILE=" + apps}, {"REVERB_ENV_FILE=" + envFile},
	} {
		c := loadConfig(append([]string{"REVERB_ENV_FILE=/dev/null"}, env...), nil, time.Unix(1_800_000_000, 0))
		if len(c.problems) > 0 || len(c.apps) != 1 || c.apps[0].id+c.apps[0].key+c.apps[0].secret != "1ks" {
			t.Errorf("%q: got %q, %d apps", env, c.problems, len(c.apps))
		}
	}
}

// TestListsOfPHP: PHP's arrays are objects in JSON where their keys are not 0, 1, 2.
func TestListsOfPHP(t *testing.T) {
	one, two := `{"app_id":"1","key":"k1","secret":"s","allowed_origins":{"1":"A.com","3":"b.com"},"rate_limiting":[]}`, `{"app_id":"2","key":"k2","secret":"s"}`
	for form, want := range map[string]int{
		`{"apps":{"apps":{"0":` + one + `,"main":` + two + `}}}`: 2, `{"default":"reverb","apps":{"provider":"config","apps":{"main":` + one + `}}}`: 1,
		`{"2":` + two + `,"1":` + one + `}`: 2, `{"apps":` + one + `}`: 1, one: 1, `{"apps":` + two + `,"other":` + one + `}`: 2,
		`{"apps":{"apps":{"apps":` + one + `,"key":` + two + `}}}`: 2,
	} {
		apps, problems, warnings := parseApps([]byte(form))
		if len(problems)+len(warnings) > 0 || len(apps) != want {
			t.Errorf("%s: got %d apps, %q, %q", form, len(apps), problems, warnings)
			continue
		}
		for _, a := range apps {
			if want := map[string]string{"1": "[a.com b.com]", "2": "[*]"}[a.id]; fmt.Sprint(a.allowedOrigins) != want {
				t.Errorf("%s: app %s: got %v, want %s", form, a.id, a.allowedOrigins, want)
			}
		}
	}
	for _, form := range []string{`{"servers":{"reverb":{"host":"x"}}}`, `{"apps":{"main":` + one + `,"x":1}}`, `{"apps":"x"}`} {
		if apps, problems, _ := parseApps([]byte(form)); len(problems) != 1 {
			t.Errorf("%s: got %d apps, %q", form, len(apps), problems)
		}
	}
}

func TestHostsOfOperators(t *testing.T) {
	c := load(append([]string{"REVERB_ALLOWED_ORIGINS=Example.COM, *.münchen.de,[::1],https://example.org:8443/x", "REVERB_HOST=WS.münchen.de"}, oneApp...), nil)
	if got, want := fmt.Sprint(c.app.allowedOrigins, c.publicHost), "[example.com *.xn--mnchen-3ya.de ::1 example.org]ws.xn--mnchen-3ya.de"; got != want || len(c.problems) > 0 {
		t.Errorf("got %s, %q, want %s", got, c.problems, want)
	}
	if got := strings.Join(c.warnings, "\n"); got != `REVERB_ALLOWED_ORIGINS: "https://example.org:8443/x": of an origin only the host counts, not scheme, port or path; write it as example.org` {
		t.Errorf("got %s", got)
	}
	if c := load(append([]string{"REVERB_HOST=[::1]"}, oneApp...), nil); c.publicHost != "::1" || len(c.warnings) > 0 {
		t.Errorf("got %q, %q", c.publicHost, c.warnings)
	}
}

// TestPublicTLS: what is said at the start where TLS and the public address differ.
func TestPublicTLS(t *testing.T) {
	_, cert, key := testCertificate(t)
	file := writeFile(t, "both", cert+key)
	const scheme, host = "REVERB_SCHEME=http, but with REVERB_TLS_CERT=", "the certificate does not cover REVERB_HOST="
	for set, want := range map[string]string{
		"REVERB_SCHEME=http REVERB_HOST=localhost REVERB_PORT=8080":                             scheme,
		"REVERB_SCHEME=http REVERB_PORT=80":                                                     scheme,
		"REVERB_SCHEME=http REVERB_PORT=8081 REVERB_PLAIN_LISTEN=127.0.0.1:8081":                "",
		"REVERB_SCHEME=http REVERB_PORT=80 REVERB_HOST=ws.test REVERB_TRUSTED_PROXIES=10.0.0.1": "",
		"REVERB_SCHEME=https REVERB_HOST=localhost":                                             "",
		"REVERB_SCHEME=https REVERB_HOST=127.0.0.1":                                             "",
		"REVERB_SCHEME=https REVERB_HOST=203.0.113.5":                                           host,
		"REVERB_SCHEME=https REVERB_HOST=[2001:db8::1]":                                         host,
		"REVERB_SCHEME=https REVERB_HOST=WS.test":                                               "",
	} {
		c := load(append(append([]string{"REVERB_TLS_CERT=" + file}, strings.Fields(set)...), oneApp...), nil)
		if len(c.problems) > 0 || len(c.warnings) != min(len(want), 1) || want != "" && !strings.Contains(c.warnings[0], want) {
			t.Errorf("%s: got %q, %q, want %q", set, c.problems, c.warnings, want)
		}
	}
}

func TestBuildInfo(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}
	for _, c := range []struct {
		version, revision, module string
		settings                  []debug.BuildSetting
		want                      string
	}{
		{"", "", "(devel)", nil, "unknown unknown"},
		{"", "", "(devel)", vcs, "0123456789ab-dirty 0123456789ab-dirty"},
		{"", "", "", vcs[:1], "0123456789ab 0123456789ab"},
		{"", "", "v1.0.1", vcs[:1], "v1.0.1 0123456789ab"},
		{"1.1.0", "fedc", "v1.0.1", vcs, "1.1.0 fedc"},
	} {
		v, revision, goVersion := buildInfo(c.version, c.revision, &debug.BuildInfo{Main: debug.Module{Version: c.module}, Settings: c.settings})
		if got := v + " " + revision; got != c.want || goVersion != runtime.Version() {
			t.Errorf("got %s, %s, want %s", got, goVersion, c.want)
		}
	}
	if v, revision, _ := buildInfo("", "", nil); v+revision != "unknownunknown" {
		t.Errorf("got %s, %s", v, revision)
	}
}
