package test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pusher/pusher-http-go/v5"
)

// position is where a client is in a channel.
type position struct{ Epoch, Offset string }

// follower is a client that keeps its position in each channel as web/resume.js does.
type follower struct {
	t      *testing.T
	user   string // on presence channels
	w      *walker
	former []string // socket IDs, the last 8
	at     map[string]*position
	got    map[string][]int // events
	gaps   []string         // channels that were not recovered
}

// resumable are channels of each kind.
var resumable = []string{"news", "private-news", "cache-news", "private-cache-news",
	"presence-news", "presence-cache-news"}

func newFollower(t *testing.T, user string) *follower {
	return &follower{t: t, user: user, at: map[string]*position{}, got: map[string][]int{}}
}

// ask subscribes to a channel at the position of f, and does not wait for the answer.
func (f *follower) ask(channel string) {
	data := map[string]any{"channel": channel}
	resume := map[string]any{"sockets": f.former}
	if at := f.at[channel]; at != nil {
		resume["epoch"], resume["offset"] = at.Epoch, at.Offset
	}
	data["resume"] = resume
	if strings.HasPrefix(channel, "presence-") {
		member := fmt.Sprintf(`{"user_id":%q}`, f.user)
		data["channel_data"], data["auth"] = member, f.w.sign(channel, member)
	} else if strings.HasPrefix(channel, "private-") {
		data["auth"] = f.w.sign(channel, "")
	}
	b, err := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": data})
	if err != nil {
		f.t.Fatal(err)
	}
	f.w.nc.Write(clientFrame(b, 1))
}

// comes connects, and subscribes to channels.
func (f *follower) comes(addr string, channels ...string) {
	f.t.Helper()
	if f.w != nil {
		f.former = append(f.former, f.w.id)
		f.former = f.former[max(0, len(f.former)-8):]
	}
	f.w = (&throng{t: f.t}).walk(addr, "", 0)
	for _, channel := range channels {
		f.ask(channel)
	}
}

// reads reads until so.
func (f *follower) reads(so func() bool) {
	f.t.Helper()
	f.w.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	for !so() {
		b := f.w.frame()
		var m struct {
			Event, Channel, Offset, Data string
			Resume                       *struct {
				position
				Recovered bool
			}
		}
		if b == nil || json.Unmarshal(b, &m) != nil {
			last := map[string]int{}
			for channel, got := range f.got {
				last[channel] = got[len(got)-1]
			}
			f.t.Fatalf("%s: got %q after %v", f.user, b, last)
		}
		switch at := f.at[m.Channel]; m.Event {
		case "pusher_internal:subscription_succeeded":
			if m.Resume == nil {
				if f.gaps = append(f.gaps, m.Channel); at == nil {
					f.t.Fatalf("%s: no resume in %s", f.user, b)
				}
				delete(f.at, m.Channel)
			} else if !m.Resume.Recovered {
				if f.at[m.Channel] = &m.Resume.position; at != nil {
					f.gaps = append(f.gaps, m.Channel)
				}
			} else if at == nil || at.Epoch != m.Resume.Epoch {
				f.t.Fatalf("%s: recovered without a position: %s", f.user, b)
			}
		case "n":
			var n numbered
			if err := json.Unmarshal([]byte(m.Data), &n); err != nil {
				f.t.Fatal(err)
			}
			f.got[m.Channel] = append(f.got[m.Channel], n.N)
			if m.Offset == "" {
				f.t.Fatalf("%s: no offset in %.200s", f.user, b)
			}
			if at != nil {
				at.Offset = m.Offset
			}
		}
	}
}

// has says that the last event of each channel is n.
func (f *follower) has(n int, channels ...string) func() bool {
	return func() bool {
		return !slices.ContainsFunc(channels, func(channel string) bool {
			got := f.got[channel]
			return len(got) == 0 || got[len(got)-1] != n
		})
	}
}

// knows says that f has a position in each channel.
func (f *follower) knows(channels ...string) func() bool {
	return func() bool {
		return !slices.ContainsFunc(channels, func(channel string) bool {
			return f.at[channel] == nil
		})
	}
}

// cut ends the connection.
func (f *follower) cut() { f.w.nc.Close() }

// check fails the test unless each channel has had these events, once and in order.
func (f *follower) check(want []int, channels ...string) {
	f.t.Helper()
	for _, channel := range channels {
		if !slices.Equal(f.got[channel], want) {
			f.t.Errorf("%s on %s: got %v, want %v", f.user, channel, f.got[channel], want)
		}
	}
	if len(f.gaps) > 0 {
		f.t.Errorf("%s: not recovered on %v", f.user, f.gaps)
	}
}

