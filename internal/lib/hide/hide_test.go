package hide

import (
	"encoding/json"
	"strings"
	"testing"
)

var secrets = Keys{"auth", "ticket", "tickets", "shared_secret", "user_data"}

func TestMask(t *testing.T) {
	for _, tt := range [][2]string{
		{`{"event":"pusher:subscribe","data":{"channel":"private-a","auth":"k:s"}}`,
			`{"event":"pusher:subscribe","data":{"channel":"private-a","auth":"********"}}`},
		{`{"data":"{\"auth\":\"k:s\",\"channel_data\":\"{\\\"user_id\\\":1}\"}"}`,
			`{"data":"{\"auth\":\"********\",\"channel_data\":\"{\\\"user_id\\\":1}\"}"}`},
		{`{ "\u0061uth" : [1], "Shared_Secret":"x", "a":[{"user_data":"u"},2]}`,
			`{"auth":"********","Shared_Secret":"********","a":[{"user_data":"********"},2]}`},
		{`{"data":"{\"ticket\":\"t\""}`, `{"data":"********"}`},
		{`{"data":"{\"\\u0061uth\":\"t\""}`, `{"data":"********"}`},
		{`{"data":"{broken"}`, `{"data":"{broken"}`},
		{`{"data":"\"{\\\"tickets\\\":[1]}\""}`,
			`{"data":"\"{\\\"tickets\\\":\\\"********\\\"}\""}`},
		{`nonsense with auth`, ``},
		{"{\"auth\":\"\xff\"}", ``},
		{`[[]]`, `[[]]`},
		{` 12 `, `12`},
	} {
		if got, ok := secrets.JSON([]byte(tt[0])); got != tt[1] || ok != (got != "") {
			t.Errorf("%s: got %s, want %s", tt[0], got, tt[1])
		}
	}
	deep := strings.Repeat("[", 400) + strings.Repeat("]", 400)
	if got, _ := secrets.JSON([]byte(deep)); !strings.Contains(got, "********") {
		t.Errorf("got %s", got)
	}
}

// FuzzMask holds that what a secret holds is never shown, however it is wrapped.
func FuzzMask(f *testing.F) {
	f.Add("auth", uint8(2), "x")
	f.Add("TICKETS", uint8(9), `"}`)
	f.Fuzz(func(t *testing.T, key string, wraps uint8, beside string) {
		const secret = "s3cr3t-0123456789"
		if !secrets.has(key) {
			key = "user_data"
		}
		b, err := json.Marshal(map[string]any{key: secret, "beside": beside})
		if err != nil {
			return
		}
		for i := range wraps % 12 {
			var v any = json.RawMessage(b)
			if i%2 == 0 {
				v = string(b)
			}
			b, _ = json.Marshal(map[string]any{"data": v})
			if len(b) > 1<<16 {
				return
			}
		}
		got, _ := secrets.JSON(b)
		if strings.Contains(got, secret) && !strings.Contains(beside, secret) {
			t.Fatalf("%s: got %s", b, got)
		}
	})
}
