package commands

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"reverb/internal/client"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/show"
)

// Events of the protocol that say that a member comes to a presence channel, or leaves it.
const (
	memberAdded   = "pusher_internal:member_added"
	memberRemoved = "pusher_internal:member_removed"
)

var _ client.Listener = (*Printer)(nil)

// Printer prints one line for each event. Its form depends on the output and on the flags:
//
//	my-channel my-event {"n":1}                      to a file or another program
//	presence-x joined: 7 {"name":"Ada"}              members, on a terminal
//	12:00:00.000 my-channel my-event {"n":1}         with --time
//	{"at":"…","channel":"…","event":"…","data":…}    with --json
//
// On a terminal the line of a client event ends with the user. With --json, user_id is the user,
// and data is the JSON that the string of the event holds, or else the string.
type Printer struct {
	mu                  sync.Mutex // guards out and notes
	out, notes          io.Writer
	json, time, persons bool
	now                 func() time.Time
}

// Printer makes a Printer with the flags of the line. Events go to out. notes gets the user IDs as
// which this client appears on presence channels.
func (l *Line) Printer(
	out, notes io.Writer, getenv func(string) string, now func() time.Time,
) *Printer {
	return &Printer{out: out, notes: notes, json: l.Has("json"), time: l.Has("time"),
		persons: l.look(out, getenv).Terminal, now: now}
}

// Channels are the channels of listen: those to watch without joining them, which are presence
// channels, and those to subscribe to.
func (l *Line) Channels() (watched, joined []string) {
	for _, channel := range l.Words {
		if !l.Has("join") && strings.HasPrefix(channel, "presence-") {
			watched = append(watched, channel)
		} else {
			joined = append(joined, channel)
		}
	}
	return watched, joined
}

// Heard prints one event. The error is the error of writing the line. Any goroutine may call it.
func (p *Printer) Heard(e client.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Name == client.Subscribed && e.UserID != "" {
		fmt.Fprintf(p.notes, "reverb: on %s others see this command as the member %s\n",
			show.Line(e.Channel), show.Line(e.UserID))
	}
	var line string
	switch {
	case p.json:
		line = p.object(e)
	case e.Name == client.SignedIn:
		line = "signed in, listening to what is sent to the user"
	case e.Name == client.Subscribed:
		line = "listening on " + show.Line(e.Channel) + p.members(e.Data)
	case p.persons && (e.Name == memberAdded || e.Name == memberRemoved):
		line = show.Line(e.Channel) + " " + comesOrGoes(e)
	default:
		line = fmt.Sprintf("%s %s %s", show.Line(e.Channel), show.Line(e.Name), show.Line(e.Data))
		if p.persons && e.UserID != "" {
			line += " (user " + show.Line(e.UserID) + ")"
		}
	}
	if p.time && !p.json {
		line = p.now().Format("15:04:05.000 ") + line
	}
	_, err := io.WriteString(p.out, line+"\n")
	return err
}

// Cut notes that the connection is gone, see client.Listener.
func (p *Printer) Cut(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.notes, "reverb: %s; connecting again\n", show.Line(why.Error()))
}

// Missed notes that events of a channel may be missing, see client.Listener.
func (p *Printer) Missed(channel string, kept bool) {
	text := "the server keeps nothing of this channel for those who come back (" +
		"REVERB_RESUME_SECONDS); a cut loses events"
	if kept {
		text = "events are missing; the server does not have all that were sent meanwhile"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.notes, "reverb: %s: %s\n", show.Line(channel), text)
}

// member has the user ID and the user_info of an event about a member.
func member(data string) (id, info string) {
	jsonraw.Object([]byte(data), func(key, value []byte) { // data that is not an object has neither
		switch string(key) {
		case "user_id":
			id, _ = jsonraw.Scalar(value)
		case "user_info":
			info = string(value)
		}
	})
	return id, info
}

func comesOrGoes(e client.Event) string {
	id, info := member(e.Data)
	if e.Name == memberRemoved {
		return "left: " + show.Line(id)
	}
	return strings.TrimRight("joined: "+show.Line(id)+" "+show.Line(info), " ")
}

// maxMembers is the number of members that are named when a subscription begins. A larger one
// fills the screen before the first event; with a smaller one more members remain unnamed.
const maxMembers = 20

// members is the text about the members that are on a presence channel when the subscription
// begins. It is empty if out is not a terminal, or if data is not a member list.
func (p *Printer) members(data string) string {
	var ids []string
	jsonraw.Object([]byte(data), func(key, value []byte) {
		if string(key) != "presence" {
			return
		}
		jsonraw.Object(value, func(key, value []byte) {
			if string(key) == "ids" {
				jsonraw.Array(value, func(id []byte) {
					s, _ := jsonraw.Scalar(id)
					ids = append(ids, show.Text(s))
				})
			}
		})
	})
	if !p.persons || len(ids) == 0 {
		return ""
	}
	text := strings.Join(ids[:min(len(ids), maxMembers)], ", ")
	if len(ids) > maxMembers {
		text += ", ..."
	}
	noun := "members"
	if len(ids) == 1 {
		noun = "member"
	}
	return fmt.Sprintf(" (%d %s: %s)", len(ids), noun, text)
}

// object is an event as one line of JSON.
func (p *Printer) object(e client.Event) string {
	b := append([]byte(`{"at":"`), p.now().UTC().Format("2006-01-02T15:04:05.000Z")...)
	b = jsonraw.AppendString(append(b, `","channel":`...), e.Channel)
	b = jsonraw.AppendString(append(b, `,"event":`...), e.Name)
	if e.UserID != "" {
		b = jsonraw.AppendString(append(b, `,"user_id":`...), e.UserID)
	}
	b = append(b, `,"data":`...)
	if data := []byte(e.Data); jsonraw.Check(data) == nil {
		b = append(b, data...)
	} else {
		b = jsonraw.AppendString(b, e.Data)
	}
	return show.JSON(string(append(b, '}')))
}
