package test

import (
	"os"
	"testing"
)

// TestStatusPage opens the page in Chromium, watches a channel and publishes on it.
func TestStatusPage(t *testing.T) {
	needNode(t)
	s := start(t, append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0")...)
	for range 3 {
		c := dial(t, s.addr, "")
		t.Cleanup(func() { c.nc.Close() })
		go c.readLoop()
		id := c.nextText(t, "connection_established")
		socket := socketIDIn(t, id)
		c.send(`{"event":"pusher:subscribe","data":{"channel":"private-news","auth":"app-key:` +
			recordedApp("main").sign(socket+":private-news") + `"}}`)
		c.nextText(t, "subscription_succeeded")
	}
	cmd := command("node", "--test", "--test-force-exit", "clients/status.browser.mjs")
	cmd.Env = append(os.Environ(), "REVERB_ADMIN=http://"+adminAddr(t, s))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
