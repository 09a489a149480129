package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/show"
)

// --- Bodies of the HTTP API: events ---

// Publish is one event to be published.
type Publish struct {
	Name     []byte // part of the body; so is Data
	Data     []byte // a JSON string, as it stood in the body
	Channels []Name // at least one; a name may occur twice
	Except   SocketID
	Info     []string // the figures of channels that the answer has; nil: none
}

// ParsePublish reads the body of POST events and judges it.
func ParsePublish(body []byte) (p Publish, bad *Problem) {
	if !utf8.Valid(body) {
		return p, bodyProblem(body, nil)
	}
	p, fields, err := parsePublish(body, "", false)
	switch {
	case err != nil && len(body) > 0:
		return p, bodyProblem(body, err)
	case fields != nil:
		return p, &Problem{Status: http.StatusUnprocessableEntity, fields: fields}
	}
	return p, p.judge()
}

// ParseBatch reads the body of POST batch_events and judges it. Each event has exactly
// one channel.
func ParseBatch(body []byte) ([]Publish, *Problem) {
	if !utf8.Valid(body) {
		return nil, bodyProblem(body, nil)
	}
	events, fields, err := parseBatch(body)
	switch {
	case err != nil:
		return nil, bodyProblem(body, err)
	case fields != nil:
		return nil, &Problem{Status: http.StatusUnprocessableEntity, fields: fields}
	case len(events) > maxBatch:
		return nil, BadRequest("the batch has %d events; %d are allowed", len(events), maxBatch)
	}
	for i := range events {
		if bad := events[i].judge(); bad != nil {
			return nil, bad
		}
	}
	return events, nil
}

// bodyProblem is the answer to a body that is not JSON.
func bodyProblem(body []byte, err error) *Problem {
	if !utf8.Valid(body) {
		return BadRequest("the body is not UTF-8")
	}
	return BadRequest("the body is not JSON: %v", err)
}

// Check judges the lengths of an event; nil means that they are right. The parser has judged its
// channels.
func (p *Publish) Check() *Problem {
	switch {
	case len(p.Channels) > maxEventChannels:
		return BadRequest("the event is for %d channels; %d are allowed", len(p.Channels),
			maxEventChannels)
	case len(p.Name) > maxNameBytes:
		return BadRequest("the event's name has %d bytes; %d are allowed", len(p.Name),
			maxNameBytes)
	}
	return nil
}

// judge is Check, and parses the channels: channelNames has set only their texts.
func (p *Publish) judge() *Problem {
	if bad := p.Check(); bad != nil {
		return bad
	}
	for i, name := range p.Channels {
		var err error
		if p.Channels[i], err = parseTarget(name.text); err != nil {
			return BadRequest("channel %s: %v", show.Quoted(name.text), err)
		}
	}
	return nil
}

// blank says whether Laravel's rule "required" fails for a value: it is absent or null, a string of
// spaces, or an empty list or object.
func blank(value []byte) bool {
	if len(value) > 1 && value[0] == '"' {
		if c := value[1]; c > ' ' && c < utf8.RuneSelf && c != '\\' && c != '"' {
			return false // most strings begin with a letter, and data can be long
		}
		s, ok := jsonraw.Bytes(value)
		return ok && len(bytes.TrimSpace(s)) == 0
	}
	empty := true
	switch {
	case len(value) == 0 || value[0] == 'n':
	case value[0] == '[':
		jsonraw.Array(value, func([]byte) { empty = false }) // no error: the whole body is valid
	case value[0] == '{':
		jsonraw.Object(value, func(_, _ []byte) { empty = false })
	default:
		return false
	}
	return empty
}

// fields are the values of an event as they stand in a body; nil: the value is absent.
type fields struct{ name, data, channel, channels, socketID, info []byte }

// readFields finds the fields of an event. A body that is not an object has none.
func readFields(body []byte) (v fields, err error) {
	err = jsonraw.Object(body, func(key, value []byte) {
		switch string(key) {
		case "name":
			v.name = value
		case "data":
			v.data = value
		case "channel":
			v.channel = value
		case "channels":
			v.channels = value
		case "socket_id":
			v.socketID = value
		case "info":
			v.info = value
		}
	})
	if errors.Is(err, jsonraw.ErrNotObject) {
		err = nil
	}
	return v, err
}

