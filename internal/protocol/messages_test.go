package protocol

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzEvent(f *testing.F) {
	for _, s := range []string{`{"event":"client-x","channel":"c","data":{"a":1.0}}`,
		`{"event":"pusher:subscribe","data":"{\"channel\":\"c\"}"}`,
		`{"event":"pusher:subscribe","data":{"channel":"presence-c","auth":"a:b",` +
			`"channel_data":"{\"user_id\":1}"}}`, `[]`,
		`{"event":"pusher:ping","data":""}`, `{"event":"pusher:subscribe","data":""}`,
		`{"event":"pusher:unsubscribe","data":-0}`,
		`{"event":"pusher:pong","data":0.0}`, `{"event":"pusher:subscribe","data":"\"\""}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) {
			return
		}
		e, err := ParseEvent(b)
		if err != nil {
			return
		}
		if d, ok := ParseSubscription(e.Data); ok {
			if _, err := ParseName(d.Channel); err == nil && len(d.Channel) > maxNameBytes {
				t.Fatal("a long name was accepted")
			}
			parseMember(d.ChannelData)
			if m, bad, _ := parsePresent(d.ChannelData); (m == nil) == (bad == nil) ||
				bad == nil && (m.ID == "" || len(m.ID) > maxUserIDBytes) {
				t.Fatalf("%q gave %+v, %+v", d.ChannelData, m, bad)
			}
		}
		if e.Data != nil {
			out := AppendEvent(nil, e.Name, e.Data, string(e.Channel), "")
			back, err := ParseEvent(out)
			if err != nil || !bytes.Equal(back.Name, e.Name) ||
				!bytes.Equal(back.Channel, e.Channel) || !bytes.Equal(back.Data, e.Data) {
				t.Fatalf("%q came back as %+v, %v", out, back, err)
			}
		}
		if s := WithoutAuth(b); strings.Contains(string(b), "auth-must-not-show") &&
			string(e.Name) == "pusher:subscribe" && strings.Contains(s, "auth-must-not-show") {
			t.Fatalf("got %q", s)
		}
	})
}

// Judge tells the first cause, and no secret and no right signature with it.
func TestJudge(t *testing.T) {
	keys, id := &Credentials{ID: "app-id", Key: "app-key", Secret: "app-secret"}, SocketID{1, 2}
	with := func(secret, text string) string { return "app-key:" + Sign(secret, id.String()+text) }
	right := func(channel, data string) string { return with("app-secret", ":"+channel+":"+data) }
	const user = `{"user_id":"1"}`
	for _, c := range []struct {
		channel, auth, data, badData string
		bad                          *Error
		reason                       string // a part of it
	}{
		{"a b", "", "", "bad", errChannelName, "cannot stand in a channel name"},
		{"x", "", "", "", nil, ""},
		{"x", "wrong", user, "", nil, ""}, // no signature covers a user there
		{"x", "", "", "bad", ErrFormat, ""},
		{"private-x", "", "", "", errUnauthorized, "no auth was given"},
		{"private-x", "app-key", "", "", errUnauthorized, "auth must be the app's key, a colon " +
			"and a signature"},
		{"private-x", "other:" + Sign("app-secret", "1.2:private-x"), "", "", errUnauthorized,
			`auth is for the key "other", this app's is "app-key"`},
		{"private-x", "app-secret:00", "", "", errUnauthorized,
			`auth is not for this app's key "app-key"`},
		{"private-x", "app-key:XY", "", "bad", errUnauthorized,
			"the signature must have 64 hexadecimal digits"},
		{"private-x", with("wrong", ":private-x"), "", "", errUnauthorized,
			"made with another secret, or over another socket_id or channel"},
		{"private-x", with("app-secret", ":private-x"), "", "", nil, ""},
		{"private-x", with("app-secret", ":private-x"), "", "bad", errDataFormat, "bad"},
		{"private-x", right("private-x", user), user, "", nil, "1"},
		// the bound is that of presence channels
		{"private-x", right("private-x", user+" "), user + " ", "", nil, "1"},
		{"presence-x", with("app-secret", ":presence-x"), user, "", errUnauthorized,
			"the signature was made without channel_data"},
		{"presence-x", right("presence-x", "{}"), user, "", errUnauthorized,
			"with another secret, or over another socket_id, channel or channel_data"},
		{"presence-x", right("presence-x", user), "", "", errUnauthorized,
			"channel_data is missing"},
		{"presence-x", with("app-secret", ":presence-x"), "", "", errChannelData,
			"none was sent, and the client is not signed in (pusher:signin); a presence channel"},
		{"presence-x", right("presence-x", "{}"), "{}", "", errChannelData,
			"user_id must be a number or a string"},
		{"presence-x", right("presence-x", user), user, "bad", errDataFormat, "bad"},
		{"presence-x", right("presence-x", user), user, "", nil, "1"},
		{"presence-x", right("presence-x", user+" "), user + " ", "", errMemberSize,
			"it has 16 bytes, 15 are allowed"},
	} {
		d := Subscription{Channel: c.channel, Auth: c.auth, BadData: c.badData}
		if c.data != "" {
			d.ChannelData = []byte(c.data)
		}
		name, m, bad, reason := d.Judge(keys, id, nil, len(user))
		if m != nil && bad == nil {
			reason = m.ID
		}
		if bad != c.bad || !strings.Contains(reason, c.reason) || c.reason == "" && reason != "" ||
			bad != errChannelName && name.String() != c.channel {
			t.Errorf("%+v: got %v, %v, %+v, %s", c, name, m, bad, reason)
		}
		for _, secret := range []string{"app-secret", Sign("app-secret", "1.2:"+c.channel),
			Sign("app-secret", "1.2:"+c.channel+":"+c.data)} {
			if strings.Contains(reason, secret) {
				t.Errorf("%s is shown in %s", secret, reason)
			}
		}
	}
	d := Subscription{Channel: "presence-x", ChannelData: []byte(user),
		Auth: right("presence-x", user)}
	if _, _, bad, _ := d.Judge(keys, id, nil, 0); bad != nil {
		t.Errorf("got %v without a bound", bad.Message)
	}
}