// tell publishes event n on channels, but not for the client with the socket ID except.
func tell(t testing.TB, addr string, n int, except, extra string, channels ...string) {
	t.Helper()
	data := json.RawMessage(fmt.Sprintf(`{"N":%d,"Extra":%q}`, n, extra))
	params := pusher.TriggerParams{}
	if except != "" {
		params.SocketID = &except
	}
	if _, err := publisher(addr).TriggerMultiWithParams(channels, "n", data, params); err != nil {
		t.Fatal(err)
	}
}

// TestResumeUpgrade upgrades a server again and again. Who comes back gets what was sent before
// and after an upgrade, once and in order, but for what excluded it, whether it was away during
// the upgrade, was there, or had a position of before the first one.
func TestResumeUpgrade(t *testing.T) {
	upgrades := 2
	if os.Getenv("REVERB_TEST_LONG") != "" {
		upgrades = 15 // a channel keeps 100 events
	}
	s := installed(t, append(oneApp(), "REVERB_RESUME_SECONDS=300")...)
	away, there, long := newFollower(t, "ann"), newFollower(t, "bob"), newFollower(t, "cat")
	for _, f := range []*follower{away, there, long} {
		f.comes(s.addr, resumable...)
		f.reads(f.knows(resumable...))
	}
	tell(t, s.addr, 1, "", "", resumable...)
	for _, f := range []*follower{away, there, long} {
		f.reads(f.has(1, resumable...))
	}
	long.cut()
	all, some := []int{1}, []int{1}
	for n := 10; n <= 10*upgrades; n += 10 {
		all = append(all, n, n+1, n+2, n+3, n+4, n+5)
		some = append(some, n, n+3, n+4, n+5)
		away.cut()
		tell(t, s.addr, n, "", "", resumable...)
		tell(t, s.addr, n+1, away.w.id, "", resumable...)
		s.upgrade(t)
		tell(t, s.addr, n+2, away.w.id, "", resumable...)
		tell(t, s.addr, n+3, "", "", resumable...)
		away.comes(s.addr, resumable...)
		tell(t, s.addr, n+4, "", "", resumable...)
		away.reads(away.has(n+4, resumable...))
		there.reads(there.has(n+4, resumable...))
		there.cut() // its position is of an event that the successor has taken over, or sent
		tell(t, s.addr, n+5, "", "", resumable...)
		there.comes(s.addr, resumable...)
		there.reads(there.has(n+5, resumable...))
		away.reads(away.has(n+5, resumable...))
	}
	long.comes(s.addr, resumable...)
	long.reads(long.has(10*upgrades+5, resumable...))
	long.check(all, resumable...)
	there.check(all, resumable...)
	away.check(some, resumable...)
	for _, f := range []*follower{away, there, long} {
		f.cut()
	}
}

// TestResumeUpgradeUnread upgrades a server while replays wait for a client that does not read.
// Nothing of them is lost or doubled, and what is sent live before and after comes behind them. A
// list of members that waits behind a replay comes, too, with what was missed on its channel.
func TestResumeUpgradeUnread(t *testing.T) {
	missed := 1200 // of up to 9 kB: more than the sockets of both sides take
	if os.Getenv("REVERB_TEST_LONG") != "" {
		missed = 5000
	}
	s := installed(t, append(oneApp(), "REVERB_RESUME_SECONDS=300", "REVERB_RESUME_EVENTS=9999",
		"REVERB_RESUME_BYTES=512MiB")...)
	all := []string{"presence-news", "news", "private-cache-news", "presence-late"}
	f := newFollower(t, "ann")
	f.comes(s.addr, all...)
	f.reads(f.knows(all...))
	before := f.w.id
	f.cut()
	extra := strings.Repeat("x", 9000)
	var want []int
	for n := 1; n <= missed; n++ {
		except := ""
		if n%100 == 50 {
			except = before
		} else {
			want = append(want, n)
		}
		tell(t, s.addr, n, except, extra[:len(extra)/2*(n%3)], all...)
	}
	f.comes(s.addr, all...)
	s.within("the subscriptions", func() bool {
		list, code := s.ask("connections", "--channel", all[3], "--json")
		return code == 0 && strings.Contains(list, f.w.id)
	})
	for round := range 2 {
		tell(t, s.addr, missed+2*round+1, "", "", all...)
		s.upgrade(t)
		tell(t, s.addr, missed+2*round+2, "", "", all...)
	}
	for n := range 4 {
		want = append(want, missed+n+1)
	}
	f.reads(f.has(missed+4, all...))
	f.check(want, all...)
	f.cut()
}
