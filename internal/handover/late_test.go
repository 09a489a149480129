//go:build linux

package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// serving is a taker that serves, and the end of its late sections.
func serving(t *testing.T, ctx context.Context, late func(string, []byte, []int) error) (
	giver *pipe, ended chan error) {
	t.Helper()
	a, b := pair(t)
	giver, ended = &pipe{c: a}, make(chan error, 1)
	go func() { ended <- (&Taker{pipe: pipe{c: b}}).Serving(ctx, "well", late) }()
	return giver, ended
}

// What a giver sends after the last word arrives, with descriptors, until it hangs up.
func TestLate(t *testing.T) {
	before := open(t)
	var names, states string
	var all got
	pipe, ended := serving(t, t.Context(), func(name string, state []byte, fds []int) error {
		names, states = names+name, states+string(state)
		return all.Section(name, state, fds)
	})
	g := NewGiver(pipe.c)
	g.Begin(time.Now().Add(20*time.Second), 20*time.Second)
	if told, err := g.Serving(); told != "well" || err != nil {
		t.Fatal(told, err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := g.Section(name, []byte(name+"1"), 0); err != nil {
			t.Error(err)
		}
	}
	if err := g.Section("empty", nil); err != nil {
		t.Error(err)
	}
	g.Close()
	if err := <-ended; err != nil || names+states != "abcemptya1b1c1" || len(all.fds) != 3 {
		t.Errorf("%v; %q %q and %d descriptors", err, names, states, len(all.fds))
	}
	if all.close(); open(t) > before {
		t.Errorf("%d descriptors were open, now %d", before, open(t))
	}
}

// Late sections are judged as all others. A giver that dies, and the end of the taker, are no
// errors.
func TestLateFaults(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	end()
	none := errors.New("none is wanted")
	head := func(size uint64) []byte { return addNumber(addText(nil, tagName, "x"), tagLen, size) }
	section := func(p *pipe, b []byte) { p.send(kindSection, b, 0) }
	for name, tt := range map[string]struct {
		ctx  context.Context
		send func(p *pipe)
		want error // nil: none; errAny: any
	}{
		"a batch":  {t.Context(), func(p *pipe) { p.send(kindBatch, nil, 0) }, ErrForeign},
		"nonsense": {t.Context(), func(p *pipe) { section(p, []byte{9}) }, errAny},
		"too long": {t.Context(), func(p *pipe) { section(p, head(maxLate+1)) }, errAny},
		"a long name": {t.Context(), func(p *pipe) { section(p, make([]byte, maxFrame+1)) },
			ErrForeign},
		"not wanted": {t.Context(), func(p *pipe) { section(p, head(0)) }, none},
		"half": {t.Context(), func(p *pipe) {
			section(p, head(9))
			p.c.Close()
		}, nil},
		"a head": {t.Context(), func(p *pipe) {
			p.c.Write([]byte{byte(kindSection), 0})
			p.c.Close()
		}, nil},
		"none":    {t.Context(), func(p *pipe) { p.c.Close() }, nil},
		"the end": {ctx, func(*pipe) {}, nil},
	} {
		before := open(t)
		var all got
		p, ended := serving(t, tt.ctx, func(name string, state []byte, fds []int) error {
			all.Section(name, state, fds)
			return none
		})
		if tt.ctx.Err() == nil {
			if _, _, err := p.expect(kindServing, "serving", false); err != nil {
				t.Error(name, err)
			}
		}
		tt.send(p)
		err := <-ended
		if !errors.Is(err, tt.want) && (tt.want != errAny || err == nil) ||
			len(all.fds) > 0 != (tt.want == none) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		p.c.Close()
		if all.close(); open(t) > before+2 {
			t.Errorf("%s: %d descriptors were open, now %d", name, before, open(t))
		}
	}
}

// errAny stands for any error.
var errAny = errors.New("any")

// A taker that wants no late section has hung up: sending one is an error, and does not wait.
func TestLateUnwanted(t *testing.T) {
	a, b := pair(t)
	g := NewGiver(a)
	g.Begin(time.Now().Add(20*time.Second), 20*time.Second)
	(&pipe{c: b}).send(kindServing, []byte("well"))
	b.Close()
	if told, err := g.Serving(); told != "well" || err != nil {
		t.Error(told, err)
	}
	if err := g.Section("x", binary.AppendUvarint(nil, 5), 0); !errors.Is(err, ErrDied) {
		t.Errorf("got %v", err)
	}
	g.Close()
}
