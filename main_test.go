package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
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
	"regexp"
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

	"reverb/internal/admin"
	"reverb/internal/cluster"
	"reverb/internal/config"
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

// testLoops makes loops that have not begun to run, and that need no system calls.
func testLoops(t testing.TB, n int) *loops {
	t.Helper()
	ls, err := newLoops(n, new(atomic.Int64), func() (*poll.Poller, error) { return poll.NewPortable(), nil })
	if err != nil {
		t.Fatal(err)
	}
	return ls
}

// pipeLoop runs one loop with one recorder at the end of a pipe.
func pipeLoop(t *testing.T, r *recorder) (peer net.Conn, stop func()) {
	ls := testLoops(t, 1)
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

// The turn that runs counts for the lag before it has ended.
func TestLagOfTheRunningTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		_, stop := pipeLoop(t, r)
		defer stop()
		synctest.Wait()
		check := func(when string, want time.Duration) {
			t.Helper()
			if got := r.loop.group.figures(time.Now())[0].Lag; got != want {
				t.Errorf("%s: the lag is %v, want %v", when, got, want)
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

func signedQuery(a *config.App, method, path, body string, at time.Time, extra map[string]string) map[string]string {
	sum := md5.Sum([]byte(body))
	q := map[string]string{"auth_key": a.Key, "auth_timestamp": strconv.FormatInt(at.Unix(), 10), "auth_version": "1.0"}
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
	q["auth_signature"] = protocol.Sign(a.Secret, method+"\n"+path+"\n"+strings.Join(lines, "&"))
	return q
}

// --- pusher.go: conversations ---

// rig is a whole server in memory, inside a synctest bubble.
type rig struct {
	t    *testing.T
	hub  *hub
	http *http.Server
	pipe chan net.Conn
	apps []*config.App
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

func testApp(edit func(a *config.App)) *config.App {
	a := &config.App{ID: "app-id", Key: "app-key", Secret: "app-secret", AllowedOrigins: []string{"*"},
		PingInterval: 60 * time.Second, ActivityTimeout: 30 * time.Second, MaxMessageSize: 10_000, MaxSubscriptions: 10_000}
	if edit != nil {
		edit(a)
	}
	return a
}

func withRig(t *testing.T, edit func(a *config.App), f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		ls := testLoops(t, 2)
		a := testApp(edit)
		r := &rig{t: t, hub: newHub([]*config.App{a}, ls, new(testProgram)), pipe: make(chan net.Conn), apps: []*config.App{a}}
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
		counted := r.hub.tables.Load().byID[a.ID]
		if n := counted.figures(); n.Connected != n.Disconnected {
			t.Errorf("%d connections were counted in, %d out", n.Connected, n.Disconnected)
		}
		if n := r.hub.addresses.Len(); n != 0 {
			t.Errorf("%d addresses are still counted", n)
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, id, ok := strings.Cut(strings.Join(c.got, ""), `{\"socket_id\":\"`); ok {
		c.id, _, _ = strings.Cut(id, `\`)
	}
	return c
}

// connect dials and takes connection_established off.
func (r *rig) connect() *testClient {
	c := r.dial("/app/" + r.apps[0].Key)
	if got := c.take(); c.id == "" {
		r.t.Fatalf("got %s, want connection_established", got)
	}
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
				add(fmt.Sprintf("frame %d %q", h.op, payload))
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
	d["auth"] = c.r.apps[0].Key + ":" + protocol.Sign(c.r.apps[0].Secret, message)
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
	values := url.Values{}
	for k, v := range signedQuery(r.apps[0], method, path, body, time.Now(), query) {
		values.Set(k, v)
	}
	return r.raw(fmt.Sprintf("%s %s?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, values.Encode(), len(body), body))
}

// raw sends a request as it stands and returns status and body.
func (r *rig) raw(request string) string {
	ours, theirs := net.Pipe()
	r.pipe <- theirs
	defer ours.Close()
	go io.WriteString(ours, request)
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
	subscribed := map[*app]map[string]int{}        // by name of the channel
	users := map[*app]map[string]map[string]bool{} // by name of the channel
	for _, a := range r.hub.tables.Load().byID {
		subscribed[a], users[a] = map[string]int{}, map[string]map[string]bool{}
	}
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
			for s := range cl.subscriptions.All {
				n++
				subscribed[cl.app][s.Name()]++
				if cl.find([]byte(s.Name())) != s {
					t.Errorf("subscription to %s is not where it should be", s.Name())
				}
				if s.Kind().Presence {
					if users[cl.app][s.Name()] == nil {
						users[cl.app][s.Name()] = map[string]bool{}
					}
					users[cl.app][s.Name()][s.Member().ID] = true
				}
			}
			if cl.subscriptions.Len() != n {
				t.Errorf("client has %d subscriptions, counts %d", n, cl.subscriptions.Len())
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
	for a, want := range subscribed {
		r.checkTraffic(a, want)
		got := a.Occupied("", time.Now())
		if len(got) != len(want) {
			t.Errorf("%d channels of app %s are occupied, clients have %d", len(got), a.id, len(want))
		}
		for name, n := range want {
			there := map[string]bool{}
			for _, m := range a.Users(channelName(name)) {
				there[m.ID] = true
			}
			if got[name].Subscriptions != n || !maps.Equal(there, users[a][name]) || got[name].Users != len(there) {
				t.Errorf("%s: %+v, users %v; clients have %d subscriptions, users %v", name, got[name], there, n, users[a][name])
			}
		}
	}
}

// While an app's events have more deliveries to come than may wait, those who publish
// for it wait: nothing more is read of the connections that do, what they had sent before
// is kept, and requests are answered later or with a 503. Others of the app are served,
// and other apps publish.
func TestPublishersWait(t *testing.T) {
	withRig(t, func(a *config.App) { a.ClientEvents = config.FromAll }, func(r *rig) {
		other := testApp(func(a *config.App) { a.ID, a.Key, a.ClientEvents = "other", "other-key", config.FromAll })
		r.hub.configure([]*config.App{r.apps[0], other}, *r.hub.tables.Load())
		busy, quiet := r.hub.tables.Load().byID[r.apps[0].ID], r.hub.tables.Load().byID["other"]
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
		r.apps = []*config.App{other}
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
		want(publisher, `frame 10 "p"`)
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
	c := &client{app: other, id: protocol.NewSocketID()}
	c.handler, c.maxMessage = c, 10_000
	l.place(&c.conn)
	c.state, c.blocked = connOpen, true
	s, _, _ := w.hub.registry.engine.join(c.place(channelName("news"), nil))
	c.subscriptions.Add(s)
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
func (r *rig) checkTraffic(a *app, subscribed map[string]int) {
	total := 0
	for _, n := range subscribed {
		total += n
	}
	gotChannels, gotTotal := 0, 0
	for _, k := range a.figures().Kinds {
		gotChannels += int(k.Occupied - k.Vacated)
		gotTotal += int(k.Subscribed - k.Unsubscribed)
	}
	if gotChannels != len(subscribed) || gotTotal != total {
		r.t.Errorf("%d channels and %d subscriptions are counted, %d and %d are there", gotChannels, gotTotal, len(subscribed), total)
	}
}

// TestConversations plays test/testdata/conversations/*.txt, where the lines are explained.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("test/testdata/conversations/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all []*conversation
		for i, line := range strings.Split(string(b), "\n") {
			if title, ok := strings.CutPrefix(line, "== "); ok {
				all = append(all, &conversation{file: file, title: title, clients: map[string]*testClient{}})
			} else if line != "" && !strings.HasPrefix(line, "#") {
				c := all[len(all)-1]
				c.steps = append(c.steps, scriptLine{i + 1, line})
			}
		}
		for _, c := range all {
			t.Run(c.title, c.play)
		}
	}
}

// conversation is one script of TestConversations.
type conversation struct {
	file, title string
	steps       []scriptLine
	rig         *rig
	clients     map[string]*testClient
	answer      string   // of the last request; empty once it was compared
	logged      []string // refusals since a line named them
}

type scriptLine struct {
	number int
	text   string
}

func (c *conversation) play(t *testing.T) {
	settings, given := strings.CutPrefix(c.steps[0].text, "app ")
	if given {
		c.steps = c.steps[1:]
	} else {
		settings = ""
	}
	withRig(t, func(a *config.App) { scriptSettings(t, a, settings) }, func(r *rig) {
		c.rig = r
		r.program().logf = func(word, who, why string) { c.logged = append(c.logged, word+", "+who+": "+why) }
		r.program().remote = func(r *http.Request) string { return cmp.Or(r.Header.Get("X-From"), r.RemoteAddr) }
		for len(c.steps) > 0 && !t.Failed() {
			step := c.steps[0]
			if got, want := c.step(); got != want {
				t.Errorf("%s:%d: got\n%s\nwant\n%s", c.file, step.number, got, want)
			}
		}
		for name, client := range c.clients {
			if got := strings.TrimPrefix(client.take(), "eof"); got != "" && !t.Failed() {
				t.Errorf("%s: %s: at the end %s has got\n%s", c.file, c.title, name, got)
			}
		}
	})
}

// step plays the first line that is left, or the lines that tell what one client gets. It
// returns what came and what should have come.
func (c *conversation) step() (got, want string) {
	text := c.expand(c.steps[0].text)
	c.steps = c.steps[1:]
	who, rest, _ := strings.Cut(text, " ")
	verb, argument, _ := strings.Cut(rest, " ")
	client := c.clients[who]
	switch {
	case who == "=":
		got, c.answer = c.answer, ""
		return got, rest
	case who == "GET" || who == "POST":
		u, err := url.Parse("http://x" + verb)
		if err != nil {
			return err.Error(), ""
		}
		query := map[string]string{}
		for name, values := range u.Query() {
			query[name] = values[0]
		}
		c.answer = c.rig.request(who, u.EscapedPath(), argument, query)
	case who == "asks":
		words := strings.Fields(rest)
		c.answer = c.rig.ask(words[0], words[1], words[2], words[3])
	case who == "log":
		got, c.logged = strings.Join(c.logged, "|"), nil
		return got, rest
	case who == "wait":
		d, err := time.ParseDuration(rest)
		if err != nil {
			return err.Error(), ""
		}
		time.Sleep(d) // in the bubble: no time passes
	case who == "refused":
		return fmt.Sprint(verb, " ", c.rig.hub.refused.Of(verb).Load()), rest
	case who == "server":
		serverStates[rest](c.rig)
	case verb == "connects":
		c.clients[who] = c.rig.connect()
	case verb == "dials":
		path, header, _ := strings.Cut(argument, " ")
		c.clients[who] = c.rig.dial(path, strings.Fields(header)...)
	case verb == ">":
		client.send(argument)
	case verb == "subscribes":
		channel, data, _ := strings.Cut(argument, " ")
		client.subscribe(channel, data)
	case verb == "sends":
		kind, quoted, _ := strings.Cut(argument, " ")
		payload, err := strconv.Unquote(quoted)
		if err != nil {
			return quoted + ": " + err.Error(), ""
		}
		client.sendFrame(map[string]opcode{"text": opText, "binary": opBinary, "ping": opPing, "pong": opPong}[kind], payload)
	case verb == "closes":
		client.nc.Close()
	case verb == "<":
		lines := []string{argument}
		for len(c.steps) > 0 && strings.HasPrefix(c.steps[0].text, who+" < ") {
			lines = append(lines, c.expand(c.steps[0].text)[len(who)+3:])
			c.steps = c.steps[1:]
		}
		return client.take(), strings.Join(lines, "\n")
	default:
		return "a line that means nothing: " + text, ""
	}
	synctest.Wait()
	return "", ""
}

// expand puts socket IDs for $a, signatures for $sign(SECRET|TEXT), and repeats what stands
// as {{x*200}}.
func (c *conversation) expand(text string) string {
	text = strings.ReplaceAll(text, `\xff`, "\xff")
	for name, client := range c.clients {
		text = strings.ReplaceAll(text, "$"+name, client.id)
	}
	text = signature.ReplaceAllStringFunc(text, func(s string) string {
		m := signature.FindStringSubmatch(s)
		return protocol.Sign(m[1], m[2])
	})
	return repetition.ReplaceAllStringFunc(text, func(s string) string {
		m := repetition.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
}

var (
	repetition = regexp.MustCompile(`\{\{(.+?)\*(\d+)\}\}`)
	signature  = regexp.MustCompile(`\$sign\((.*?)\|(.*?)\)`)
)

// serverStates is what a script can make the server be.
var serverStates = map[string]func(r *rig){
	"is full":                func(r *rig) { r.program().full = func() bool { return true } },
	"is short of memory":     func(r *rig) { r.hub.short.Store(true) },
	"has memory again":       func(r *rig) { r.hub.short.Store(false) },
	"holds the app":          func(r *rig) { r.hub.tables.Load().byID["app-id"].held.Store(true) },
	"stands below /ws":       func(r *rig) { r.program().prefix = "/ws" },
	"lets in two an address": func(r *rig) { r.limitAddresses(2) },
	"lets in every address":  func(r *rig) { r.limitAddresses(0) },
	"stops":                  func(r *rig) { r.stopped = true; r.hub.loops.stop(2 * time.Second) },
}

func (r *rig) limitAddresses(limit int) {
	r.hub.configure(r.apps, tables{maxRequestSize: 10_000, authWindow: time.Minute, maxPerAddress: limit})
}

// ask sends a GET for path?query&AUTH as they stand, signed over signedPath and signedQuery;
// AUTH is what every signed query has.
func (r *rig) ask(path, signedPath, query, signedQuery string) string {
	auth := fmt.Sprintf("auth_key=app-key&auth_timestamp=%d&auth_version=1.0", time.Now().Unix())
	sign := protocol.Sign(r.apps[0].Secret, "GET\n"+signedPath+"\n"+strings.ReplaceAll(signedQuery, "AUTH", auth))
	return r.raw("GET " + path + "?" + strings.ReplaceAll(query, "AUTH", auth) + "&auth_signature=" + sign + " HTTP/1.1\r\nHost: x\r\n\r\n")
}

// scriptSettings sets what a script wants of the app, as in "members=2 limit=3/1m".
func scriptSettings(t *testing.T, a *config.App, settings string) {
	for _, field := range strings.Fields(settings) {
		name, value, _ := strings.Cut(field, "=")
		number, _ := strconv.Atoi(value)
		switch name {
		case "origins":
			a.AllowedOrigins = strings.Split(value, ",")
		case "connections":
			a.MaxConnections = number
		case "members":
			a.MaxMembers = number
		case "member_size":
			a.MaxMemberSize = number
		case "client_events":
			a.ClientEvents = map[string]config.Policy{"members": config.FromMembers, "all": config.FromAll, "none": config.FromNone, "private": config.FromPrivate}[value]
		case "limit": // messages, time, and what happens then
			parts := strings.Split(value+"/", "/")
			attempts, _ := strconv.Atoi(parts[0])
			decay, err := time.ParseDuration(parts[1])
			if err != nil {
				t.Fatal(err)
			}
			a.RateLimit = config.RateLimit{Enabled: true, MaxAttempts: attempts, Decay: decay, Terminate: parts[2] == "terminate"}
		default:
			t.Fatalf("an app has no %s", name)
		}
	}
}

func succeeded(channel, data string) string {
	return string(protocol.EncodeEvent("pusher_internal:subscription_succeeded", []byte(data), channel))
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

// What a connection takes is memory times the number of connections.
func TestSizeOfAClient(t *testing.T) {
	if got := reflect.TypeFor[client]().Size(); got > 144 {
		t.Errorf("a client takes %d bytes; 144 is a size class", got)
	}
	if got := reflect.TypeFor[clientExtra]().Size(); got > 48 {
		t.Errorf("clientExtra takes %d bytes; 48 is a size class", got)
	}
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
	ls := testLoops(t, 2)
	other := testApp(func(a *config.App) { a.ID, a.Key = "other", "other-key" })
	f := &foyer{t: t, hub: newHub([]*config.App{testApp(nil), other}, ls, new(testProgram)), loops: ls.all}
	f.hub.registry.openDesks(poolBytes)
	known := f.hub.tables.Load().byID
	f.apps = []*app{known["app-id"], known["other"]}
	return f
}

func (f *foyer) enter(app, loop int) *visitor {
	v := &visitor{client: &client{app: f.apps[app], id: protocol.NewSocketID()}}
	v.handler, v.maxMessage = v.client, 10_000
	f.loops[loop].place(&v.conn)
	v.state, v.blocked, v.dirty = connOpen, true, true // the test flushes
	f.all = append(f.all, v)
	return v
}

// subscribe signs as the app would.
func (v *visitor) subscribe(channel, data string) {
	a := v.app.settings.Load()
	v.client.subscribe(protocol.Subscription{Channel: channel, ChannelData: []byte(data), Auth: a.Key + ":" + protocol.Sign(a.Secret, v.id.String()+":"+channel+":"+data)})
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
		if s := g.find([]byte(name)); s == nil || s.Member().ID != id {
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
				if waiting[s] == nil && g.find([]byte(s.Name())) == s {
					all := g.views[s.Name()]
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
		for s := range g.subscriptions.All {
			name, members := s.Name(), map[string]bool{}
			for _, m := range f.hub.Users(t.Context(), g.app, channelName(name)) {
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

// One app's cached events do not push out another's (internal/channels has the rest).
func TestCacheIsBoundedByApp(t *testing.T) {
	a, b := testApp(nil), testApp(func(a *config.App) { a.ID, a.Key = "other", "other-key" })
	ls := testLoops(t, 1)
	h := newHub([]*config.App{a, b}, ls, new(testProgram))
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
		if h.tables.Load().byID["app-id"].Stats(channelName("cache-"+strconv.Itoa(i)), now).Cached != nil {
			left++
		}
	}
	if left != 200 {
		t.Errorf("%d of 200 events are left after another app has published 9,000", left)
	}
	if newest := h.tables.Load().byID["other"].Stats(channelName("cache-8999"), now); newest.Cached == nil {
		t.Error("the other app's newest event is not there")
	}
}

// The cluster drops topics one by one, also those of an app that is configured no more.
func TestChannelsOfAFormerAppGo(t *testing.T) {
	a, b := testApp(nil), testApp(nil)
	b.ID, b.Key = "other", "other-key"
	ls := testLoops(t, 1)
	h := newHub([]*config.App{a, b}, ls, new(testProgram))
	first := h.tables.Load().byID["other"]
	h.registry.Snapshot("other:presence-x", []string{"7"}, []string{"{}"}, "", 0)
	users := func() int { return len(first.Users(channelName("presence-x"))) }
	if n := users(); n != 1 {
		t.Fatalf("%d users, want 1", n)
	}
	h.configure([]*config.App{a}, tables{})
	h.registry.Dropped("other:presence-x")
	if users() != 0 || !first.gone.Load() || h.tables.Load().byKey["other-key"] != nil {
		t.Errorf("%d users of the former app are left", users())
	}
	h.configure([]*config.App{a, b}, tables{})
	if tables := h.tables.Load(); tables.byKey["other-key"] != first || first.gone.Load() || len(tables.former) != 0 {
		t.Error("the app did not come back as the one that it was")
	}
}

// TestDataOfPusherEvents: a heartbeat is never refused for its data. The first values
// are empty as PHP's empty() has it; the next are empty once Reverb has decoded the
// string (php 8.2; Reverb: src/Protocols/Pusher/Server.php); the last are not empty.
func TestDataOfPusherEvents(t *testing.T) {
	values := []string{`""`, `"0"`, `"\u0030"`, `0`, `0.0`, `-0`, `-0.0`, `0e5`, `0E+1`, `-0e-3`, `1e-400`, `false`, `null`, `[]`, `[ ]`, `{}`,
		`"0.0"`, `"-0"`, `"false"`, `"null"`, `"[]"`, `"{}"`, `"\"\""`, `"\"0\""`,
		`"x"`, `" "`, `"00"`, `"\u0000"`, `5`, `-1`, `1e-323`, `true`, `[0]`, `[[]]`, `{"a":1}`, `"{"`, `"` + strings.Repeat("x", 5000) + `"`}
	// Heartbeats are free, the others are not.
	limited := func(a *config.App) {
		a.RateLimit = config.RateLimit{Enabled: true, MaxAttempts: 2 * len(values), Decay: time.Minute, Terminate: false}
	}
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
	c := &client{app: w.app, id: protocol.NewSocketID()}
	c.handler, c.maxMessage = c, 10_000
	w.loop.place(&c.conn)
	c.state, c.blocked = connOpen, true
	return c
}

func (w *crowd) join(c *client, channel string) {
	s, _, _ := w.hub.registry.engine.join(c.place(channelName(channel), nil))
	c.subscriptions.Add(s)
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

func TestMaxSubscriptions(t *testing.T) {
	withRig(t, func(a *config.App) { a.MaxSubscriptions = 2 }, func(r *rig) {
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

// A connection that never got in is not counted off.
func TestAddressOfAnAppThatIsGone(t *testing.T) {
	w := newCrowd(t, 0)
	w.hub.configure([]*config.App{w.app.settings.Load().App}, tables{maxPerAddress: 2})
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

// When memory is nearly used up, the connections for which most waits are closed, and the
// apps whose connections hold most are held.
func TestRelieve(t *testing.T) {
	w := newCrowd(t, 0)
	other := testApp(func(a *config.App) { a.ID, a.Key = "other", "other-key" })
	w.hub.configure([]*config.App{w.app.settings.Load().App, other}, tables{})
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
	w.hub.configure([]*config.App{other}, tables{}) // the app may come back
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
	ls := testLoops(t, 1)
	h := newHub([]*config.App{testApp(nil)}, ls, new(testProgram))
	w := &crowd{hub: h, loop: ls.all[0], app: h.tables.Load().byID["app-id"]}
	for range members {
		c := &client{app: w.app, id: protocol.NewSocketID()}
		c.handler, c.maxMessage = c, 10_000
		w.loop.place(&c.conn)
		c.state, c.blocked = connOpen, true
		s, _, _ := h.registry.engine.join(c.place(channelName("news"), nil))
		c.subscriptions.Add(s)
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
	w.hub.registry.engine = newEngine(w.hub.registry, room)
	for _, late := range []bool{false, true} {
		var snap admin.Snapshot
		room.late = late
		if w.hub.figures(&snap); w.hub.behind(w.app) != late || snap.Behind != (admin.Behind{Redis: late}) {
			t.Errorf("Redis is late: %v; an app waits: %v; behind: %+v", late, w.hub.behind(w.app), snap.Behind)
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
		w.hub.registry.engine = newEngine(w.hub.registry, room)
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
		c := &client{app: w.app, id: protocol.NewSocketID()}
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
	w.hub.registry.engine = newEngine(w.hub.registry, room)
	c := &client{app: w.app, id: protocol.NewSocketID()}
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
	for w.app.figures().Kinds[0].Subscribed == 0 {
		runtime.Gosched()
	}
	looked := make(chan struct{})
	go func() {
		w.app.Stats(channelName("a"), time.Now())
		close(looked)
	}()
	for range 2000 {
		select {
		case <-looked:
			t.Fatal("an event can be published between the two")
		default:
			runtime.Gosched()
		}
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
	if f := w.app.figures(); f.Sent == 0 || f.SentBytes != f.Sent*uint64(len(messagePing)) {
		t.Errorf("%d messages of %d bytes are counted with %d bytes", f.Sent, len(messagePing), f.SentBytes)
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
	l.now = 1 + seconds(c.app.settings.Load().ActivityTimeout)
	c.handleDeadline(l.now)
	if c.state != connOpen || c.pinged {
		t.Fatal("it was not seen")
	}
	c.pinged, c.pingTick = true, l.now+1
	l.now += 1 + seconds(c.app.settings.Load().ActivityTimeout)
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
	set := w.app.settings.Load()
	body := `{"name":"App\\Events\\Changed","data":"{\"id\":1,\"text\":\"` + strings.Repeat("x", 200) + `\"}","channels":["news"]}`
	values := url.Values{}
	for k, v := range signedQuery(set.App, "POST", "/apps/app-id/events", body, time.Now(), nil) {
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

func load(env []string, flags map[string]string) *config.Config {
	return loadConfig(append([]string{"REVERB_ENV_FILE=/dev/null"}, env...), flags)
}

func loadConfig(env []string, flags map[string]string) *config.Config {
	c := config.Load(env, flags, files())
	judge(c, time.Unix(1_800_000_000, 0))
	return c
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
	text := strings.Join(append(c.Problems, c.Warnings...), "\n")
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

// TestPasswordsDoNotShow puts URLs where they belong and where they do not.
func TestPasswordsDoNotShow(t *testing.T) {
	values := []string{"redis://u:PASS@127.0.0.1:1", "tls://:PASS@127.0.0.1:1", "rediss://PASS@127.0.0.1:1/0", "redis://u:PASS@127.0.0.1:1/0?password=PASS", "u:PASS@127.0.0.1", "u:PASS@127.0.0.1:1", "PASS@127.0.0.1:1",
		"redis://u:7?PASS@127.0.0.1", "redis://u:7#PASS@127.0.0.1", "redis://u:7/PASS@127.0.0.1", "redis://u:/PASS@127.0.0.1", "redis://u:%PASS@127.0.0.1", "unix://u:PASS@/none", "unix:/none?password=PASS", "/none?password=PASS", "127.0.0.1?password=PASS", "u:PASS"}
	names := []string{"REVERB_REDIS_HOST", "REDIS_HOST", "REVERB_REDIS_URL", "REDIS_URL", "REVERB_REDIS_SENTINELS", "REVERB_REDIS_CLUSTER"}
	for _, v := range config.Variables() {
		if !v.Secret && !slices.Contains(names, v.Name) && v.Name != "REVERB_SCALING_ENABLED" && v.Name != "REVERB_APP_ID" && v.Name != "REVERB_APP_KEY" {
			names = append(names, v.Name)
		}
	}
	for _, name := range names {
		for _, value := range values {
			if value == "u:PASS" && !strings.HasSuffix(name, "_URL") {
				continue // user:password without a host is not the form of anything
			}
			env := []string{"REVERB_ENV_FILE=/dev/null", "REVERB_SCALING_ENABLED=true", "REDIS_PORT=1", "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s", name + "=" + value}
			c := loadConfig(env, nil)
			var out, check bytes.Buffer
			c.Report(&out)
			c.PrintInForce(&out)
			fmt.Fprint(&out, c.InForceJSON(), c.Notes)
			if strings.Contains(name, "REDIS") && len(c.Problems) == 0 {
				checkRedisLink(t.Context(), &findings{w: &check}, &c.Redis)
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
				if got := strings.Contains(strings.Join(c.Problems, "\n"), `app_id="`+id+`"`); got != want {
					t.Errorf("%v, scaling %s: refused %v, want %v; %q", env, scaling, got, want, c.Problems)
				}
			}
		}
	}
}

// TestCommandLine has what the commands do of a line that the program cannot follow.
func TestCommandLine(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"help"}, nil, &out, &errs); code != exitOK {
		t.Errorf("help: got %d", code)
	}
	for _, v := range config.Variables() {
		if !strings.Contains(out.String(), v.Name) {
			t.Errorf("help lacks %s", v.Name)
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

// TestQuiet holds that artisan's -q lets nothing be said but errors.
func TestQuiet(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out, errs bytes.Buffer
	env := []string{"REVERB_ENV_FILE=/dev/null", "REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s", "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0", "REVERB_SERVR=1"}
	if code := run(ctx, []string{"reverb:start", "--quiet", "--no-interaction"}, env, &out, &errs); code != exitOK || out.Len()+errs.Len() > 0 {
		t.Errorf("quiet: got %d, %s%s", code, out.String(), errs.String())
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
	s, err := newServer(&config.Config{Apps: []*config.App{testApp(nil)}, Limits: config.Limits{RequestSize: 10_000}}, ln, nil, 0, slog.New(slog.DiscardHandler), io.Discard)
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
	s, err := newServer(&config.Config{Apps: []*config.App{testApp(nil)}, Limits: config.Limits{RequestSize: 10_000}}, ln, nil, 0, slog.New(slog.DiscardHandler), io.Discard)
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
	sent  []func(error)
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
func (o *otherNodes) Publish(_, _ string, _ uint64, _ bool, done func(error)) {
	o.sent = append(o.sent, done)
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
		o.reg.engine = newEngine(o.reg, o)
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

// A publish is answered when the cluster has accepted the event on every channel, or has not.
func TestPublishWaitsForTheCluster(t *testing.T) {
	withOtherNodes(t, func(r *rig, o *otherNodes) {
		for _, why := range []error{nil, errors.New("Redis is away")} {
			answered := make(chan *protocol.Problem, 1)
			go func() {
				e := []protocol.Publish{{Name: []byte("e"), Data: []byte("1"), Channels: []protocol.Name{channelName("a"), channelName("b")}}}
				_, bad := r.hub.Publish(context.Background(), r.hub.tables.Load().byID["app-id"], e, time.Now())
				answered <- bad
			}()
			synctest.Wait()
			o.sent[0](nil)
			synctest.Wait()
			if len(answered) > 0 || len(o.sent) != 2 {
				t.Fatalf("%d events were given to the cluster, and one of two is accepted: answered %d times", len(o.sent), len(answered))
			}
			o.sent[1](why)
			if bad := <-answered; (bad != nil) != (why != nil) || why != nil && bad.Text != why.Error() {
				t.Errorf("the answer is %+v, want %v", bad, why)
			}
			o.sent = nil
		}
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

// What is published on a channel is shown to those who watch it.
func TestTaps(t *testing.T) {
	withRig(t, nil, func(r *rig) {
		out, stop, _ := r.hub.watch(r.hub.tables.Load().byID["app-id"], "other")
		defer stop()
		r.request("POST", "/apps/app-id/events", `{"name":"e","data":"x","channel":"other"}`, nil)
		if got := string((<-out).Event); got != `{"event":"e","data":"x","channel":"other"}` {
			t.Errorf("got %s", got)
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
func withServer(t *testing.T, c *config.Config, f func(r *rig, s *server, log *bytes.Buffer)) {
	withRig(t, nil, func(r *rig) {
		var log bytes.Buffer
		s := &server{config: c, hub: r.hub, loops: r.hub.loops, sockets: places.New(0), log: slog.New(slog.NewTextHandler(&log, nil)), started: time.Now()}
		s.listeners = append(s.listeners, pipeListener(nil))
		f(r, s, &log)
	})
}

// What the room admin shows and does comes from the hub: figures of apps and channels, the
// events of a channel, refusals.
func TestAdminSource(t *testing.T) {
	withServer(t, &config.Config{}, func(r *rig, s *server, _ *bytes.Buffer) {
		h := s.newAdmin(&net.UnixAddr{}).Handler
		ask := func(target, body string) string {
			req := httptest.NewRequest("POST", target, strings.NewReader(body))
			if req.Header.Set("Content-Type", "application/json"); body == "" {
				req.Method = "GET"
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			return fmt.Sprintf("%d %s", w.Code, w.Body)
		}
		a := r.connect()
		a.subscribe("news", "")
		a.take()
		const secret = `{"app":"app-id","secret":"app-secret","channel":"news","event":"e","data":"x"}`
		out, stop, ok := s.hub.watch(r.hub.tables.Load().byID["app-id"], "news")
		if !ok {
			t.Fatal("nobody may watch")
		}
		defer stop()
		for _, tt := range []struct{ target, body, want string }{
			{"/channels.json", secret, `200 {"channels":[{"name":"news","subscriptions":1,"users":0}],"total":1}`},
			{"/publish", secret, `200 {"subscriptions":1}`},
			{"/publish", strings.Replace(secret, "app-secret", "wrong", 1), "401 "},
			{"/publish", strings.Replace(secret, "app-id", "wrong", 1), "401 "},
			{"/ready", "", "200 "}, {"/live", "", "200 "}, {"/", "", "200 <!doctype html>"},
		} {
			if got := ask(tt.target, tt.body); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: got %.200s, want %s", tt.target, got, tt.want)
			}
		}
		a.want(`{"event":"e","data":"x","channel":"news"}`)
		if m := <-out; string(m.Event) != `{"event":"e","data":"x","channel":"news"}` || !m.At.Equal(time.Now()) {
			t.Errorf("who watches gets %s of %v", m.Event, m.At)
		}
		text := ask("/metrics", "")
		for _, want := range []string{`connected{app_id="app-id",port="0"} 1`, `published_events_total{app_id="app-id",port="0"} 1`,
			`active_channels{app_id="app-id",channel_type="public"} 1`, `refused_total{reason="unauthorized"} 2`, `loop_lag_seconds{loop="1"} 0`} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("the metrics lack %s", want)
			}
		}
		s.draining.Store(true)
		if got := ask("/ready", ""); got != "503 stopping\n" {
			t.Errorf("while it stops: got %s", got)
		}
		s.draining.Store(false)
		r.program().full = func() bool { return true }
		if got := ask("/ready", ""); got != "503 0 of 0 connections are taken; raise LimitNOFILE or add a server\n" {
			t.Errorf("when it is full: got %s", got)
		}
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
	c := loadConfig([]string{"REVERB_ENV_FILE=" + file}, map[string]string{})
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
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
			if got := r.hub.tables.Load().byID["app-id"].settings.Load().MaxMessageSize; got != tt.want || !strings.Contains(log.String(), tt.says) {
				t.Errorf("%s: got %d, want %d; the log: %s", tt.size, got, tt.want, log)
			}
		}
	})
}

// --- redis.go ---

// clusterSlots is an answer to CLUSTER SLOTS: ranges and the ports of their masters.
func clusterSlots(parts ...[3]int) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(parts))
	for _, p := range parts {
		b = fmt.Appendf(b, "*3\r\n:%d\r\n:%d\r\n*3\r\n$0\r\n\r\n:%d\r\n$2\r\nid\r\n", p[0], p[1], p[2])
	}
	return b
}

func TestTopology(t *testing.T) {
	seed := config.RedisAddress{Network: "tcp", Address: "10.0.0.1:7000", Username: "u", Password: "p", TLS: true}
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
	want.Address = "10.0.0.1:2"
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
func fakeRedis(t *testing.T, replies ...string) (a config.RedisAddress, commands func() []string) {
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
	return config.RedisAddress{Network: "tcp", Address: ln.Addr().String()}, func() []string {
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
		a.DB, a.Username, a.Password = c.db, c.user, c.password
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
	sentinel := func(of config.RedisAddress) config.RedisAddress {
		host, port, _ := net.SplitHostPort(of.Address)
		a, _ := fakeRedis(t, hello, "+OK\r\n", fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port))
		return a
	}
	ignorant, _ := fakeRedis(t, hello, "+OK\r\n", "*-1\r\n")
	o := &redisOptions{service: "main", name: "reverb", timeout: time.Minute}
	o.sentinels = []config.RedisAddress{ignorant, sentinel(replica), sentinel(master)}
	c, err := dialRedis(t.Context(), o)
	if err != nil || c.nc.RemoteAddr().String() != master.Address {
		t.Fatalf("got %v", err)
	}
	c.nc.Close()
	o.sentinels = o.sentinels[:2]
	if _, err := dialRedis(t.Context(), o); err == nil || !strings.Contains(err.Error(), `knows no service "main"; set REVERB_REDIS_SERVICE`) || !strings.Contains(err.Error(), "is no master") {
		t.Errorf("got %v", err)
	}
}

// --- tls.go ---

// TestCertificates has what an operator may name; internal/lib/pemfile tests the files.
func TestCertificates(t *testing.T) {
	const expires = 1000 * time.Hour // of testCertificate's
	der, cert, key := testCertificate(t)
	valid := time.Unix(1_800_000_000, 0)
	block, _ := pem.Decode([]byte(key))
	//lint:ignore SA1019 operators have such keys
	sealed, err := x509.EncryptPEMBlock(crand.Reader, "PRIVATE KEY", block.Bytes, []byte("geheim"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	_, _, otherKey := testCertificate(t)
	certFile, keyFile, both := writeFile(t, "cert", cert), writeFile(t, "key", key), writeFile(t, "both", cert+key)
	sealedFile, other := writeFile(t, "sealed", string(pem.EncodeToMemory(sealed))), writeFile(t, "other", otherKey)
	pkcs8, damaged := writeFile(t, "pkcs8", pemText("ENCRYPTED PRIVATE KEY", der)), writeFile(t, "damaged", pemText("CERTIFICATE", der[:40]))
	for _, c := range []struct {
		cert, key, pass string
		at              time.Duration // after the certificate was tested
		want            string
	}{
		{certFile, keyFile, "", 0, ""}, {both, "", "", 0, ""}, {certFile, sealedFile, "geheim", 0, ""},
		{certFile, sealedFile, "", 0, "sealed: the private key is encrypted; set REVERB_TLS_PASSPHRASE or"},
		{certFile, sealedFile, "falsch", 0, "sealed: the passphrase in REVERB_TLS_PASSPHRASE does not open the private key"},
		{certFile, pkcs8, "x", 0, "openssl pkey"}, {certFile, "", "", 0, "holds no private key, only"}, {keyFile, certFile, "", 0, "holds no certificate, only"},
		{both + "/nope", "", "", 0, "REVERB_TLS_CERT: " + both}, {certFile, keyFile + "no", "", 0, "no such file"},
		{certFile, other, "", 0, "does not belong to the first certificate"}, {damaged, keyFile, "", 0, "copy the certificate again"},
		{certFile, writeFile(t, "bad", pemText("PRIVATE KEY", der)), "", 0, "the private key is damaged or of a kind"},
		{both, "", "", expires + time.Second, "the certificate has expired on 2027-02-26; renew it"},
		{both, "", "", -2 * time.Hour, "the certificate is not valid before 2027-01-15"},
		{both, "", "", expires - 250*time.Hour, "the certificate expires on 2027-02-26, in 10 days; renew it"},
	} {
		_, warning, err := loadCertificate(c.cert, c.key, c.pass, valid.Add(c.at))
		if err != nil {
			warning = err.Error()
		}
		if !strings.Contains(warning, c.want) || (warning == "") != (c.want == "") || strings.Contains(warning, "falsch") {
			t.Errorf("%s, %s at %v: got %q, want %q", filepath.Base(c.cert), filepath.Base(c.key), c.at, warning, c.want)
		}
	}
	if _, err := loadCA(certFile); err != nil {
		t.Error(err)
	}
	if _, err := loadCA(keyFile); err == nil {
		t.Error("a key was taken for a CA")
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

// TestForeignCertificates: what OpenSSL, and so PHP, takes is taken wherever a certificate is
// named.
func TestForeignCertificates(t *testing.T) {
	der, _, key := testCertificate(t)
	keyFile, file := writeFile(t, "key", "\ufeff"+key), writeFile(t, "cert", "\ufeff"+pemText("X509 CERTIFICATE", der))
	c := load(append([]string{"REVERB_TLS_CERT=" + file, "REVERB_TLS_KEY=" + keyFile, "REVERB_TLS_CA=" + file, "REVERB_HOST=ws.test",
		"REVERB_SCALING_ENABLED=true", "REVERB_REDIS_CA=" + file, "REVERB_REDIS_CERT=" + file, "REVERB_REDIS_KEY=" + keyFile}, oneApp...), nil)
	if len(c.Problems)+len(c.Warnings) > 0 {
		t.Errorf("got %q, %q", c.Problems, c.Warnings)
	} else if config, _, err := loadTLS(&c.TLS, time.Unix(1_800_000_000, 0)); err != nil || !bytes.Equal(config.Certificates[0].Leaf.Raw, der) {
		t.Errorf("got another certificate, or %v", err)
	}
}

func TestByteOrderMarks(t *testing.T) {
	secret, apps := writeFile(t, "secret", "\ufeffs\r\n"), writeFile(t, "apps", "\ufeff[{\"app_id\":\"1\",\"key\":\"k\",\"secret\":\"s\"}]")
	envFile := writeFile(t, "env", "\ufeffREVERB_APP_ID=1\rREVERB_APP_KEY=k\rREVERB_APP_SECRET=s\r")
	for _, env := range [][]string{
		{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET_FILE=" + secret}, {"REVERB_APPS_FILE=" + apps}, {"REVERB_ENV_FILE=" + envFile},
	} {
		c := loadConfig(append([]string{"REVERB_ENV_FILE=/dev/null"}, env...), nil)
		if len(c.Problems) > 0 || len(c.Apps) != 1 || c.Apps[0].ID+c.Apps[0].Key+c.Apps[0].Secret != "1ks" {
			t.Errorf("%q: got %q, %d apps", env, c.Problems, len(c.Apps))
		}
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
		if len(c.Problems) > 0 || len(c.Warnings) != min(len(want), 1) || want != "" && !strings.Contains(c.Warnings[0], want) {
			t.Errorf("%s: got %q, %q, want %q", set, c.Problems, c.Warnings, want)
		}
	}
}
