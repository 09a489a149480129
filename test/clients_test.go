package test

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"
)

// TestJavaScriptClients runs the tests of the clients that are written in
// JavaScript, in Node and in Chromium.
func TestJavaScriptClients(t *testing.T) {
	needNode(t)
	cmd := command("npm", "test", "--silent")
	cmd.Env = append(os.Environ(), "REVERB_BINARY="+program)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range regexp.MustCompile(`(?m)^# (tests|pass|fail|skipped) \d+`).FindAllString(
		string(out), -1) {
		t.Log(line)
	}
}

// pythonClient behaves like the usual Python client, deepbrook/Pysher: it sends a ping at once,
// answers pings, and obeys the code of a pusher:error. When it has a pong and one event of its
// channel, or has given up, it returns how often it has connected.
func pythonClient(t *testing.T, addr string, publish func()) (connections int) {
	for connections < 10 {
		connections++
		c := dial(t, addr, "")
		c.send(`{"event":"pusher:ping","data":""}`)
		go c.readLoop()
		code := c.talk(t, publish)
		c.nc.Close()
		if code < 4200 || code > 4299 { // 4200 to 4299: reconnect at once
			return connections
		}
	}
	return connections
}

// talk reads until it has a pong and an event, and returns 0, or until the server sends a code that
// a client obeys, and returns the code.
func (c *rawConn) talk(t *testing.T, publish func()) (code int) {
	var pong, event bool
	for !pong || !event {
		e := c.next()
		text, _ := e["text"].(string)
		var m struct {
			Event string
			Data  json.RawMessage
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil && e["handshake"] == nil {
			t.Fatalf("got %v, no message", e)
		}
		switch m.Event {
		case "pusher:connection_established":
			c.send(`{"event":"pusher:subscribe","data":{"channel":"news"}}`)
		case "pusher_internal:subscription_succeeded":
			publish()
		case "pusher:pong":
			pong = true
		case "pusher:ping":
			c.send(`{"event":"pusher:pong","data":""}`)
		case "pusher:error":
			var data struct{ Code int }
			json.Unmarshal(m.Data, &data)
			t.Logf("the server sent %s", text)
			if data.Code >= 4000 && data.Code <= 4299 {
				return data.Code
			}
		case "hello":
			event = true
		}
	}
	return 0
}

func TestPythonClient(t *testing.T) {
	s := start(t, oneApp()...)
	events := 0
	n := pythonClient(t, s.addr, func() {
		events++
		if err := publisher(s.addr).Trigger("news", "hello", "x"); err != nil {
			t.Error(err)
		}
	})
	if n != 1 || events != 1 {
		t.Errorf("got %d connections and %d subscriptions, want 1 and 1", n, events)
	}
}
