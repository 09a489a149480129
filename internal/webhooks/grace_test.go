package webhooks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func vacated(channel string) Event { return Event{Kind: ChannelVacated, Channel: name(channel)} }

func member(kind Kind, user string) Event {
	return Event{Kind: kind, Channel: name("presence-x"), User: user}
}

// What is back within the grace is told neither as gone nor as back.
func TestGrace(t *testing.T) {
	play(t, nil, func(s *stage) {
		begin := time.Now()
		a := s.App(account("1", hook("http://h/")))
		a.tellGone(vacated("a"), 3*time.Second)
		a.tellGone(member(MemberRemoved, "7"), 3*time.Second)
		a.tellGone(member(MemberRemoved, "8"), 3*time.Second)
		s.pass(2 * time.Second)
		a.tellGone(vacated("b"), 3*time.Second)
		a.tell(member(MemberAdded, "7"))
		a.tell(occupied("a"))
		a.tell(occupied("c")) // nothing of it has gone
		if f := a.Figures(); f.Gone != 4 || f.Queued != 1 {
			t.Errorf("%+v", f)
		}
		s.pass(time.Second)
		s.want("channel_occupied c", "member_removed presence-x")
		s.pass(time.Hour)
		s.want("channel_occupied c", "member_removed presence-x", "channel_vacated b")
		if at := s.requests()[2].at.Sub(begin); at != 5*time.Second {
			t.Errorf("told after %v", at)
		}
		if f := a.Figures(); f.Gone != 0 || len(a.absent)+len(s.leavers)+s.gone != 0 {
			t.Errorf("%+v %v %v %d", f, a.absent, s.leavers, s.gone)
		}
		// After that everything is told again.
		a.tell(occupied("a"))
		a.tell(vacated("a"))
		s.pass(time.Second)
		all := strings.Join(s.all(t)[3:], ",")
		if all != "channel_occupied a,channel_vacated a" {
			t.Errorf("%q", all)
		}
	})
}

// A leave without grace is told at once, and ends the grace of its like.
func TestGraceEnds(t *testing.T) {
	play(t, nil, func(s *stage) {
		a := s.App(account("1", hook("http://h/")))
		a.tellGone(vacated("a"), 3*time.Second)
		a.tell(vacated("a"))
		s.pass(0)
		s.want("channel_vacated a")
		a.tellGone(vacated("b"), 0)
		s.pass(0)
		s.want("channel_vacated a", "channel_vacated b")
		a.tell(occupied("a"))
		s.pass(time.Hour)
		s.want("channel_vacated a", "channel_vacated b", "channel_occupied a")
		var off *App
		off.tellGone(vacated("a"), time.Second)
	})
}

// A hook that hears only of leaves hears of none that was taken back.
func TestGraceOfLeavesAlone(t *testing.T) {
	play(t, nil, func(s *stage) {
		h := hook("http://h/")
		h.Kinds = KindsOf(ChannelVacated)
		a := s.App(account("1", h))
		a.tellGone(vacated("a"), 3*time.Second)
		a.tell(occupied("a"))
		a.tellGone(member(MemberRemoved, "7"), 3*time.Second) // nobody wants it
		if f := a.Figures(); f.Gone != 1 {
			t.Errorf("%+v", f)
		}
		s.pass(time.Hour)
		s.want()
	})
}

// Close tells at once what has gone, and what comes later is lost and counted.
func TestGraceAtClose(t *testing.T) {
	play(t, nil, func(s *stage) {
		a := s.App(account("1", hook("http://h/")))
		begin := time.Now()
		a.tellGone(vacated("a"), time.Minute)
		a.tellGone(vacated("b"), time.Minute)
		a.tell(occupied("b"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if n := s.Close(ctx); n != 0 || time.Since(begin) != 0 {
			t.Errorf("%d untold after %v", n, time.Since(begin))
		}
		s.want("channel_vacated a")
		a.tellGone(vacated("c"), time.Minute)
		if f := a.Figures(); f.Lost["stopped"] != 1 || f.Gone != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// Too many that have gone are told without grace.
func TestMostGone(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a := s.App(account("1", hook("http://h/")))
		for i := range maxGone + 1 {
			a.tellGone(member(MemberRemoved, fmt.Sprint(i)), time.Minute)
		}
		if f := a.Figures(); f.Gone != maxGone || f.Queued != 1 {
			t.Errorf("%+v", f)
		}
	})
}

// Whatever happens, what a receiver believes is true once all graces have passed, and it never
// hears twice in a row that a channel is occupied, or vacated.
func TestGraceModel(t *testing.T) {
	for seed := range uint64(30) {
		play(t, nil, func(s *stage) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			a := s.App(account("1", hook("http://h/")))
			truth := map[string]bool{}
			for range 400 {
				channel := fmt.Sprint("c", rnd.IntN(6))
				switch is := truth[channel]; {
				case !is:
					a.tell(occupied(channel))
				case rnd.IntN(3) == 0:
					a.tell(vacated(channel))
				default:
					a.tellGone(vacated(channel), 3*time.Second)
				}
				truth[channel] = !truth[channel]
				s.pass(time.Duration(rnd.IntN(1000)) * time.Millisecond)
			}
			s.pass(time.Minute)
			synctest.Wait()
			believed := map[string]bool{}
			told := 0
			for _, r := range s.requests() {
				for _, e := range r.events(t) {
					kind, channel, _ := strings.Cut(e, " ")
					if is := kind == "channel_occupied"; believed[channel] == is {
						t.Errorf("seed %d: %s twice in a row", seed, e)
					} else {
						believed[channel] = is
					}
					told++
				}
			}
			for channel, is := range truth {
				if believed[channel] != is {
					t.Errorf("seed %d: %s: occupied %v, believed %v", seed, channel, is, !is)
				}
			}
			if told < 50 || told > 350 {
				t.Errorf("seed %d: %d of 400 were told", seed, told)
			}
		})
	}
}

// The fifo against a slice.
func TestFifo(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var f fifo[int]
	var plain []int
	for i := range 5000 {
		if rnd.IntN(200)+i/50%100 < 130 {
			f.push(i)
			plain = append(plain, i)
		} else if len(plain) > 0 {
			if got := f.pop(); got != plain[0] {
				t.Fatalf("got %d, want %d", got, plain[0])
			}
			plain = slices.Delete(plain, 0, 1)
		}
		if head := f.head(); f.n != len(plain) || (head == nil) != (f.n == 0) ||
			head != nil && *head != plain[0] {
			t.Fatalf("%d items, want %d", f.n, len(plain))
		}
	}
}
