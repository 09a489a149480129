//go:build linux

package handover

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Recorded hand-overs of every format lie in testdata, as format-N.txt. Each line is a frame of the
// giver: how many descriptors came with it, its kind, and its payload; n*xx are n equal bytes.
// REVERB_TEST_WRITE=1 writes that of LastFormat, which changes with the format only.

// everything is a hand-over in which each field is set somewhere.
func everything() (names []string, sections map[string]string, all []*Connection) {
	long := bytes.Repeat([]byte("long "), sharedFrom)
	sections = map[string]string{"app": "\x06app-id state", "empty": "",
		"last": strings.Repeat("e", maxFrame+7)}
	all = []*Connection{
		{App: "app-id", Socket: 1<<63 | 5, Deflate: true, Control: true,
			Pinged: true, Authorized: true, Counted: true,
			Library: "pusher-js 8.4.0", Remote: "[2001:db8::1]:5000", Relay: 2,
			MaxMessage: 10_000, Since: 1, Seen: 200, PingTick: 201, LimitEnd: 260, Attempts: 7,
			Partial: Partial{InFrame: true, Length: 400, Left: 300, Mask: 0xdeadbeef, Op: 0,
				Fin: true, Message: 1, Deflated: true, UTF8: 3, Body: long[:700]},
			Unread: []byte("\x81\x80"),
			Pieces: []Piece{{Bytes: long[3:], Cut: true}, {Bytes: []byte("\x8a\x00"), Pong: true},
				{Place: 2}, {Bytes: long[3:]}},
			Subscriptions: []Subscription{{Channel: "public"},
				{Channel: "presence-a", User: "7", Info: []byte(`{"name":"Ann"}`), Member: true,
					Listed: true},
				{Channel: "presence-b", User: "8", Info: []byte{}, Member: true},
				{Channel: "presence-c", Member: true}},
			User: &User{ID: "7", Info: []byte(`{"name":"Ann"}`), Watchlist: []string{"8", "9"}}},
		{App: "app-id", Socket: 6, MaxMessage: 1 << 20, Partial: Partial{Head: []byte{0x81}}},
		{App: "app-id", Socket: 7, MaxMessage: 10, User: &User{ID: "8"}, Partial: Partial{
			InFrame: true, Length: 5, Left: 2, Op: 9, Fin: true, Ctl: []byte("abc")}},
		{},
	}
	return []string{"app", "empty", "last"}, sections, all
}

// record gives everything, and returns the frames of the giver.
func record(t *testing.T) (lines []string) {
	t.Helper()
	names, sections, all := everything()
	a, b := pair(t)
	given := make(chan error, 1)
	go func() {
		g := NewGiver(a)
		defer g.Close()
		offer := Offer{[]Listener{{"main", 0}, {"control", 0}}, time.Now()}
		_, err := g.Meet(offer, time.Now().Add(20*time.Second))
		g.Begin(time.Now().Add(20*time.Second), time.Second)
		for _, name := range names {
			if err == nil {
				err = g.Section(name, []byte(sections[name]))
			}
		}
		batch := g.Batch()
		for _, c := range all {
			if err == nil {
				err = batch.Add(c, 0)
			}
		}
		finish := func() error {
			_, _, err := g.Finish()
			return err
		}
		for _, step := range []func() error{batch.Flush, finish, g.Yours} {
			if err == nil {
				err = step()
			}
		}
		given <- err
	}()
	p := pipe{c: b}
	answers := map[kind]kind{kindOffer: kindReady, kindBatch: kindTook, kindAll: kindInstalled,
		kindYours: kindMine}
	if err := p.send(kindHello, []byte{LastFormat, LastFormat}); err != nil {
		t.Fatal(err)
	}
	for k := kind(0); k != kindYours; {
		var payload []byte
		var fds []int
		var err error
		if k, payload, fds, err = p.receive(); err != nil {
			t.Fatal(err)
		}
		closeFiles(fds)
		text := fmt.Sprintf("%x", payload)
		if n := len(payload); n > 1 && bytes.Count(payload, payload[:1]) == n {
			text = fmt.Sprintf("%d*%x", n, payload[:1])
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %02x %s", len(fds), byte(k), text)))
		if answer, ok := answers[k]; ok {
			if err := p.send(answer, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-given; err != nil {
		t.Fatal(err)
	}
	return lines
}

func recorded(format int) string {
	return filepath.Join("testdata", fmt.Sprintf("format-%d.txt", format))
}

// Every format is read, and what is written today is what was recorded.
func TestRecorded(t *testing.T) {
	now := record(t)
	if os.Getenv("REVERB_TEST_WRITE") != "" {
		text := []byte(strings.Join(now, "\n") + "\n")
		if err := os.WriteFile(recorded(LastFormat), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := open(t)
	for format := FirstFormat; format <= LastFormat; format++ {
		b, err := os.ReadFile(recorded(format))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		replay(t, lines)
		if format != LastFormat {
			continue
		}
		for i, line := range lines[1:] { // the offer tells a time
			if len(now) != len(lines) || line != now[i+1] {
				t.Fatalf("frame %d of %d is %.60s, recorded was %.60s of %d", i+1, len(now),
					now[i+1], line, len(lines))
			}
		}
	}
	if after := open(t); after > before { // those of an earlier test may be closed late
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

// replay has a taker read recorded frames.
func replay(t *testing.T, lines []string) {
	t.Helper()
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	p := pipe{c: a}
	go func() {
		for _, line := range lines {
			f := strings.Fields(line + " ")
			n, _ := strconv.Atoi(f[0])
			k, _ := strconv.ParseUint(f[1], 16, 8)
			text, times := strings.Join(f[2:], ""), 1
			if n, one, ok := strings.Cut(text, "*"); ok {
				times, _ = strconv.Atoi(n)
				text = one
			}
			payload, _ := hex.DecodeString(text)
			payload = bytes.Repeat(payload, times)
			if kind(k) == kindOffer { // its time is of another machine
				payload = addNumber(payload, tagBegan, uint64(monotonic()))
			}
			p.send(kind(k), payload, make([]int, n)...) // copies of descriptor 0
		}
	}()
	taker, o, err := Join(b, time.Now().Add(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range o.Listeners {
		closeFiles([]int{l.FD})
	}
	if len(o.Listeners) != 2 || o.Listeners[0].Role != "main" || o.Listeners[1].Role != "control" {
		t.Errorf("the offer is %+v", o)
	}
	var r got
	orphan, err := taker.Take(&r, nil)
	r.close()
	if err != nil || orphan {
		t.Fatal(orphan, err)
	}
	_, sections, all := everything()
	if !reflect.DeepEqual(r.sections, sections) || len(r.connections) != len(all) {
		t.Fatalf("%d sections and %d connections", len(r.sections), len(r.connections))
	}
	for i, want := range all {
		if !reflect.DeepEqual(&r.connections[i], want) {
			t.Errorf("connection %d is\n%+v, want\n%+v", i, r.connections[i], *want)
		}
	}
}
