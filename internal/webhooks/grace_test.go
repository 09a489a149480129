package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/protocol"
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
		if f := sum(a); f.Absent != 2 || f.Queued+int(f.Delivered) != 1 {
			t.Errorf("%+v", f)
		}
		s.pass(time.Second)
		s.want("channel_occupied c", "member_removed presence-x")
		s.pass(time.Hour)
		s.want("channel_occupied c", "member_removed presence-x", "channel_vacated b")
		if at := s.requests()[2].at.Sub(begin); at != 5*time.Second {
			t.Errorf("told after %v", at)
		}
		if f := sum(a); f.Absent != 0 || int(a.absences.Load())+len(s.leavers)+s.absent != 0 {
			t.Errorf("%+v %d %v %d", f, a.leaving.Len(), s.leavers, s.absent)
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
		a.tellGone(member(MemberRemoved, "7"), 3*time.Second) // nobody wants it
		if f := sum(a); f.Absent != 1 {
			t.Errorf("%+v", f)
		}
		a.tell(occupied("a"))
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
		if f := sum(a); f.Lost["stopped"] != 1 || f.Absent != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// Too many that have gone are told without grace, and leave room for other apps. What is back takes
// no room.
func TestMostAbsent(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a, b := s.App(account("1", hook("http://h/"))), s.App(account("2", hook("http://h/")))
		const most = maxAbsent * timesFree / (timesFree + 1)
		for i := range maxAbsent {
			a.tellGone(member(MemberRemoved, fmt.Sprint(i)), time.Minute)
		}
		if f := sum(a); f.Absent != most || f.Queued != maxAbsent-most {
			t.Errorf("%+v", f)
		}
		for range maxAbsent {
			b.tellGone(vacated("a"), time.Minute)
			b.tell(occupied("a"))
		}
		b.tellGone(vacated("a"), time.Minute)
		if f := sum(b); f.Absent != 1 || f.Queued != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// A receiver that forgets the members of a channel that is vacated hears of each member that comes.
func TestGraceOfMembersEnds(t *testing.T) {
	for _, how := range []string{"unsubscribe", "grace", "ended"} {
		play(t, nil, func(s *stage) {
			settings := account("1", hook("http://h/"))
			settings.Grace = 3 * time.Second
			a := s.App(settings)
			for _, user := range []string{"", "A", "B", "C"} {
				a.Changed("presence-x", user, false, false)
			}
			a.Changed("presence-y", "A", true, true)
			a.Changed("presence-x", "A", true, true)
			a.Changed("presence-x", "B", true, true)
			s.pass(time.Second)
			vanished := false
			switch how {
			case "grace": // what goes later is due sooner
				settings.Grace, vanished = time.Second, true
				a.Configure(settings)
			case "ended":
				settings.Grace, vanished = 0, true
				a.Configure(settings)
			}
			a.Changed("presence-x", "C", true, vanished)
			a.Changed("presence-x", "", true, vanished)
			s.pass(time.Second)
			a.Changed("presence-x", "", false, false)
			a.Changed("presence-x", "A", false, false)
			a.Changed("presence-y", "A", false, false)
			s.pass(time.Minute)
			var got []string
			for _, r := range s.requests() {
				got = append(got, membersOf(t, r)...)
			}
			if got, want := strings.Join(got[4:], ", "), "member_removed C, member_removed A, "+
				"member_removed B, channel_vacated, channel_occupied, member_added A"; got != want {
				t.Errorf("%s: got %s, want %s", how, got, want)
			}
			if a.leaving.Len()+s.absent != 0 || a.absences.Load() != 0 {
				t.Errorf("%s: %d, %d", how, a.leaving.Len(), s.absent)
			}
		})
	}
}

// membersOf are the names and members in the body, such as "member_added 7".
func membersOf(t *testing.T, r *request) (all []string) {
	var parsed struct {
		Events []struct {
			Name string
			User string `json:"user_id"`
		}
	}
	if err := json.Unmarshal([]byte(r.body), &parsed); err != nil {
		t.Fatal(err)
	}
	for _, e := range parsed.Events {
		all = append(all, strings.TrimSpace(e.Name+" "+e.User))
	}
	return all
}

// A hook that hears only of those that come hears of none that was away for a moment.
func TestGraceOfComingsAlone(t *testing.T) {
	play(t, nil, func(s *stage) {
		h := hook("http://h/")
		h.Kinds = KindsOf(MemberAdded, ChannelOccupied)
		settings := account("1", h)
		settings.Grace = 3 * time.Second
		a := s.App(settings)
		for range 3 {
			for _, user := range []string{"", "A"} {
				a.Changed("presence-x", user, false, false)
			}
			s.pass(time.Second)
			for _, user := range []string{"A", ""} {
				a.Changed("presence-x", user, true, true)
			}
			s.pass(time.Second)
		}
		want := func(events string) { // in one request or several
			t.Helper()
			synctest.Wait()
			if got := strings.Join(s.all(t), ","); got != events {
				t.Errorf("got %s, want %s", got, events)
			}
		}
		want("channel_occupied presence-x,member_added presence-x")
		s.pass(time.Minute)
		a.Changed("presence-x", "A", false, false)
		want("channel_occupied presence-x,member_added presence-x,member_added presence-x")
	})
}

// What is back is back, whatever the settings said meanwhile.
func TestGraceAndSettings(t *testing.T) {
	play(t, nil, func(s *stage) {
		settings := account("1", hook("http://h/"))
		settings.Grace = 10 * time.Second
		a := s.App(settings)
		a.Changed("a", "", true, true)
		a.Configure(account("1")) // no hooks
		a.Changed("a", "", false, false)
		a.Configure(settings)
		s.pass(time.Minute)
		s.want()
		// A shorter grace does not wait for what has gone before with a longer one.
		a.Changed("b", "", true, true)
		settings.Grace = time.Second
		a.Configure(settings)
		a.Changed("c", "", true, true)
		s.pass(time.Second)
		s.want("channel_vacated c")
		s.pass(9 * time.Second)
		s.want("channel_vacated c", "channel_vacated b")
	})
}

// Very many that are due together, or at a stop, do not keep the lock of all apps.
func TestGraceInTurns(t *testing.T) {
	for _, stop := range []bool{false, true} {
		late := time.Duration(0)
		play(t, func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(late) }
		}, func(s *stage) {
			var hooks []*Hook
			for i := range 10 {
				hooks = append(hooks, hook(fmt.Sprint("http://h", i)))
			}
			s.say = func(*request, int) (*http.Response, error) { return nil, nil }
			a := s.App(account("1", hooks...))
			for i := range 1000 {
				a.tellGone(member(MemberRemoved, fmt.Sprint(i)), time.Second)
			}
			synctest.Wait() // waitGone has asked for the time
			late = time.Minute
			one := func() bool {
				pause, more := s.tellDue(a)
				return more && pause <= 0
			}
			if stop {
				one = s.tellRest
			}
			for left := 990; left >= 0; left -= 10 {
				if more := one(); a.leaving.Len() != left || !more && left > 0 {
					t.Fatalf("stop %v: %d are left, want %d", stop, a.leaving.Len(), left)
				}
			}
			if f := sum(a); f.Queued != 10*1000 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// What nobody hears does not touch the lock of all apps.
func TestFilteredWithoutLock(t *testing.T) {
	play(t, nil, func(s *stage) {
		h := hook("http://h/")
		h.Prefix = "presence-"
		misses := hook("http://h/")
		misses.Kinds = KindsOf(CacheMiss)
		for _, a := range []*App{s.App(account("1", h)), s.App(account("2", misses)),
			s.App(account("3"))} {
			s.Sender.mu.Lock()
			for _, gone := range []bool{false, true} {
				a.Changed("room", "", gone, false)
				a.Changed("room", "", gone, true)
				a.tell(Event{Kind: ChannelOccupied, Channel: name("room")})
				a.tell(Event{Kind: ChannelVacated, Channel: protocol.UserChannel("7")})
			}
			s.Sender.mu.Unlock()
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
