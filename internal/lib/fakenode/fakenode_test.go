package fakenode

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told is a replica that writes down what it is told.
type told []string

func (r *told) note(words ...any) {
	*r = append(*r, strings.TrimSpace(fmt.Sprintln(words...)))
}

func (r *told) Added(topic, user, info string) { r.note("added", topic, user, info) }
func (r *told) Removed(topic, user string)     { r.note("removed", topic, user) }
func (r *told) Dropped(topic string)           { r.note("dropped", topic) }
func (r *told) Total(topic string, n int)      { r.note("total", topic, n) }
func (r *told) Deliver(topic, payload string, except uint64, remember bool) {
	r.note("deliver", topic, payload, except, remember)
}
func (r *told) Remember(topic, payload string) { r.note("remember", topic, payload) }
func (r *told) TerminateUser(app, user string) { r.note("terminate", app, user) }
func (r *told) Snapshot(topic string, users, infos []string, cached string, life time.Duration) {
	r.note("snapshot", topic, users, infos, cached, life)
}

func TestNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var replica told
		n := &Node{Replica: &replica, Occupied: []string{"a:x", "a:y"},
			Subscriptions: map[string]int{"a:x": 7}}
		play := func(line string) {
			t.Helper()
			if got, want := n.Play(line); got != want {
				t.Errorf("%s: got %s", line, got)
			}
		}
		ready := func() { replica.note("ready") }
		n.Join("a:presence-x", "1", "{}", false, ready)
		n.Join("a:x", "", "", true, ready)
		play("admits")
		play("admits") // nobody has asked again
		play("adds a:presence-x 2")
		play("removes a:presence-x 2")
		play("tells a:cache-x {}")
		play(`delivers a:x 1.2 {"a": 1}`)
		play("remembers a:x {}")
		play("terminates a 1")
		play("totals a:x 17")
		n.Leave("a:presence-x", "1", false)
		play("left a:presence-x 1")
		play("left")
		n.CatchUp("a:x", ready)
		n.SetCount("a")
		play("counts a")
		play("counts")
		want := "added a:presence-x 1 {}|ready|ready|added a:presence-x 2|removed a:presence-x 2|" +
			"snapshot a:cache-x [] [] {} 1m0s|deliver a:x {\"a\": 1} 4294967298 true|" +
			"remember a:x {}|terminate a 1|total a:x 17|dropped a:presence-x|ready"
		if got := strings.Join(replica, "|"); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		if n.Behind() {
			t.Error("it is late from the start")
		}
		if play("is late"); !n.Behind() {
			t.Error("it is not late")
		}
		if play("is crowded"); n.Behind() || !n.Crowded() {
			t.Error("it is late for ever, or not crowded")
		}
		if play("is not crowded"); n.Crowded() {
			t.Error("it is crowded for ever")
		}
		if got, want := n.Play("dances"); got == want {
			t.Error("a cluster danced")
		}
		for _, verb := range []string{"answers", "fails"} {
			play(verb)
			var answers []string
			answer := func(words ...any) { answers = append(answers, fmt.Sprint(words...)) }
			n.Publish("a:x", "{}", 7, true, nil, nil)
			n.TerminateAll("a", "1", func(err error) { answer(err) })
			time.Sleep(time.Second)
			synctest.Wait()
			n.Count("a", 3, func(total int64, err error) { answer(total, err) })
			time.Sleep(time.Second)
			synctest.Wait()
			play("asked count a 3|publish a:x {} 0.7 true|terminate a 1")
			topics, err := n.OccupiedTopics(t.Context())
			answer(topics, err)
			members, err := n.Members(t.Context(), "a:x")
			answer(members, err)
			subscriptions, users, cached, err := n.Stats(t.Context(), []string{"a:x", "a:z"})
			answer(subscriptions, users, cached, err)
			play("asked members a:x|occupied|stats [a:x a:z]")
			said := map[string]any{"answers": nil, "fails": n.fails}[verb]
			want := fmt.Sprint(said) + "|" + fmt.Sprint(9, said) +
				fmt.Sprintf("|[a:x a:y] %v|[1 8] %v|[7 0] [6 -1] ", said, said) +
				fmt.Sprintf(`[{"of":"a:x"} {"of":"a:z"}] %v`, said)
			if got := strings.Join(answers, "|"); got != want {
				t.Errorf("%s: got %s, want %s", verb, got, want)
			}
		}
	})
}
