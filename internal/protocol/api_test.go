package protocol

import (
	"strings"
	"testing"

	"reverb/internal/jsonraw"
)

func FuzzAPIEvent(f *testing.F) {
	for _, s := range []string{`{"name":"e","data":"x","channels":["a","b"],"socket_id":"1.2","info":"user_count"}`,
		`{"batch":[{"name":"e","data":"x","channel":"a"}]}`, `{"name":1,"channels":{}}`, `{"name":"e","data":"x","channel":"#server-to-user-1"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		judge := func(events []Publish, bad *Problem) {
			if bad != nil {
				if body, isJSON := bad.Body(); bad.Status < 400 || bad.Line() == "" || strings.ContainsAny(bad.Line(), "\r\n") || isJSON && jsonraw.Check(body) != nil {
					t.Fatalf("%q is answered with %+v", b, bad)
				}
				return
			}
			for _, p := range events {
				if len(p.Channels) == 0 || len(p.Data) == 0 || len(p.Name) == 0 || p.Check() != nil {
					t.Fatalf("%q gave %+v", b, p)
				}
				for _, name := range p.Channels {
					if _, err := ParseName(name.String()); (err == nil) == name.Reserved() || strings.HasPrefix(name.String(), "#") != name.Reserved() {
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
