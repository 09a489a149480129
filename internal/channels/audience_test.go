package channels

import (
	"math/rand/v2"
	"testing"

	"reverb/internal/protocol"
)

// conn is a connection of a test.
type conn struct {
	id   protocol.SocketID
	loop int
	subs map[spot]*sub
}

func indexOf(list []Subscriber[*conn], id protocol.SocketID) int {
	for i := range list {
		if list[i].Conn.id == id {
			return i
		}
	}
	return -1
}

// TestListsModel compares a channel's lists with plain ones while places on three loops are
// made, filled and given up.
func TestListsModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		const loops = 3
		ch := &channel[*conn]{app: &App[*conn]{loops: make([]appLoop[*conn], loops)}}
		var want [loops]map[*Subscription[*conn]]bool
		var waiting [loops]int // places that are not filled
		for i := range want {
			want[i] = map[*Subscription[*conn]]bool{}
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
					s := &Subscription[*conn]{ch: ch}
					s.index = ch.addLocked(l, Subscriber[*conn]{Conn: new(conn), sub: s})
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
				list := ch.list(l)
				all += len(want[l]) + waiting[l]
				if len(list) != len(want[l]) || int(ch.placesLocked(l)) != len(list)+waiting[l] {
					t.Fatalf("round %d, step %d: loop %d has %d subscribers on %d places, "+
						"want %d and %d", round, step, l, len(list), ch.placesLocked(l),
						len(want[l]), waiting[l])
				}
				for i, at := range list {
					if !want[l][at.sub] || int(at.sub.index) != i {
						t.Fatalf("round %d, step %d: loop %d has a subscriber that it should not "+
							"have at %d", round, step, l, i)
					}
				}
			}
			if int(ch.count) != all {
				t.Fatalf("round %d, step %d: counts %d, want %d", round, step, ch.count, all)
			}
		}
	}
}

// The excepted subscriber is in no part, wherever it stands and however large the parts are.
func TestNextExcepts(t *testing.T) {
	const loop, members = 0, 7
	for except := range members + 1 {
		for most := 1; most <= members+1; most++ {
			r := New[*conn, *event](1, indexOf)
			a, name := r.NewApp("a", nil), channelName("news")
			for i := range members {
				c := &conn{id: protocol.SocketIDOf(uint64(i) + 1)}
				r.Join(&Place[*conn, *event]{App: a, Name: name, Conn: c}, 0, nil, now0)
			}
			e := &event{}
			r.Publish(a, name, e, protocol.SocketIDOf(uint64(except)), false, now0)
			var got []uint64
			for done := false; !done; {
				var part []Subscriber[*conn]
				if part, done = e.to.Next(loop, most); len(part) > most || len(part) == 0 && !done {
					t.Fatalf("%d subscribers in a part of at most %d", len(part), most)
				}
				for _, s := range part {
					got = append(got, s.Conn.id.Number())
				}
			}
			want := members
			if except > 0 {
				want--
			}
			for i, id := range got {
				wantID := uint64(i) + 1
				if except > 0 && i >= except-1 {
					wantID++
				}
				if id != wantID {
					t.Fatalf("without %d, in parts of %d: %v", except, most, got)
				}
			}
			if len(got) != want {
				t.Fatalf("without %d, in parts of %d: %v", except, most, got)
			}
		}
	}
}
