package channels

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// A roster under churn is a list of users that is searched from the front, and a version
// stands for one list.
func TestRosterModel(t *testing.T) {
	type plainUser struct {
		id, info    string
		connections int
	}
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var r roster[string]
		var want []plainUser
		infos := func() (all []string) {
			for _, u := range want {
				all = append(all, u.info)
			}
			return all
		}
		for step := range 3000 {
			id, info, version, before := strconv.Itoa(rng.IntN(100)), strconv.Itoa(step),
				r.Version(), infos()
			at := slices.IndexFunc(want, func(u plainUser) bool { return u.id == id })
			switch n := rng.IntN(100); {
			case n < 40:
				if first := r.Add(id, info, len(info)); first != (at < 0) {
					t.Fatalf("seed %d, step %d: first is %v for user %s", seed, step, first, id)
				}
				if at < 0 {
					want = append(want, plainUser{id, info, 1})
				} else {
					want[at].connections++
				}
			case n < 90:
				last := at >= 0 && want[at].connections == 1
				if got := r.Remove(id); got != last {
					t.Fatalf("seed %d, step %d: last is %v for user %s", seed, step, got, id)
				}
				if last {
					want = slices.Delete(want, at, at+1)
				} else if at >= 0 {
					want[at].connections--
				}
			case n < 99:
				if r.Replace(id, info, len(info)); at >= 0 {
					want[at].info = info
				}
			case rng.IntN(10) == 0:
				r.Clear()
				want = nil
			}
			bytes := 0
			for _, u := range want {
				bytes += len(u.info)
				if m, n := r.Find(u.id); m != u.info || n != u.connections {
					t.Fatalf("seed %d, step %d: user %s has %q and %d connections, want %q and %d",
						seed, step, u.id, m, n, u.info, u.connections)
				}
			}
			after := infos()
			if !slices.Equal(r.List(), after) || r.Len() != len(want) || r.Bytes() != bytes {
				t.Fatalf("seed %d, step %d: got %v, %d users, %d bytes; want %v, %d bytes", seed,
					step, r.List(), r.Len(), r.Bytes(), after, bytes)
			}
			if !slices.Equal(before, after) && r.Version() == version {
				t.Fatalf("seed %d, step %d: another list with the same version", seed, step)
			}
			if len(r.order) > 2*len(r.users)+17 {
				t.Fatalf("seed %d, step %d: %d places for %d users", seed, step, len(r.order),
					len(r.users))
			}
		}
	}
}

func TestRosterAdmits(t *testing.T) {
	var r roster[int]
	if _, n := r.Find("1"); n != 0 || !r.Admits("1", 1) {
		t.Error("nobody is there, and there is no room for the first")
	}
	r.Add("1", 0, 0)
	for _, c := range []struct {
		id    string
		limit int
		want  bool
	}{{"1", 1, true}, {"2", 1, false}, {"2", 2, true}, {"2", 0, true}} {
		if got := r.Admits(c.id, c.limit); got != c.want {
			t.Errorf("user %s, limit %d: %v", c.id, c.limit, got)
		}
	}
}
