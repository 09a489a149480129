package webhooks

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Without room, what one client does and undoes as fast as it can costs nobody else an event, and
// the receiver hears of everything in turn.
func TestUndone(t *testing.T) {
	play(t, func(o *Options) { o.QueueBytes = 100 * (itemCost + 12) }, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return after(time.Minute, 200) }
		h := hook("http://h/")
		h.Timeout = 2 * time.Minute
		a := s.App(account("1", h))
		a.tell(occupied("x"))
		synctest.Wait() // it is under way, and stays
		a.tell(clientEvent("private-x", "client-x"))
		var others []string
		for i := range 2000 {
			a.tell(vacated("x"))
			a.tell(member(MemberAdded, "7"))
			if i%50 == 0 {
				other := fmt.Sprint("c", i)
				a.tell(occupied(other))
				others = append(others, "channel_occupied "+other)
			}
			a.tell(member(MemberRemoved, "7"))
			a.tell(occupied("x"))
		}
		a.tell(vacated("x"))
		f := sum(a)
		if f.Lost["full"] != 0 || f.Lost["undone"] < 7000 || f.Queued > 110 ||
			f.Lost["undone"]%2 != 0 || int(f.Lost["undone"])+f.Queued != 2+4*2000+40+1 {
			t.Errorf("%+v", f)
		}
		s.pass(10 * time.Minute)
		believed := map[string]bool{}
		var got []string
		for _, r := range s.requests() {
			for _, e := range r.events(t) {
				kind, channel, _ := strings.Cut(e, " ")
				switch is := strings.HasSuffix(kind, "_occupied") || kind == "member_added"; {
				case strings.HasPrefix(channel, "c"):
					got = append(got, e)
				case kind == "client_event":
				case believed[channel] == is:
					t.Errorf("%s twice in a row", e)
				default:
					believed[channel] = is
				}
			}
		}
		if !slices.Equal(got, others) || believed["x"] || believed["presence-x"] ||
			len(believed) != 2 {
			t.Errorf("got %q, want %q; %v", got, others, believed)
		}
		if strings.Contains(s.log.String(), "dropped") {
			t.Error(s.log.String())
		}
	})
}

// A hook of comings alone, or of goings alone, hears of less, but of everything that changed.
func TestUndoneOfOneKind(t *testing.T) {
	for _, kind := range []Kind{ChannelOccupied, ChannelVacated} {
		play(t, func(o *Options) { o.QueueBytes = 20 * (itemCost + 5) }, func(s *stage) {
			s.say = func(*request, int) (*http.Response, error) { return after(time.Minute, 200) }
			h := hook("http://h/")
			h.Timeout, h.Kinds = 2*time.Minute, KindsOf(kind)
			a := s.App(account("1", h))
			want := kind.String() + " c0"
			a.tell(Event{Kind: kind, Channel: name("c0")})
			synctest.Wait()
			for range 100 {
				a.tell(occupied("x"))
				a.tell(vacated("x"))
			}
			var more []string
			for i := range 18 {
				a.tell(Event{Kind: kind, Channel: name(fmt.Sprint("d", i))})
				more = append(more, fmt.Sprint(kind, " d", i))
			}
			if f := sum(a); f.Lost["undone"] != 99 || f.Lost["full"] != 0 {
				t.Errorf("%+v", f)
			}
			s.pass(10 * time.Minute)
			s.want(want, kind.String()+" x,"+strings.Join(more, ","))
		})
	}
}

