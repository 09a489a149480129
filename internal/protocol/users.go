package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/show"
)

// --- Users ---

// User is the user that a client signs in as. A User shares nothing with the message, and never
// changes.
type User struct {
	Member
	Watchlist []string // users of whose coming and going the client is told; each once

	echo []byte // user_data, with the ID as a string
	cut  bool   // the client has sent more users than a watchlist can have
}

// SignIn reads the data of pusher:signin, an object or a string that holds one, and verifies it for
// the connection with this socket ID. as is the user that the connection is signed in as; nil: it
// is not signed in. bad is nil if the sign-in is right; otherwise its message tells the cause.
func (c *Credentials) SignIn(data []byte, id SocketID, as *Member) (u *User, bad *Error) {
	auth, userData, err := parseSignIn(data)
	if err != nil {
		return nil, errSignIn.because(err.Error())
	}
	if socket := id.String(); !c.checkChannel(socket, userChannel, userData, auth) {
		return nil, errSignIn.because(c.userFault(socket, userData, auth))
	}
	if u, err = parseUser(userData); err != nil {
		return nil, errSignIn.because("user_data: " + err.Error())
	}
	if as != nil && as.ID != u.ID {
		return nil, errSignIn.because(fmt.Sprintf("this connection is signed in as %s; "+
			"another user needs another connection", show.Quoted(as.ID)))
	}
	return u, nil
}

// parseSignIn takes the data of pusher:signin apart. userData is a copy.
func parseSignIn(data []byte) (auth string, userData []byte, err error) {
	if s, quoted := jsonraw.String(data); quoted {
		data = []byte(s)
	}
	var authValue, userValue []byte
	if !utf8.Valid(data) || jsonraw.Object(data, func(key, value []byte) {
		switch string(key) {
		case "auth":
			authValue = value
		case "user_data":
			userValue = value
		}
	}) != nil {
		return "", nil, errors.New("data must be an object with auth and user_data")
	}
	auth, _ = jsonraw.String(authValue)
	text, ok := jsonraw.String(userValue)
	switch {
	case userValue == nil:
		return "", nil, errors.New("no user_data was given; the application's endpoint for " +
			"the authentication of users makes it")
	case !ok:
		return "", nil, errors.New("user_data must be a string that holds JSON")
	}
	return auth, []byte(text), nil
}

// parseUser reads user_data. Its result shares only echo with userData.
func parseUser(userData []byte) (u *User, err error) {
	var id, info, watchlist []byte
	if err = jsonraw.Object(userData, func(key, value []byte) {
		switch string(key) {
		case "id":
			id = value
		case "user_info":
			info = value
		case "watchlist":
			watchlist = value
		}
	}); err != nil {
		return nil, err
	}
	if id == nil {
		return nil, errors.New("it has no id")
	}
	u = &User{echo: userData}
	if u.ID, err = userID(id); err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	if id[0] != '"' {
		// where id begins in userData, as jsonraw promises
		at := cap(userData) - cap(id)
		u.echo = slices.Concat(userData[:at], []byte{'"'}, id, []byte{'"'}, userData[at+len(id):])
	}
	u.Info = bytes.Clone(info)
	if watchlist == nil || string(watchlist) == "null" {
		return u, nil
	}
	if err = u.watch(watchlist); err != nil {
		return nil, fmt.Errorf("watchlist: %w", err)
	}
	return u, nil
}

// watch reads the first users of a watchlist. The IDs are parts of one string: 100 small ones a
// sign-in, nearly all soon garbage, would leave holes in the heap.
func (u *User) watch(list []byte) (err error) {
	var text []byte
	var ends []int // of the IDs in text
	n := 0
	notList := jsonraw.List(list, func(value []byte) {
		if n++; n > maxWatched || err != nil {
			return
		}
		if text, err = appendUserID(text, value); err == nil {
			ends = append(ends, len(text))
		}
	})
	if notList != nil {
		return errors.New("it must be a list of user IDs")
	}
	u.Watchlist = onceEach(string(text), ends)
	u.cut = n > maxWatched
	return err
}

// onceEach returns the parts of text that end at ends, at most maxWatched of them, each once.
func onceEach(text string, ends []int) (parts []string) {
	var table [2 * maxWatched]uint8 // by hash: the index in parts, plus 1
	seed := maphash.MakeSeed()
	parts = make([]string, 0, len(ends))
	begin := 0
	for _, end := range ends {
		part := text[begin:end]
		begin = end
		at := maphash.String(seed, part) % uint64(len(table))
		for table[at] != 0 && parts[table[at]-1] != part {
			at = (at + 1) % uint64(len(table))
		}
		if table[at] == 0 {
			parts = append(parts, part)
			table[at] = uint8(len(parts))
		}
	}
	return parts
}

// userID is the ID that value, a JSON value or nil, stands for. Applications sign whole numbers
// too, but clients take only strings.
func userID(value []byte) (id string, err error) {
	b, err := appendUserID(nil, value)
	return string(b), err
}

func appendUserID(to, value []byte) (_ []byte, err error) {
	id, text := jsonraw.Bytes(value)
	if !text {
		id = value
	}
	switch {
	case value == nil,
		!text && strings.Trim(strings.TrimPrefix(string(value), "-"), "0123456789") != "":
		return to, errors.New("a user ID is a string or a whole number")
	case len(id) == 0 || len(id) > maxUserBytes:
		return to, fmt.Errorf("a user ID has 1 to %d bytes, this one %d", maxUserBytes, len(id))
	}
	return append(to, id...), nil
}

// Greeting makes the messages that answer the sign-in, in their order: pusher:signin_success; an
// error if the watchlist was too long; and the watchlist, see EncodeWatchlist.
func (u *User) Greeting(online, offline []string) [][]byte {
	data := append(make([]byte, 0, quotedSize(u.echo)+len(`{"user_data":}`)), `{"user_data":`...)
	data = jsonraw.AppendString(data, u.echo)
	all := [][]byte{encodeEvent("pusher:signin_success", append(data, '}'), "")}
	if u.cut {
		all = append(all, EncodeError(errWatchlist))
	}
	if len(online)+len(offline) > 0 {
		all = append(all, EncodeWatchlist(online, offline))
	}
	return all
}

// EncodeWatchlist makes pusher_internal:watchlist_events, without the list that is empty. The
// message has no channel: clients would not take it (pusher-js: src/core/watchlist.ts).
func EncodeWatchlist(online, offline []string) []byte {
	room := len(`{"events":[{"name":"online","user_ids":[]},{"name":"offline","user_ids":[]}]}`)
	for _, ids := range [][]string{online, offline} {
		for _, id := range ids {
			room += len(id) + len(`"",`)
		}
	}
	data := append(make([]byte, 0, room), `{"events":[`...)
	for i, ids := range [][]string{online, offline} {
		if len(ids) == 0 {
			continue
		}
		if data[len(data)-1] == '}' {
			data = append(data, ',')
		}
		data = append(data, `{"name":"`+[]string{"online", "offline"}[i]+`","user_ids":[`...)
		for j, id := range ids {
			if j > 0 {
				data = append(data, ',')
			}
			data = jsonraw.AppendString(data, id)
		}
		data = append(data, "]}"...)
	}
	return encodeEvent("pusher_internal:watchlist_events", append(data, "]}"...), "")
}
