package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/resp"
	"reverb/internal/protocol"
	"reverb/internal/webhooks"
)

// letters are the kinds of events, in the order of webhooks.Kind. The first four are those of
// hooks.lua.
const letters = "ovarcmn"

func number(n int64) string { return strconv.FormatInt(n, 10) }

// fields are the fields of an event, with their values.
func fields(e *webhooks.Event) []string {
	f := []string{"k", letters[e.Kind : e.Kind+1], "c", e.Channel.String()}
	if e.User != "" {
		f = append(f, "u", e.User)
	}
	switch e.Kind {
	case webhooks.ClientEvent:
		f = append(f, "e", e.Event, "d", string(e.Data),
			"i", strconv.FormatUint(e.Socket.Number(), 10))
	case webhooks.SubscriptionCount:
		f = append(f, "n", number(int64(e.Count)))
	}
	return f
}

// sumOf is a text that stands for the IDs of some entries. If Redis has lost data, a batch may
// begin as another one did, and go on otherwise, or have what was undone in the other one.
func sumOf(entries []resp.Reply) string {
	sum := sha256.New()
	for _, entry := range entries {
		if len(entry.Items) > 0 {
			io.WriteString(sum, entry.Items[0].Text+" ")
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// read reads the entries of a stream. What is not an event is left out: a stranger has written it.
func read(entries []resp.Reply) (events []webhooks.Event, times []time.Time) {
	for _, entry := range entries {
		if len(entry.Items) != 2 {
			continue
		}
		if e, ok := event(entry.Items[1].Items); ok {
			events, times = append(events, e), append(times, timeOf(entry.Items[0].Text))
		}
	}
	return events, times
}

// timeOf is when an entry was added, by its ID; zero: it has no ID.
func timeOf(id string) (at time.Time) {
	digits, _, ok := strings.Cut(id, "-")
	if ms, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
		at = time.UnixMilli(ms)
	}
	return at
}

func event(fields []resp.Reply) (e webhooks.Event, ok bool) {
	of := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		of[fields[i].Text] = fields[i+1].Text
	}
	name, err := protocol.ParseName(of["c"])
	if err != nil {
		return e, false
	}
	for k := range letters {
		if of["k"] == letters[k:k+1] {
			e, ok = webhooks.Event{Kind: webhooks.Kind(k), Channel: name, User: of["u"]}, true
		}
	}
	switch {
	case !ok:
		return e, false
	case e.Kind == webhooks.ClientEvent:
		e.Event, e.Data = of["e"], []byte(of["d"])
		var socket uint64
		socket, err = strconv.ParseUint(of["i"], 10, 64)
		e.Socket = protocol.SocketIDOf(socket)
	case e.Kind == webhooks.SubscriptionCount:
		e.Count, err = strconv.Atoi(of["n"])
	case e.Kind == webhooks.MemberAdded || e.Kind == webhooks.MemberRemoved:
		ok = e.User != ""
	}
	return e, ok && err == nil
}
