package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/jsonraw"
)

// --- Messages of clients ---

// Event is the parts of a message. They share memory with the message and are valid as long as the
// message is; a part that had escapes is a copy.
type Event struct {
	Name    []byte // never empty
	Channel []byte
	Data    []byte // the JSON value as it stands; nil: none
	Named   bool   // the message has a channel, as a string that is not empty
}

// ParseEvent takes a message apart (Reverb: src/Protocols/Pusher/Server.php). It ignores keys that
// it does not know. If a key occurs twice, the last one counts. The error says why the message is
// not an event.
func ParseEvent(message []byte) (e Event, err error) {
	var name, channel []byte
	err = jsonraw.Object(message, func(key, value []byte) {
		switch string(key) {
		case "event":
			name = value
		case "channel":
			channel = value
		case "data":
			e.Data = value
		}
	})
	if err != nil {
		return e, err
	}
	e.Name, _ = jsonraw.Bytes(name)
	if len(e.Name) == 0 {
		return e, errors.New("no event name")
	}
	e.Channel, e.Named = jsonraw.Bytes(channel)
	e.Named = e.Named && len(e.Channel) > 0
	return e, nil
}

// NameFault says what is wrong with the name of a client event; nil: nothing is.
func (e *Event) NameFault() *Error {
	if len(e.Name) > maxNameBytes {
		return errEventName.because(
			fmt.Sprintf("it has %d bytes, %d are allowed", len(e.Name), maxNameBytes))
	}
	return nil
}

// WithoutAuth is a message of a client without its signatures, which open channels. The result may
// be shown.
func WithoutAuth(message []byte) string {
	s := string(message)
	if !strings.Contains(s, `"auth`) && !strings.Contains(s, `\u00`) {
		return s
	}
	e, err := ParseEvent(message)
	switch {
	case err != nil:
		return fmt.Sprintf("%d bytes that hold a signature and are not a message: %v",
			len(message), err)
	case string(e.Name) == "pusher:subscribe":
		d, _ := ParseSubscription(e.Data)
		return `{"event":"pusher:subscribe","data":{"channel":` +
			string(jsonraw.AppendString(nil, d.Channel)) +
			`,"auth":"********","channel_data":` +
			string(jsonraw.AppendString(nil, d.ChannelData)) + `}}`
	case bytes.HasPrefix(e.Name, []byte("pusher:")):
		return string(AppendEvent(nil, e.Name, []byte(`"********"`), "", ""))
	}
	return s
}

// Subscription is the data of pusher:subscribe and pusher:unsubscribe. It shares
// nothing with the message.
type Subscription struct {
	Channel     string
	Auth        string
	ChannelData []byte // the content of the string; nil: it is absent or empty
	BadData     string // what is wrong with channel_data; empty: it is JSON or absent
	Resume      []byte // JSON; nil: it is absent
}

// ParseSubscription reads the data of pusher:subscribe, which is an object or a string that holds
// one. If channel is a number or true, its text counts, as in PHP. ok is false if the data names no
// channel.
func ParseSubscription(data []byte) (d Subscription, ok bool) {
	if s, quoted := jsonraw.String(data); quoted {
		data = []byte(s)
	}
	if data == nil || !utf8.Valid(data) {
		return d, false
	}
	var channel, auth, channelData []byte
	err := jsonraw.Object(data, func(key, value []byte) {
		switch string(key) {
		case "channel":
			channel = value
		case "auth":
			auth = value
		case "channel_data":
			channelData = value
		case "resume":
			d.Resume = value
		}
	})
	if err != nil || len(auth) > 0 && (auth[0] == '[' || auth[0] == '{') {
		return d, false
	}
	d.Channel, ok = jsonraw.Scalar(channel)
	d.Auth, _ = jsonraw.Scalar(auth)
	d.setChannelData(channelData)
	d.Resume = bytes.Clone(d.Resume)
	return d, ok
}

func (d *Subscription) setChannelData(value []byte) {
	if value == nil || string(value) == "null" {
		return
	}
	s, ok := jsonraw.String(value)
	switch {
	case !ok && value[0] == '"':
		d.BadData = "channel_data holds half of a surrogate pair"
	case !ok:
		d.BadData = "channel_data must be a string that holds JSON"
	case s != "":
		d.ChannelData = []byte(s)
		if err := jsonraw.Check(d.ChannelData); err != nil {
			d.BadData = "channel_data must hold JSON: " + err.Error()
		}
	}
}

