package legacy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"reverb/internal/envelopes"
)

// drawn makes a node in which every field may be set.
func drawn(rng *rand.Rand) *Node {
	some := func(f func(i int)) {
		for i := range rng.IntN(4) {
			f(i)
		}
	}
	yes := func() bool { return rng.IntN(2) == 0 }
	age := func() time.Duration { return time.Duration(rng.Int64N(1 << 40)) }
	text := func() string { return fmt.Sprintf("t%d", rng.IntN(1000)) }
	n := &Node{Prefix: text(), Process: rng.Uint64(), Incarnation: rng.Uint64(),
		Tokens: rng.Uint64(), RedisTime: rng.Uint64N(1 << 50), UpAtRedis: rng.Uint64N(1 << 50),
		Age: age(), Strangers: yes()}
	some(func(int) { n.Counters = append(n.Counters, rng.Uint64()) })
	some(func(int) { n.Apps = append(n.Apps, text()) })
	some(func(int) { n.Peers = append(n.Peers, text()) })
	some(func(int) { n.Back = append(n.Back, text()) })
	some(func(int) { n.Numbers = append(n.Numbers, rng.Uint64N(1<<40)) })
	some(func(i int) {
		n.Seen.New(i, &envelopes.Envelope{Node: rng.Uint64(), Number: 1 + rng.Uint64N(1<<40)})
	})
	some(func(int) {
		n.Recent = append(n.Recent, Event{text(), text(), rng.Uint64(), rng.Uint64N(1 << 40), yes(),
			age()})
	})
	some(func(int) {
		t := Topic{Name: text(), Cache: yes(), Members: 9, Lingers: age(), Total: rng.IntN(99)}
		some(func(int) { t.Users = append(t.Users, User{text(), `{"a":1}`}) })
		some(func(int) {
			t.View = append(t.View, &envelopes.Member{User: text(), Order: rng.IntN(99)})
		})
		n.Topics = append(n.Topics, t)
	})
	return n
}

// TestRoundTrip reads what was written, and refuses each beginning of it.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		n := drawn(rng)
		b := n.Append(nil)
		if got, err := Parse(b); err != nil || !reflect.DeepEqual(&got, n) {
			t.Fatalf("%+v became %+v, %v", n, got, err)
		}
		for i := range b {
			if _, err := Parse(b[:i]); err == nil {
				t.Fatalf("%d of %d bytes are enough", i, len(b))
			}
		}
	}
}

// TestForged refuses what no node is.
func TestForged(t *testing.T) {
	for what, n := range map[string]Node{
		"a topic without a name": {Topics: []Topic{{Members: 1}}},
		"more users than members": {Topics: []Topic{{Name: "a:x",
			Users: []User{{"7", ""}}}}},
		"a user without a name": {Topics: []Topic{{Name: "a:x", Members: 1, Users: []User{{}}}}},
		"a user_info that is not": {Topics: []Topic{{Name: "a:x", Members: 1,
			Users: []User{{"7", "{"}}}}},
		"too many members":  {Topics: []Topic{{Name: "a:x", Members: 1 << 40}}},
		"a number too high": {Numbers: []uint64{envelopes.MaxNumber + 1}},
		"another age":       {Age: -1},
	} {
		if _, err := Parse(n.Append(nil)); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if _, err := Parse([]byte{2}); err == nil {
		t.Error("another version is taken")
	}
}

// FuzzParse checks that what is read can be written and read again.
func FuzzParse(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add(drawn(rng).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := Parse(n.Append(nil)); err != nil || !reflect.DeepEqual(again, n) {
			t.Fatalf("%+v became %+v, %v", n, again, err)
		}
	})
}