// Whatever is undone, a receiver hears of each channel and of each member in turn, of members only
// while their channel is occupied, and what it believes at the end is so. So it is for a hook that
// does not hear of occupied channels.
func TestUndoneModel(t *testing.T) {
	undone, others := int64(0), 0
	for seed := range uint64(30) {
		const room = 120 // 50 are under way
		play(t, func(o *Options) { o.QueueBytes, o.ClientEvents = 2*room*(itemCost+20), 1e6 },
			func(s *stage) {
				rnd, theirs := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
				s.say = func(*request, int) (*http.Response, error) {
					s.rnd.Lock()
					pause, mood := time.Duration(theirs.IntN(9000))*time.Millisecond, theirs.IntN(4)
					s.rnd.Unlock()
					return after(pause, []int{200, 200, 200, 500}[mood])
				}
				hooks := []*Hook{hook("http://h/1"), hook("http://h/2")}
				hooks[0].Timeout, hooks[1].Timeout = 20*time.Second, 20*time.Second
				hooks[1].Kinds = allKinds &^ KindsOf(ChannelOccupied)
				a := s.App(account("1", hooks...))
				truth := map[string]int{} // members of a channel, and whether one is there
				for i := range 3000 {
					channel, user := fmt.Sprint("presence-", rnd.IntN(5)), fmt.Sprint(rnd.IntN(3))
					change := func(kind Kind, user string) {
						a.tell(Event{Kind: kind, Channel: name(channel), User: user})
					}
					if truth[channel+" "+user] == 0 {
						if truth[channel]++; truth[channel] == 1 {
							change(ChannelOccupied, "")
						}
						change(MemberAdded, user)
					} else {
						change(MemberRemoved, user)
						if truth[channel]--; truth[channel] == 0 {
							change(ChannelVacated, "")
						}
					}
					truth[channel+" "+user] ^= 1
					if i%100 == 0 {
						a.tell(clientEvent("private-x", "client-x"))
						s.pass(time.Duration(rnd.IntN(5000)) * time.Millisecond)
					}
				}
				s.pass(time.Hour)
				for url := range 2 {
					b := &believer{t: t, about: fmt.Sprint("seed ", seed), partly: url > 0,
						seen: map[string]bool{}, there: map[string]bool{}}
					for _, r := range s.requests() {
						if strings.HasSuffix(r.url, fmt.Sprint(url+1)) {
							b.hear(r)
						}
					}
					for key, n := range truth {
						if b.of(key) && b.there[key] != (n > 0) {
							t.Errorf("seed %d: %s: %v, believed %v", seed, key, n, b.there[key])
						}
					}
					others += b.others
				}
				f := sum(a)
				if undone += f.Lost["undone"]; f.Lost["full"] != 0 || f.Queued != 0 {
					t.Errorf("seed %d: %+v", seed, f)
				}
			})
	}
	if undone < 10_000 || others != 30*2*30 {
		t.Errorf("%d are undone, and %d client events told", undone, others)
	}
}

// believer is a receiver that drops repeats by their ID.
type believer struct {
	t      *testing.T
	about  string
	partly bool // it does not hear of occupied channels
	seen   map[string]bool
	there  map[string]bool // "channel", and "channel user"
	others int
}

// of says whether the believer can know of a channel or member.
func (b *believer) of(key string) bool { return !b.partly || strings.Contains(key, " ") }

func (b *believer) hear(r *request) {
	id := r.header.Get("X-Reverb-Webhook-Id")
	if b.seen[id] {
		return
	}
	b.seen[id] = true
	for i, e := range r.events(b.t) {
		kind, channel, _ := strings.Cut(e, " ")
		if kind == ClientEvent.String() {
			b.others++
			continue
		}
		_, user, _ := strings.Cut(membersOf(b.t, r)[i], " ")
		key := strings.TrimSpace(channel + " " + user)
		is := kind == ChannelOccupied.String() || kind == MemberAdded.String()
		if b.of(key) && b.there[key] == is || user != "" && b.of(channel) && !b.there[channel] {
			b.t.Errorf("%s: %s %s; known are %v", b.about, e, user, b.there)
		}
		if b.there[key] = is; !is {
			delete(b.there, key)
		}
		if kind == ChannelVacated.String() && len(b.members(channel)) > 0 {
			b.t.Errorf("%s: %s, and %q are there", b.about, e, b.members(channel))
		}
	}
}

func (b *believer) members(channel string) (all []string) {
	for key := range b.there {
		if strings.HasPrefix(key, channel+" ") {
			all = append(all, key)
		}
	}
	return all
}
