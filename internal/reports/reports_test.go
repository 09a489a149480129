package reports

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"reverb/internal/operator"
	"reverb/internal/protocol"
)

// peer is a client that a trace watches if marks says so.
type peer struct {
	operator.Peer
	marks uint8
}

func (p *peer) AppID() string          { return "app" }
func (p *peer) ID() protocol.SocketID  { return protocol.SocketIDOf(7) }
func (p *peer) Address() string        { return "192.0.2.1:3" }
func (p *peer) Bytes() (in, out int64) { return 1, 2 }
func (p *peer) Age() time.Duration     { return time.Second }
func (p *peer) Traced() *uint8         { return &p.marks }

// Every audience hears of what concerns it, in its words.
func TestAudiences(t *testing.T) {
	var log, terminal strings.Builder
	plain := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	var r Reports
	r.Open(slog.New(slog.NewTextHandler(&log,
		&slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: plain})), false, &terminal)
	p, signed := new(peer), []byte(`{"auth":"key:secret"}`)
	socket := p.ID().String()
	who := "app=app socket=" + socket + " remote=192.0.2.1:3"
	for _, c := range []struct {
		tell          func()
		log, terminal string
	}{
		{func() { r.Connected(p, "js") }, "level=DEBUG msg=connected " + who + " library=js", ""},
		{func() { r.Ended(p, "slow", 1013, true) }, "level=DEBUG msg=disconnected " + who +
			" code=1013 reason=slow age=1s in=1 out=2", "Connection Closed " + socket + " slow"},
		{func() { r.Ended(p, "slow", 0, false) }, "", "Connection Closed " + socket + " slow"},
		{func() { r.Received(p, signed) }, "",
			"Message Received " + socket + " " + protocol.WithoutAuth(signed)},
		{func() { r.Complained(p, protocol.ErrNotMember) }, "",
			"Message Sent " + socket + " " + protocol.ErrNotMember.Message},
		{func() { r.Complained(p, protocol.ErrUnknownApp) }, "",
			"Message Sent " + socket + " " + protocol.ErrUnknownApp.Message},
		{func() { r.Said(p, "private-a", []byte("client-e"), []byte("123")) },
			"level=DEBUG msg=published " + who + " channel=private-a event=client-e bytes=3", ""},
		{func() { r.Published("app", "a", []byte("e"), []byte("123")) },
			"level=DEBUG msg=published app=app channel=a event=e bytes=3", "Broadcasting To a 123"},
		{func() { r.Refused(p, "word", "a", 4009, "because") },
			`level=INFO msg="refused: word" ` + who + " channel=a code=4009 why=because", ""},
		{func() { r.OverQuota(p, 3) }, `level=INFO msg="refused: ` +
			protocol.ErrOverQuota.Word + `" ` + who +
			` code=4004 why="the app has 3 connections"`, ""},
		{func() { r.Crowd("app", "192.0.2.1", 2) }, `level=INFO msg="refused: ` +
			protocol.ErrAddressLimit.Word + `" app=app remote=192.0.2.1 code=` +
			strconv.Itoa(protocol.ErrAddressLimit.Code) + ` why="the address has 2 connections; ` +
			`REVERB_MAX_CONNECTIONS_PER_ADDRESS allows no more"`, ""},
	} {
		log.Reset()
		terminal.Reset()
		c.tell()
		shown := strings.Join(strings.Fields(strings.ReplaceAll(terminal.String(), ".", "")), " ")
		want := strings.Join(strings.Fields(strings.ReplaceAll(c.terminal, ".", "")), " ")
		if got := strings.TrimSpace(log.String()); got != c.log || shown != want {
			t.Errorf("got the line %s\nand %q on the terminal, want\n%s\nand %q", got, shown, c.log,
				want)
		}
	}
	if n := r.Closed.Of("slow").Load(); n != 2 {
		t.Errorf("%d endings are counted, want 2", n)
	}
	for word, want := range map[string]uint64{protocol.ErrNotMember.Word: 1,
		protocol.ErrUnknownApp.Word: 0, protocol.ErrOverQuota.Word: 1, "word": 0} {
		if n := r.Refusals.Of(word).Load(); n != want {
			t.Errorf("%s is counted %d times, want %d", word, n, want)
		}
	}
}

// Without an audience nothing is told, and only the counters count.
func TestNobody(t *testing.T) {
	var r Reports
	p, message := new(peer), []byte("x")
	if n := testing.AllocsPerRun(100, func() {
		r.Look(p)
		r.Trace(p, "in", "", message)
		r.Received(p, message)
		r.Moved(p, "subscribed", "a")
		r.Said(p, "a", nil, nil)
		r.Published("app", "a", nil, nil)
	}); n != 0 {
		t.Errorf("%v allocations for nobody", n)
	}
	r.Connected(p, "js")
	r.Ended(p, "slow", 0, true)
	if r.Closed.Of("slow").Load() != 1 || p.marks != 0 {
		t.Error("the ending was not counted, or a trace was found")
	}
}
