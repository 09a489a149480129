package protocol

import (
	"strconv"
	"strings"
	"testing"

	"reverb/internal/lib/jsonraw"
)

func FuzzAPIEvent(f *testing.F) {
	for _, s := range []string{
		`{"name":"e","data":"x","channels":["a","b"],"socket_id":"1.2","info":"user_count"}`,
		`{"batch":[{"name":"e","data":"x","channel":"a"}]}`, `{"name":1,"channels":{}}`,
		`{"name":"e","data":"x","channel":"#server-to-user-1"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		judge := func(events []Publish, bad *Problem) {
			if bad != nil {
				if body, isJSON := bad.Body(); bad.Status < 400 || bad.Line() == "" ||
					strings.ContainsAny(bad.Line(), "\r\n") ||
					isJSON && jsonraw.Check(body) != nil {
					t.Fatalf("%q is answered with %+v", b, bad)
				}
				return
			}
			for _, p := range events {
				if len(p.Channels) == 0 || len(p.Data) == 0 || len(p.Name) == 0 ||
					p.Check() != nil {
					t.Fatalf("%q gave %+v", b, p)
				}
				for _, name := range p.Channels {
					if _, err := ParseName(name.String()); (err == nil) == name.Kind().Reserved ||
						strings.HasPrefix(name.String(), "#") !=
							(name.Kind().Reserved || name.Kind().User) {
						t.Fatalf("%q gave the channel %q", b, name)
					}
				}
			}
		}
		p, bad := ParsePublish(b)
		judge([]Publish{p}, bad)
		events, bad := ParseBatch(b)
		judge(events, bad)
		for _, p := range events {
			if len(p.Channels) != 1 {
				t.Fatalf("%q gave %+v", b, p)
			}
		}
	})
}

// Bodies are judged as Laravel's validator judges them, and then as channels and events
// are named.
func TestPublishBodies(t *testing.T) {
	for body, want := range map[string]string{
		`{"name":"e","data":"x","channel":"c"}`: "",
		`{"name":"e","data":"x","channels":["c","#server-to-user-1"],"socket_id":"unknown",` +
			`"info":"a,b"}`: "",
		`{"name":"e","data":"x","channels":{"a":"c"},"channel":""}`: "",
		`{"name":"e","data":"x","channels":[5,true]}`:               "",
		"": `422 {"name":["The name field is required."],"data":["The data field is ` +
			`required."],"channels":["The channels field is required when channel is not ` +
			`present."],"channel":["The channel field is required when channels is not present."]}`,
		"[]": `422 {"name":["The name field is required."],"data":["The data field is ` +
			`required."],"channels":["The channels field is required when channel is not ` +
			`present."],"channel":["The channel field is required when channels is not present."]}`,
		"{": "400 Bad request: the body is not JSON: " +
			"invalid JSON at byte 1: it ends too early.",
		"\xff": "400 Bad " +
			"request: the body is not UTF-8.",
		`{"name":" ","data":"\n","channel":"c"}`: `422 {"name":["The name ` +
			`field is required."],"data":["The data field is required."]}`,
		`{"name":5,"data":{"a":1},"channel":5}`: `422 {"name":["The name ` +
			`field must be a string."],"data":["The data field must be a string."],` +
			`"channel":["The channel field must be a string."]}`,
		`{"name":"e","data":"x","channels":"c"}`: `422 {"channels":["The ` +
			`channels field must be an array."]}`,
		`{"name":"e","data":"x","channels":[[]]}`: `422 {"channels":["The ` +
			`channels field must be an array of strings."]}`,
		`{"name":"e","data":"x","channel":"c","socket_id":5,"info":[]}`: `422 {"socket_id":["The ` +
			`socket id field must be a string."],"info":["The info field must be a string."]}`,
		`{"name":"\ud83d","data":"x","channel":"c"}`: `422 {"name":["The name field must not ` +
			`hold half of a surrogate pair."]}`,
		`{"name":"e","data":"x","channel":"a b"}`: `400 Bad request: channel "a b": " " cannot ` +
			`stand in a channel name; letters, digits and _ - = @ , . ; can.`,
		`{"name":"e","data":"x","channel":"#"}`: `400 Bad request: channel "#": a channel name ` +
			`has 1 to 200 bytes, this one 0.`,
		`{"name":"e","data":"x","channels":["c` + strings.Repeat(`","c`, 100) +
			`"]}`: "400 Bad request: the event is for 101 channels; 100 are allowed.",
		`{"name":"` + strings.Repeat("e", 201) + `","data":"x","channel":"c"}`: "400 Bad " +
			"request: the event's name has 201 bytes; 200 are allowed.",
	} {
		p, bad := ParsePublish([]byte(body))
		if got := answer(bad); got != want {
			t.Errorf("%.80q: got %s, want %s", body, got, want)
		}
		if bad == nil && (len(p.Name) != 1 || string(p.Data) != `"x"` || len(p.Channels) == 0) {
			t.Errorf("%s: got %+v", body, p)
		}
	}
	p, _ := ParsePublish(
		[]byte(`{"name":"e","data":"x","channels":["presence-c","#x"],"socket_id":"1.2",` +
			`"info":"a,b"}`))
	if p.Except != (SocketID{1, 2}) || !p.Channels[0].Kind().Presence ||
		!p.Channels[1].Kind().Reserved || p.Channels[1].Kind() != (Kind{Reserved: true}) ||
		strings.Join(p.Info, "|") != "a|b" {
		t.Errorf("got %+v", p)
	}
}

func TestBatchBodies(t *testing.T) {
	one := `{"name":"e","data":"x","channel":"c"}`
	for body, want := range map[string]string{
		`{"batch":[` + one + `]}`:     "",
		`{"batch":{"a":` + one + `}}`: "",
		`{"batch":[{"name":"e","data":"x","channel":"c","channels":[[1]]}]}`: "",
		"":              `422 {"batch":["The batch field is required."]}`,
		`{"batch":[]}`:  `422 {"batch":["The batch field is required."]}`,
		`{"batch":"x"}`: `422 {"batch":["The batch field must be an array."]}`,
		`{"batch":5}`:   `422 {"batch":["The batch field must be an array."]}`,
		`{`: "400 Bad request: the body is not JSON: invalid JSON at byte 1: it ends " +
			"too early.",
		"\xff": "400 Bad request: the body is not UTF-8.",
		`{"batch":[` + one +
			`,{"name":"e","channel":5}]}`: `422 {"batch.1.data":["The batch.1.data field is ` +
			`required."],"batch.1.channel":["The batch.1.channel field must be a string."]}`,
		`{"batch":[{"name":"e","data":"x","channels":["c"]}]}`: `422 {"batch.0.channel":["The ` +
			`batch.0.channel field is required when channels is not present."]}`,
		`{"batch":[{"name":"e","data":"x","channel":"a b"}]}`: `400 Bad request: channel "a b": ` +
			`" " cannot stand in a channel name; letters, digits and _ - = @ , . ; can.`,
		`{"batch":[` + one + strings.Repeat(","+one, maxBatch) +
			`]}`: "400 Bad request: the batch has 11 events; 10 are allowed.",
	} {
		events, bad := ParseBatch([]byte(body))
		if got := answer(bad); got != want {
			t.Errorf("%.80q: got %s, want %s", body, got, want)
		}
		if bad == nil && (len(events) != 1 || len(events[0].Channels) != 1 ||
			events[0].Channels[0].String() != "c") {
			t.Errorf("%s: got %+v", body, events)
		}
	}
}

// answer is a problem in one line.
func answer(p *Problem) string {
	if p == nil {
		return ""
	}
	body, _ := p.Body()
	return strconv.Itoa(p.Status) + " " + string(body)
}
