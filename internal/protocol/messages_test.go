package protocol

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzEvent(f *testing.F) {
	for _, s := range []string{`{"event":"client-x","channel":"c","data":{"a":1.0}}`, `{"event":"pusher:subscribe","data":"{\"channel\":\"c\"}"}`,
		`{"event":"pusher:subscribe","data":{"channel":"presence-c","auth":"a:b","channel_data":"{\"user_id\":1}"}}`, `[]`,
		`{"event":"pusher:ping","data":""}`, `{"event":"pusher:subscribe","data":""}`, `{"event":"pusher:unsubscribe","data":-0}`,
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
			if _, err := ParseName(d.Channel); err == nil && len(d.Channel) > MaxNameBytes {
				t.Fatal("a long name was accepted")
			}
			ParseMember(d.ChannelData)
			if m, bad, _ := ParsePresent(d.ChannelData); (m == nil) == (bad == nil) || bad == nil && (m.ID == "" || len(m.ID) > MaxUserIDBytes) {
				t.Fatalf("%q gave %+v, %+v", d.ChannelData, m, bad)
			}
		}
		if e.Data != nil {
			out := AppendEvent(nil, e.Name, e.Data, string(e.Channel), "")
			back, err := ParseEvent(out)
			if err != nil || !bytes.Equal(back.Name, e.Name) || !bytes.Equal(back.Channel, e.Channel) || !bytes.Equal(back.Data, e.Data) {
				t.Fatalf("%q came back as %+v, %v", out, back, err)
			}
		}
		if s := WithoutAuth(b); strings.Contains(string(b), "auth-must-not-show") && string(e.Name) == "pusher:subscribe" && strings.Contains(s, "auth-must-not-show") {
			t.Fatalf("got %q", s)
		}
	})
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
	if s := WithoutAuth([]byte(`{"event":"client-x","channel":"c","data":{"author":"x"}}`)); !strings.Contains(s, "author") {
		t.Errorf("got %s", s)
	}
}

// BenchmarkMessages is what the messages of clients cost: an event is read, a subscription's
// signature is checked.
func BenchmarkMessages(b *testing.B) {
	message := AppendEvent(nil, "client-typing", []byte(`"`+strings.Repeat("x", 200)+`"`), "news", "")
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if e, err := ParseEvent(message); err != nil || string(e.Name) != "client-typing" {
				b.Fatal(err)
			}
		}
	})
	keys, auth := Credentials{ID: "app-id", Key: "app-key", Secret: "app-secret", Signers: new(Signers)}, "app-key:"+Sign("app-secret", "1.2:private-news")
	b.Run("signature", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !keys.CheckChannel("1.2", "private-news", nil, auth) {
				b.Fatal("a right signature is refused")
			}
		}
	})
}