// Judge says whether the connection with this socket ID may subscribe, in Reverb's order of causes.
// user is the user that the connection is signed in as; nil: it is not signed in. On a presence
// channel without channel_data, user is the member. maxData bounds channel_data, or the user's
// data, of a presence channel in bytes; 0: there is no bound.
//
// bad is nil if the subscription is right. Then m is the user, and shares memory with d, or is
// user. It is never nil on a presence channel. It is always nil on a public channel, where no
// signature covers channel_data. Otherwise reason says more about bad, or is empty.
func (d *Subscription) Judge(keys *Credentials, id SocketID, user *Member, maxData int) (name Name,
	m *Member, bad *Error, reason string) {
	name, err := ParseName(d.Channel)
	if err != nil {
		return name, nil, errChannelName, err.Error()
	}
	kind := name.Kind()
	switch {
	case kind.User && (user == nil || UserChannel(user.ID) != name):
		return name, nil, errUnauthorized, "only the user of this channel is subscribed to it, " +
			"by signing in (pusher:signin)"
	case kind.User:
		return name, nil, nil, ""
	}
	if !kind.Signed() {
		if d.BadData != "" {
			bad = ErrFormat
		}
		return name, nil, bad, ""
	}
	socket := id.String()
	if !keys.checkChannel(socket, d.Channel, d.ChannelData, d.Auth) {
		return name, nil, errUnauthorized,
			keys.channelFault(socket, d.Channel, d.ChannelData, d.Auth)
	}
	switch n := len(d.ChannelData); {
	case d.BadData != "":
		return name, nil, errDataFormat, d.BadData
	case kind.Presence:
		if m = user; d.ChannelData != nil || user == nil {
			m, bad, reason = parsePresent(d.ChannelData)
		} else {
			n = len(user.ID) + len(user.Info)
		}
		if bad == nil && maxData > 0 && n > maxData {
			return name, nil, errMemberSize,
				fmt.Sprintf("it has %d bytes, %d are allowed", n, maxData)
		}
	case d.ChannelData != nil:
		m, _ = parseMember(d.ChannelData)
	}
	return name, m, bad, reason
}

// --- Members ---

// Member is a user of a presence channel, or the signed user of a private one. It never
// changes once it is shared.
type Member struct {
	ID   string
	Info []byte // user_info as JSON; nil: none
}

// NewMember makes a member of what nodes tell each other. info is JSON, or empty.
func NewMember(user, info string) *Member {
	m := &Member{ID: user}
	if info != "" {
		m.Info = []byte(info)
	}
	return m
}

// parseMember reads channel_data, a JSON text. ID is empty if there is no user_id; the text of a
// number counts. Info is a part of channelData.
func parseMember(channelData []byte) (m *Member, err error) {
	m = new(Member)
	err = jsonraw.Object(channelData, func(key, value []byte) {
		switch string(key) {
		case "user_id":
			if m.ID = ""; len(value) > 0 && value[0] != 't' {
				m.ID, _ = jsonraw.Scalar(value)
			}
		case "user_info":
			m.Info = value
		}
	})
	return m, err
}

// parsePresent is parseMember for a presence channel. bad is nil if the channel can take the
// member; otherwise reason says what is wrong. Reverb also takes lists and objects without a
// user_id (Reverb: src/Protocols/Pusher/Channels/Concerns/InteractsWithPresenceChannels.php).
func parsePresent(channelData []byte) (m *Member, bad *Error, reason string) {
	if channelData == nil {
		return nil, errChannelData,
			"none was sent, and the client is not signed in (pusher:signin); " +
				"a presence channel needs an object with a user_id"
	}
	m, err := parseMember(channelData)
	odd := false // an array or an object, at which Reverb fails
	jsonraw.Object(channelData, func(key, value []byte) {
		if string(key) == "user_id" {
			odd = value[0] == '[' || value[0] == '{'
		}
	})
	switch {
	case err != nil && !bytes.HasPrefix(bytes.TrimLeft(channelData, " \t\r\n"), []byte("[")):
		return nil, errDataFormat,
			"channel_data of a presence channel must be an object with a user_id"
	case err != nil:
		return nil, errChannelData, "it must be an object with a user_id, not a list"
	case odd:
		return nil, errDataFormat, "user_id of channel_data must be a number or a string"
	case m.ID == "":
		return nil, errChannelData, "user_id must be a number or a string of 1 to " +
			strconv.Itoa(maxUserIDBytes) + " bytes"
	case len(m.ID) > maxUserIDBytes:
		return nil, errChannelData,
			fmt.Sprintf("user_id has %d bytes; %d are allowed", len(m.ID), maxUserIDBytes)
	}
	return m, nil, ""
}
