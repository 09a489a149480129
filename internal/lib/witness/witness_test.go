package witness

import (
	"fmt"
	"strings"
	"testing"
)

func event(channel string, n int) string {
	return fmt.Sprintf(`{"event":"e","data":%d,"channel":"%s"}`, n, channel)
}

func internal(name, channel, data string) string {
	const form = `{"event":"pusher_internal:%s","data":%q,"channel":"%s"}`
	return fmt.Sprintf(form, name, data, channel)
}

func list(channel string, ids ...string) string {
	return internal("subscription_succeeded", channel,
		`{"presence":{"ids":["`+strings.Join(ids, `","`)+`"]}}`)
}

// play has one client, called me. A step that begins with { is read; join, answer, leave and
// event (for all but one) are what happens. It returns what is wrong first.
func play(channel string, steps ...string) error {
	w, c := New("me"), new(Course)
	for _, s := range steps {
		var err error
		switch s {
		case "join":
			w.Joins(channel, c)
		case "answer":
			w.Answered(channel)
		case "leave":
			w.Left(channel)
		case "event":
			*c = append(*c, "")
		case "own":
			*c = append(*c, "me")
		case "nobody":
			err = w.Missing(channel, map[string]bool{})
		case "both":
			err = w.Missing(channel, map[string]bool{"me": true, "you": true})
		default:
			err = w.Hear(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestWitness(t *testing.T) {
	const news, people, cached = "news", "presence-x", "cache-x"
	succeeded := func(channel string) string {
		return internal("subscription_succeeded", channel, "{}")
	}
	added := internal("member_added", people, `{"user_id":"you"}`)
	removed := internal("member_removed", people, `{"user_id":"you"}`)
	const miss = `{"event":"pusher:cache_miss","data":"{}","channel":"cache-x"}`
	for _, right := range [][]string{
		{news, "event", "join", "answer", succeeded(news), "event", event(news, 1), "nobody"},
		{news, "join", "answer", "event", succeeded(news), event(news, 0), "own", "event",
			event(news, 2), "nobody"},
		{news, "join", "answer", "answer", succeeded(news), succeeded(news), "nobody"},
		{news, "join", "answer", "event", "join", "answer", succeeded(news), event(news, 0),
			succeeded(news), "nobody"},
		{people, "join", "event", "answer", list(people, "me"), added, "event", event(people, 1),
			"both"},
		{people, "join", "answer", list(people, "me", "you"), removed, added, "both"},
		{cached, "join", "answer", succeeded(cached), miss, "event", event(cached, 0), "nobody"},
		{cached, "event", "event", "join", "answer", succeeded(cached), event(cached, 1), "event",
			event(cached, 2), "nobody"},
	} {
		if err := play(right[0], right[1:]...); err != nil {
			t.Errorf("%q: %v", right, err)
		}
	}
	for _, wrong := range [][]string{
		{news, event(news, 0)},
		{news, "join", succeeded(news)},
		{news, "join", "answer", "event", event(news, 0)},
		{news, "join", "answer", succeeded(news), event(news, 0), event(news, 0)},
		{news, "join", "answer", succeeded(news), "event", "event", event(news, 1)},
		{news, "join", "answer", succeeded(news), "own", event(news, 0)},
		{news, "join", "answer", succeeded(news), "event", "nobody"},
		{news, "join", "answer", succeeded(news), "leave", "event", event(news, 0)},
		{news, "join", "answer", succeeded(news), `{"event":"e","data":"x","channel":"news"}`},
		{news, "join", "answer", list(news, "me")},
		{news, "join", "answer", "answer", succeeded(news), "nobody"},
		{news, "nobody"},
		{news, "broken"},
		{people, "join", "answer", succeeded(people)},
		{people, "join", "answer", list(people, "me", "you"), added},
		{people, "join", "answer", list(people, "me"), removed},
		{people, "join", "answer", list(people, "me"), "both"},
		{cached, "join", "answer", succeeded(cached), succeeded(cached)},
		{cached, "event", "join", "answer", succeeded(cached), miss},
		{cached, "event", "event", "join", "answer", succeeded(cached), event(cached, 0)},
	} {
		if err := play(wrong[0], wrong[1:]...); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