func TestTraceHidesSignatures(t *testing.T) {
	for _, message := range []string{
		`{"event":"pusher:subscribe","data":{"channel":"private-x","auth":"key:SECRET"}}`,
		`{"event":"pusher:subscribe","data":"{\"channel\":\"private-x\",\"auth\":\"key:SECRET\"}"}`,
		`{"event":"pusher:signin","data":{"auth":"key:SECRET","user_data":"{\"id\":\"1\"}"}}`,
		`{"event":"pusher:subscribe","data":{"channel":"private-x","auth":"key:SECRET"}`,
		`{"\u0065vent":"pusher:signin","data":{"\u0061uth":"key:SECRET"}}`,
	} {
		if s := WithoutAuth([]byte(message)); strings.Contains(s, "SECRET") {
			t.Errorf("%s is shown as %s", message, s)
		}
	}
	if s := WithoutAuth(
		[]byte(`{"event":"client-x","channel":"c","data":{"author":"x"}}`)); !strings.Contains(s,
		"author") {
		t.Errorf("got %s", s)
	}
}

// BenchmarkMessages measures the messages of clients: an event is read, a subscription's signature
// is checked.
func BenchmarkMessages(b *testing.B) {
	message := AppendEvent(nil, "client-typing", []byte(`"`+strings.Repeat("x", 200)+`"`), "news",
		"")
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if e, err := ParseEvent(message); err != nil || string(e.Name) != "client-typing" {
				b.Fatal(err)
			}
		}
	})
	keys, auth := Credentials{ID: "app-id", Key: "app-key", Secret: "app-secret",
		Signers: new(Signers)}, "app-key:"+Sign("app-secret", "1.2:private-news")
	b.Run("signature", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !keys.checkChannel("1.2", "private-news", nil, auth) {
				b.Fatal("a right signature is refused")
			}
		}
	})
}
