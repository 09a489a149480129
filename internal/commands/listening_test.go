package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"reverb/internal/client"
)

// heard is what a Printer prints of events, and notes.
func heard(t *testing.T, p *Printer, events ...client.Event) (out, notes string) {
	t.Helper()
	var o, n strings.Builder
	p.out, p.notes = &o, &n
	p.now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 67_000_000, time.Local) }
	for _, e := range events {
		if err := p.Heard(e); err != nil {
			t.Fatal(err)
		}
	}
	return o.String(), n.String()
}

// room are the events of a presence channel.
var room = []client.Event{
	{Channel: "presence-x", Name: client.Subscribed,
		Data: `{"presence":{"count":2,"ids":["7",8],"hash":{}}}`, UserID: "listen-1.2"},
	{Channel: "presence-x", Name: memberAdded, Data: `{"user_id":"9","user_info":{"name":"Ada"}}`},
	{Channel: "presence-x", Name: memberAdded, Data: `{"user_id":10}`},
	{Channel: "presence-x", Name: "client-typing", Data: `{"a":1}`, UserID: "9"},
	{Channel: "presence-x", Name: memberRemoved, Data: `{"user_id":"9"}`},
	{Channel: "a", Name: client.Subscribed, Data: `{}`},
	{Channel: "a", Name: "e\n", Data: "text\x1b"},
	{Name: client.SignedIn, Data: `{"user_data":"{}"}`},
}

// What scripts read is as it always was.
func TestPrinter(t *testing.T) {
	got, notes := heard(t, &Printer{}, room...)
	want := `listening on presence-x
presence-x pusher_internal:member_added {"user_id":"9","user_info":{"name":"Ada"}}
presence-x pusher_internal:member_added {"user_id":10}
presence-x client-typing {"a":1}
presence-x pusher_internal:member_removed {"user_id":"9"}
listening on a
a e? text?
signed in, listening to what is sent to the user
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if notes != "reverb: on presence-x others see this command as the member listen-1.2\n" {
		t.Errorf("noted %q", notes)
	}
	got, _ = heard(t, &Printer{time: true}, room[3])
	if got != `03:04:05.067 presence-x client-typing {"a":1}`+"\n" {
		t.Errorf("got %s", got)
	}
}

func TestPrinterOnTerminal(t *testing.T) {
	got, _ := heard(t, &Printer{persons: true}, room...)
	want := `listening on presence-x (2 members: 7, 8)
presence-x joined: 9 {"name":"Ada"}
presence-x joined: 10
presence-x client-typing {"a":1} (user 9)
presence-x left: 9
listening on a
a e? text?
signed in, listening to what is sent to the user
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got, _ = heard(t, &Printer{persons: true}, client.Event{Channel: "presence-x",
		Name: client.Subscribed, Data: `{"presence":{"ids":["7"]}}`})
	if got != "listening on presence-x (1 member: 7)\n" {
		t.Errorf("got %s", got)
	}
	ids := strings.TrimSuffix(strings.Repeat(`"u",`, 30), ",")
	got, _ = heard(t, &Printer{persons: true, time: true}, client.Event{Channel: "presence-x",
		Name: client.Subscribed, Data: `{"presence":{"ids":[` + ids + `]}}`})
	if want := "03:04:05.067 listening on presence-x (30 members: " + strings.Repeat("u, ", 20) +
		"...)\n"; got != want {
		t.Errorf("got %s", got)
	}
}

func TestPrinterJSON(t *testing.T) {
	got, _ := heard(t, &Printer{json: true, time: true, persons: true}, room[3],
		client.Event{Channel: "a", Name: "e\n\u202e", Data: "no \"JSON\" \u009b\U000e0001"},
		client.Event{Channel: "a", Name: "e", Data: "{\"n\":\r\n\t1.50}"})
	shown := time.Date(2026, 1, 2, 3, 4, 5, 67_000_000, time.Local).UTC()
	at := `{"at":"` + shown.Format("2006-01-02T15:04:05.000Z") + `",`
	want := at +
		`"channel":"presence-x","event":"client-typing","user_id":"9","data":{"a":1}}` + "\n" +
		at + `"channel":"a","event":"e\n\u202e","data":"no \"JSON\" \u009b\udb40\udc01"}` + "\n" +
		at + `"channel":"a","event":"e","data":{"n":   1.50}}` + "\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What comes of the connection is noted, each in a line that a terminal prints.
func TestPrinterNotes(t *testing.T) {
	var notes strings.Builder
	p := &Printer{notes: &notes}
	p.Cut(errors.New("gone\x1b"))
	p.Missed("a\n", true)
	p.Missed("b", false)
	want := "reverb: gone?; connecting again\n" +
		"reverb: a?: events are missing; the server does not have all that were sent meanwhile\n" +
		"reverb: b: the server keeps nothing of this channel for those who come back " +
		"(REVERB_RESUME_SECONDS); a cut loses events\n"
	if notes.String() != want {
		t.Errorf("got %q, want %q", notes.String(), want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestPrinterFails(t *testing.T) {
	l, err := Parse([]string{"listen", "--json", "a"})
	if err != nil {
		t.Fatal(err)
	}
	p := l.Printer(full{}, full{}, func(string) string { return "" }, time.Now)
	if err := p.Heard(room[0]); err == nil || !p.json || p.time || p.persons {
		t.Errorf("got %v, %+v", err, p)
	}
}

// FuzzPrinter: whatever a server sends is one line that a terminal prints, and JSON with
// --json.
func FuzzPrinter(f *testing.F) {
	f.Add("a", memberAdded, `{"user_id":"\u001b","user_info":[1,
2]}`, "")
	f.Add("presence-x", client.Subscribed, `{"presence":{"ids":["\n",{}]}}`, "7")
	f.Add("\xff", "e", "\"\u2028\xfe\"", "\u009b")
	f.Fuzz(func(t *testing.T, channel, name, data, user string) {
		for _, p := range []*Printer{{}, {persons: true}, {json: true}} {
			out, notes := heard(t, p,
				client.Event{Channel: channel, Name: name, Data: data, UserID: user})
			line := strings.TrimSuffix(out, "\n")
			odd := func(r rune) bool { return !unicode.IsPrint(r) }
			if strings.ContainsFunc(line, odd) ||
				strings.ContainsFunc(strings.TrimSuffix(notes, "\n"), odd) {
				t.Errorf("%+v prints %q, %q", p, out, notes)
			}
			if p.json && !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %s", fmt.Sprintf("%q", line))
			}
		}
	})
}
