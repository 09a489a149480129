package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"reverb/internal/lib/jsonraw"
)

// signIn is the data of pusher:signin, as an application and its client make it.
func signIn(keys *Credentials, id SocketID, userData string) []byte {
	auth := keys.Key + ":" + Sign(keys.Secret, id.String()+"::user::"+userData)
	b, err := json.Marshal(map[string]string{"auth": auth, "user_data": userData})
	if err != nil {
		panic(err)
	}
	return b
}

// Pusher's own example (docs: auth-signatures, "User authentication").
func TestSignInVector(t *testing.T) {
	keys := &Credentials{Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8"}
	data := []byte(`{"auth":"278d425bdf160c739803:4708d583dada6a56435fb8bc611c77c359a31` +
		`eebde13337c16ab43aa6de336ba","user_data":"{\"id\":\"12345\"}"}`)
	u, bad := keys.SignIn(data, SocketID{1234, 1234}, nil)
	if bad != nil || u.ID != "12345" || u.Info != nil || u.Watchlist != nil {
		t.Fatalf("got %+v, %+v", u, bad)
	}
}

func TestSignIn(t *testing.T) {
	keys, id := &Credentials{Key: "app-key", Secret: "app-secret"}, SocketID{1, 2}
	long := strings.Repeat("x", maxUserBytes)
	for _, c := range []struct {
		userData, id, info, watchlist, echo string
		bad                                 string // a part of the cause
	}{
		{userData: `{"id":"7"}`, id: "7"},
		{userData: `{"id":7}`, id: "7", echo: `{"id":"7"}`},
		{userData: `{"id":"1","id": -12 ,"user_info":{"id":3}}`, id: "-12", info: `{"id":3}`,
			echo: `{"id":"1","id": "-12" ,"user_info":{"id":3}}`},
		{userData: ` {"a" : 1.0, "id":"7" }`, id: "7"},
		{userData: `{"id":"0"}`, id: "0"},
		{userData: `{"id":"é a:b"}`, id: "é a:b"},
		{userData: `{"id":"` + long + `"}`, id: long},
		{userData: `{"id":"7","user_info":null}`, id: "7", info: "null"},
		{userData: `{"id":"7","watchlist":["1",2,"1"]}`, id: "7", watchlist: "1,2"},
		{userData: `{"id":"7","watchlist":null}`, id: "7"},
		{userData: `{"id":"7","watchlist":[]}`, id: "7"},
		{userData: `{"id":"` + long + `x"}`, bad: "has 1 to 128 bytes, this one 129"},
		{userData: `{"id":""}`, bad: "has 1 to 128 bytes, this one 0"},
		{userData: `{}`, bad: "user_data: it has no id"},
		{userData: `{"id":true}`, bad: "id: a user ID is a string or a whole number"},
		{userData: `{"id":1.5}`, bad: "id: a user ID is a string or a whole number"},
		{userData: `{"id":1e3}`, bad: "id: a user ID is a string or a whole number"},
		{userData: `{"id":["7"]}`, bad: "id: a user ID is a string or a whole number"},
		{userData: `{"id":"7","watchlist":{}}`, id: "7"},
		{userData: `{"id":"7","watchlist":{"0":8,"2":"9"}}`, id: "7", watchlist: "8,9"},
		{userData: `{"id":"7","watchlist":"8"}`, bad: "watchlist: it must be a list of user IDs"},
		{userData: `{"id":"7","watchlist":["1",null]}`, bad: "watchlist: a user ID is a string"},
		{userData: `{"id":"7","watchlist":[""]}`, bad: "watchlist: a user ID has 1 to 128 bytes"},
		{userData: `["7"]`, bad: "user_data: "},
		{userData: `7`, bad: "user_data: "},
	} {
		data := signIn(keys, id, c.userData)
		u, bad := keys.SignIn(data, id, nil)
		quoted, err := json.Marshal(string(data))
		if err != nil {
			t.Fatal(err)
		}
		if again, worse := keys.SignIn(quoted, id, nil); (worse == nil) != (bad == nil) ||
			u != nil && again.ID != u.ID {
			t.Errorf("%s: a string gave %+v, %+v", c.userData, again, worse)
		}
		if c.bad != "" {
			if bad == nil || !strings.HasPrefix(bad.Message, "Sign-in refused: ") ||
				bad.Code != 0 || !strings.Contains(bad.Message, c.bad) {
				t.Errorf("%s: got %+v, %+v", c.userData, u, bad)
			}
			continue
		}
		if c.echo == "" {
			c.echo = c.userData
		}
		if bad != nil || u.ID != c.id || string(u.Info) != c.info ||
			strings.Join(u.Watchlist, ",") != c.watchlist || string(u.echo) != c.echo {
			t.Errorf("%s: got %+v, %+v", c.userData, u, bad)
		}
	}
}

// A sign-in that is refused tells the cause, and neither the secret nor a right signature.
func TestSignInRefused(t *testing.T) {
	keys, id := &Credentials{Key: "app-key", Secret: "app-secret"}, SocketID{1, 2}
	right := string(signIn(keys, id, `{"id":"7"}`))
	signature := Sign(keys.Secret, `1.2::user::{"id":"7"}`)
	for _, c := range []struct{ data, bad string }{
		{`7`, "data must be an object with auth and user_data"},
		{``, "data must be an object"},
		{`{"user_data":"{}"}`, "no auth was given"},
		{`{"auth":"app-key:00"}`, "no user_data was given"},
		{`{"auth":"app-key:00","user_data":{"id":"7"}}`, "user_data must be a string"},
		{strings.Replace(right, "app-key:", "app-key", 1), "auth must be the app's key, a colon"},
		{strings.Replace(right, "app-key", "other", 1), `auth is for the key "other"`},
		{strings.Replace(right, signature, "00", 1), "64 hexadecimal digits"},
		{strings.Replace(right, `7`, "8", 1), "made with another secret, or over another socket"},
		{string(signIn(keys, SocketID{1, 3}, `{"id":"7"}`)), "over another socket_id"},
	} {
		u, bad := keys.SignIn([]byte(c.data), id, nil)
		if bad == nil || !strings.Contains(bad.Message, c.bad) ||
			strings.Contains(bad.Message, keys.Secret) || strings.Contains(bad.Message, signature) {
			t.Errorf("%s: got %+v, %+v", c.data, u, bad)
		}
	}
	as := &Member{ID: "8"}
	if _, bad := keys.SignIn([]byte(right), id, as); bad == nil ||
		!strings.Contains(bad.Message, `signed in as "8"`) {
		t.Errorf("another user: got %+v", bad)
	}
	as.ID = "7"
	if _, bad := keys.SignIn([]byte(right), id, as); bad != nil {
		t.Errorf("the same user: got %+v", bad)
	}
}

// TestGreeting checks the bytes of the answers.
func TestGreeting(t *testing.T) {
	keys, id := &Credentials{Key: "app-key", Secret: "app-secret"}, SocketID{1, 2}
	many := make([]string, maxWatched+1)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	for _, c := range []struct {
		userData        string
		online, offline []string
		want            []string
		watched         int
	}{
		{`{"id":1}`, nil, nil, []string{`{"event":"pusher:signin_success",` +
			`"data":"{\"user_data\":\"{\\\"id\\\":\\\"1\\\"}\"}"}`}, 0},
		{`{"id":"1","watchlist":[` + strings.Join(many[:maxWatched], ",") + `]}`,
			[]string{"a\"b"}, nil, []string{"", `{"event":"pusher_internal:watchlist_events",` +
				`"data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"a\\\"b\"]}]}"}`},
			maxWatched},
		{`{"id":"1","watchlist":[` + strings.Join(many, ",") + `]}`, []string{"1"},
			[]string{"2", "3"}, []string{"",
				`{"event":"pusher:error","data":{"code":4302,"message":"Watchlist limit ` +
					`exceeded. Only the first 100 user IDs are accepted."}}`,
				`{"event":"pusher_internal:watchlist_events","data":"{\"events\":[` +
					`{\"name\":\"online\",\"user_ids\":[\"1\"]},` +
					`{\"name\":\"offline\",\"user_ids\":[\"2\",\"3\"]}]}"}`}, maxWatched},
	} {
		u, bad := keys.SignIn(signIn(keys, id, c.userData), id, nil)
		if bad != nil || len(u.Watchlist) != c.watched {
			t.Fatalf("%s: got %+v, %+v", c.userData, u, bad)
		}
		got := u.Greeting(c.online, c.offline)
		if len(got) != len(c.want) {
			t.Fatalf("%s: got %q", c.userData, got)
		}
		for i, want := range c.want {
			if want != "" && string(got[i]) != want {
				t.Errorf("%s: got %s, want %s", c.userData, got[i], want)
			}
		}
	}
}

// The subscription to a user's channel is refused to everybody else, and a presence channel takes
// the signed-in user if no channel_data came.
func TestJudgeUser(t *testing.T) {
	keys, id := &Credentials{Key: "app-key", Secret: "app-secret"}, SocketID{1, 2}
	as := &Member{ID: "7", Info: []byte(`{"name":"Ada"}`)}
	auth := keys.Key + ":" + Sign(keys.Secret, "1.2:presence-x")
	other := `{"user_id":"8"}`
	both := keys.Key + ":" + Sign(keys.Secret, "1.2:presence-x:"+other)
	for _, c := range []struct {
		channel, auth, data string
		as                  *Member
		max                 int
		bad                 *Error
		member              string
	}{
		{channel: "#server-to-user-7", as: as},
		{channel: "#server-to-user-7", bad: errUnauthorized},
		{channel: "#server-to-user-8", as: as, bad: errUnauthorized},
		{channel: "#server-to-user-", as: as, bad: errChannelName},
		{channel: "#other", as: as, bad: errChannelName},
		{channel: "presence-x", auth: auth, as: as, member: "7"},
		{channel: "presence-x", auth: auth, as: as, max: 15, member: "7"},
		{channel: "presence-x", auth: auth, as: as, max: 14, bad: errMemberSize},
		{channel: "presence-x", auth: auth, bad: errChannelData},
		{channel: "presence-x", auth: both, data: other, as: as, member: "8"},
		{channel: "presence-x", auth: both, as: as, bad: errUnauthorized},
		{channel: "private-x", auth: keys.Key + ":" + Sign(keys.Secret, "1.2:private-x"), as: as},
	} {
		d := Subscription{Channel: c.channel, Auth: c.auth}
		if c.data != "" {
			d.ChannelData = []byte(c.data)
		}
		name, m, bad, reason := d.Judge(keys, id, c.as, c.max)
		member := ""
		if m != nil && bad == nil {
			member = m.ID
		}
		if bad != c.bad || member != c.member || bad != nil && reason == "" ||
			bad == nil && name.String() != c.channel {
			t.Errorf("%+v: got %v, %v, %+v, %s", c, name, m, bad, reason)
		}
	}
}

func TestUserChannel(t *testing.T) {
	long := strings.Repeat("x", maxUserBytes)
	for _, id := range []string{"7", "a@b.c", "é :", long} {
		name := UserChannel(id)
		if got, err := ParseName(name.String()); err != nil || got != name || !name.Kind().User ||
			name.Kind().Reserved || name.Kind().Signed() || name.Kind().Index() != Kinds-1 {
			t.Errorf("%q: got %+v, %v, want %+v", id, got, err, name)
		}
	}
	for _, name := range []string{"#server-to-user-", "#server-to-user-" + long + "x", "#x", "#"} {
		if got, err := ParseName(name); err == nil {
			t.Errorf("%q: got %+v", name, got)
		}
	}
	if got, err := parseTarget("#other"); err != nil || !got.Kind().Reserved || got.Kind().User {
		t.Errorf("got %+v, %v", got, err)
	}
}

// FuzzSignIn signs a client in with any user_data, and checks what it is told.
func FuzzSignIn(f *testing.F) {
	keys, id := &Credentials{Key: "app-key", Secret: "app-secret"}, SocketID{1, 2}
	for _, s := range []string{`{"id":7}`, `{"id":"7","user_info":{"a":[]},"watchlist":["1",2]}`,
		`{"id":"\ud83d"}`, `{"id":1e9}`, `[]`, `{"id":"1","id":2}`, ` { "id" : -0 } `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, userData string) {
		if !utf8.ValidString(userData) {
			return
		}
		if jsonraw.Check([]byte(userData)) == nil { // as ParseEvent has checked the data
			keys.SignIn([]byte(userData), id, nil) // it is not signed; it must not panic
		}
		u, bad := keys.SignIn(signIn(keys, id, userData), id, nil)
		if bad != nil {
			return
		}
		if u.ID == "" || len(u.ID) > maxUserBytes || len(u.Watchlist) > maxWatched {
			t.Fatalf("%q gave %+v", userData, u)
		}
		// a client reads the same ID, as a string, and everything else as it was
		var back struct{ ID any }
		if err := json.Unmarshal(u.echo, &back); err != nil {
			t.Fatalf("%q is echoed as %q: %v", userData, u.echo, err)
		}
		if len(u.echo) != len(userData) && len(u.echo) != len(userData)+2 {
			t.Fatalf("%q is echoed as %q", userData, u.echo)
		}
		for _, m := range u.Greeting(u.Watchlist, u.Watchlist) {
			if _, err := ParseEvent(m); err != nil {
				t.Fatalf("%q: %v", m, err)
			}
		}
		if !bytes.Contains(u.Greeting(nil, nil)[0], []byte("pusher:signin_success")) {
			t.Fatal("no success")
		}
		name := UserChannel(u.ID)
		if got, err := ParseName(name.String()); err != nil || got != name {
			t.Fatalf("the channel of %q is %+v, %v", u.ID, got, err)
		}
	})
}
