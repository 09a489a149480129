package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/resp"
)

// text and list are replies as Redis writes them.
func text(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
func list(words ...string) string {
	b := fmt.Sprintf("*%d\r\n", len(words))
	for _, w := range words {
		b += text(w)
	}
	return b
}

// answerAll answers what a node says, turn by turn, until it says no more. answers are by command;
// what is not among them is answered with 0.
func (f *redis) answerAll(answers map[string]string) (said []string) {
	for {
		synctest.Wait()
		lines := f.said("")
		if len(lines) == 0 {
			return said
		}
		for _, line := range lines {
			line = strings.TrimSpace(line)
			answer := answers[line]
			if answer == "" {
				answer = ":0\r\n"
			}
			r, err := resp.NewReader(strings.NewReader(answer)).Read()
			if err != nil {
				f.t.Fatal(err)
			}
			f.answer(r)
			said = append(said, line)
		}
	}
}

// TestNodeQueries asks what only Redis knows.
func TestNodeQueries(t *testing.T) {
	const wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
	var n *Node
	stats := func(topics ...string) func(context.Context) string {
		return func(ctx context.Context) string {
			subscriptions, users, cached, err := n.Stats(ctx, topics)
			return fmt.Sprintf("%d %d %q %v", subscriptions, users, cached, err)
		}
	}
	occupied := func(ctx context.Context) string { return fmt.Sprintln(n.OccupiedTopics(ctx)) }
	members := func(ctx context.Context) string { return fmt.Sprintln(n.Members(ctx, "a:x")) }
	for name, c := range map[string]struct {
		ask     func(ctx context.Context) string
		answers map[string]string
		want    string
	}{
		"stats": {stats("a:x", "a:y"), map[string]string{
			"HGETALL p:a:x:nodes": list("aa-1", "9", "aa-2", "3", "bb-1", "4"), "HLEN p:a:x:members": ":2\r\n", "GET p:a:x:cached": text("e"),
		}, `[7 0] [2 0] ["e" ""] <nil>`},
		"stats of a foreign key":     {stats("a:x", "a:y"), map[string]string{"HGETALL p:a:x:nodes": wrong, "HLEN p:a:y:members": ":5\r\n"}, `[-1 0] [0 5] ["" ""] <nil>`},
		"stats that Redis refuses":   {stats("a:x", "a:y"), map[string]string{"GET p:a:x:cached": "-NOPERM no\r\n"}, `[] [] [] Redis answers: NOPERM no`},
		"stats of nothing":           {stats(), nil, `[] [] [] <nil>`},
		"topics":                     {occupied, map[string]string{"ZRANGE p:nodes 0 -1": list("x-1", "y-1"), "SUNION p:node:x-1:topics p:node:y-1:topics": list("a:x", "a:y")}, "[a:x a:y] <nil>"},
		"topics of no node":          {occupied, map[string]string{"ZRANGE p:nodes 0 -1": list()}, "[] <nil>"},
		"topics of a foreign key":    {occupied, map[string]string{"ZRANGE p:nodes 0 -1": wrong}, "[] Redis answers: " + wrong[1:len(wrong)-2]},
		"topics, and a foreign key":  {occupied, map[string]string{"ZRANGE p:nodes 0 -1": list("x-1"), "SUNION p:node:x-1:topics": wrong}, "[] Redis answers: " + wrong[1:len(wrong)-2]},
		"members, by their order":    {members, map[string]string{"HGETALL p:a:x:members": list("u", "2:{}", "v", "10:{}", "w", "1:")}, "[w u v] <nil>"},
		"members that are not there": {members, map[string]string{"HGETALL p:a:x:members": list()}, "[] <nil>"},
		"members of a foreign key":   {members, map[string]string{"HGETALL p:a:x:members": wrong}, "[] Redis answers: " + wrong[1:len(wrong)-2]},
	} {
		synctest.Test(t, func(t *testing.T) {
			n = newTestNode(time.Hour, new(scribe), slog.New(slog.DiscardHandler))
			f := connectFake(t, n)
			got := make(chan string, 1)
			go func() { got <- c.ask(t.Context()) }()
			said := f.answerAll(c.answers)
			if got := strings.TrimSpace(<-got); got != c.want {
				t.Errorf("%s: got %s, want %s", name, got, c.want)
			}
			for question := range c.answers {
				if !slices.Contains(said, question) {
					t.Errorf("%s: said %q, want %q too", name, said, question)
				}
			}
		})
	}
}

// TestNodeManyQueries asks more than is asked at once, and gives up.
func TestNodeManyQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(time.Hour, new(scribe), slog.New(slog.DiscardHandler))
		f := connectFake(t, n)
		topics := make([]string, bulkCommands)
		answers := map[string]string{}
		for i := range topics {
			topics[i] = fmt.Sprintf("a:x%d", i)
			answers["HLEN p:"+topics[i]+":members"] = fmt.Sprintf(":%d\r\n", i)
		}
		type answer struct {
			users []int
			err   error
		}
		answered := make(chan answer, 1)
		ask := func(ctx context.Context) {
			_, users, _, err := n.Stats(ctx, topics)
			answered <- answer{users, err}
		}
		go ask(t.Context())
		said := f.answerAll(answers)
		a := <-answered
		for i, users := range a.users {
			if users != i {
				t.Fatalf("topic %d has %d users", i, users)
			}
		}
		if a.err != nil || len(a.users) != len(topics) || len(said) != 3*len(topics) {
			t.Errorf("%d topics, %d commands, %v", len(a.users), len(said), a.err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go ask(ctx)
		synctest.Wait()
		first := f.said("")
		cancel()
		if a := <-answered; a.err != context.Canceled || len(first) != bulkCommands {
			t.Errorf("given up: %v after %d commands", a.err, len(first))
		}
		f.answer(slices.Repeat([]resp.Reply{{Kind: resp.Int}}, len(first))...)
		if rest := f.said(""); len(rest) != 0 || len(n.bulk) != 0 {
			t.Errorf("nobody waits any more, and %d more commands are sent, %d wait", len(rest), len(n.bulk))
		}
	})
}