// parsePublish reads one event of a body. prefix stands before the names of fields in
// complaints. batch says that the event goes to one channel, as in a batch.
func parsePublish(body []byte, prefix string, batch bool) (p Publish, bad []fieldProblem,
	err error) {
	v, err := readFields(body)
	complain := func(name, text string) {
		label := strings.ReplaceAll(prefix+name, "_", " ")
		bad = append(bad, fieldProblem{prefix + name, "The " + label + " field " + text})
	}
	required := func(name string, value []byte) {
		if blank(value) {
			complain(name, "is required.")
		} else if value[0] != '"' {
			complain(name, "must be a string.")
		}
	}
	decodable := func(name string, value []byte) {
		if _, ok := jsonraw.Bytes(value); !ok && len(value) > 0 && value[0] == '"' {
			complain(name, "must not hold half of a surrogate pair.")
		}
	}
	required("name", v.name)
	decodable("name", v.name)
	required("data", v.data)
	p.Name, _ = jsonraw.Bytes(v.name)
	p.Data = v.data
	if batch { // only channel counts
		if v.channels = nil; blank(v.channel) {
			complain("channel", "is required when channels is not present.")
		} else {
			required("channel", v.channel)
		}
	}
	p.Channels = v.channelNames()
	if !batch {
		v.checkChannels(len(p.Channels), complain)
	}
	decodable("channel", v.channel)
	if v.socketID != nil && v.socketID[0] != '"' {
		complain("socket_id", "must be a string.")
	}
	decodable("socket_id", v.socketID)
	if v.info != nil && v.info[0] != '"' {
		complain("info", "must be a string.")
	}
	decodable("info", v.info)
	if len(bad) > 0 || err != nil {
		return p, bad, err
	}
	if v.socketID != nil {
		id, _ := jsonraw.String(v.socketID)
		p.Except = ParseSocketID(id)
	}
	if info, ok := jsonraw.String(v.info); ok {
		p.Info = strings.Split(info, ",")
	}
	return p, nil, nil
}

// checkChannels judges channels and channel; names is how many names they have.
func (v *fields) checkChannels(names int, complain func(name, text string)) {
	if blank(v.channels) && blank(v.channel) {
		complain("channels", "is required when channel is not present.")
		complain("channel", "is required when channels is not present.")
		return
	}
	if len(v.channels) > 0 && v.channels[0] != '[' && v.channels[0] != '{' {
		complain("channels", "must be an array.")
	} else if !blank(v.channels) && names == 0 {
		complain("channels", "must be an array of strings.")
	}
	if len(v.channel) > 0 && v.channel[0] != '"' {
		complain("channel", "must be a string.")
	}
}

// channelNames lists the names in channels, or else the name in channel; they are not judged yet.
// If one of them is not a name, the list is empty.
func (v *fields) channelNames() (names []Name) {
	bad := false
	add := func(value []byte) {
		s, ok := jsonraw.Scalar(value)
		names, bad = append(names, Name{text: s}), bad || !ok
	}
	if !blank(v.channels) {
		jsonraw.Array(v.channels, add)
		// channels is a list or an object, so one of the two calls finds nothing
		jsonraw.Object(v.channels, func(_, value []byte) { add(value) })
	} else {
		add(v.channel)
	}
	if bad {
		return nil
	}
	return names
}

func parseBatch(body []byte) (events []Publish, fields []fieldProblem, err error) {
	var batch []byte
	err = jsonraw.Object(body, func(key, value []byte) {
		if string(key) == "batch" {
			batch = value
		}
	})
	if err != nil && !errors.Is(err, jsonraw.ErrNotObject) && len(body) > 0 {
		return nil, nil, err
	}
	if blank(batch) {
		return nil, []fieldProblem{{"batch", "The batch field is required."}}, nil
	}
	each := func(value []byte) {
		// no error: the whole body is valid
		p, bad, _ := parsePublish(value, fmt.Sprintf("batch.%d.", len(events)), true)
		events, fields = append(events, p), append(fields, bad...)
	}
	if batch[0] == '{' {
		jsonraw.Object(batch, func(_, value []byte) { each(value) })
	} else if jsonraw.Array(batch, each) != nil {
		return nil, []fieldProblem{{"batch", "The batch field must be an array."}}, nil
	}
	return events, fields, nil
}

// --- Bodies of the HTTP API: answers ---

// Stats are the figures of a channel in answers of the HTTP API.
type Stats struct {
	Kind          Kind
	Occupied      bool
	Subscriptions int
	Users         int
	Cached        []byte // the last event of a cache channel, as a message; nil: none
}

// AppendStats appends a JSON object with what info asks for and the channel has: occupied,
// user_count, subscription_count, cache. The channel of a user has only the first.
func AppendStats(b []byte, s Stats, info []string) []byte {
	b = append(b, '{')
	from := len(b)
	member := func(name string) {
		if len(b) > from {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), `":`...)
	}
	for _, name := range []string{"occupied", "user_count", "subscription_count", "cache"} {
		if !slices.Contains(info, name) {
			continue
		}
		switch {
		case name == "occupied":
			member(name)
			b = strconv.AppendBool(b, s.Occupied)
		case name == "user_count" && s.Kind.Presence:
			member(name)
			b = strconv.AppendInt(b, int64(s.Users), 10)
		case name == "subscription_count" && !s.Kind.User:
			member(name)
			b = strconv.AppendInt(b, int64(s.Subscriptions), 10)
		case name == "cache" && s.Cached != nil:
			member(name)
			b = append(b, s.Cached...)
		}
	}
	return append(b, '}')
}

// AppendUsers appends {"users":[{"id":"…"},…]}.
func AppendUsers(b []byte, members []*Member) []byte {
	b = append(b, `{"users":[`...)
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendString(append(b, `{"id":`...), m.ID), '}')
	}
	return append(b, "]}"...)
}
