package test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pusher/pusher-http-go/v5"
)

// TestGoLibrary drives the HTTP API with Pusher's library for Go.
func TestGoLibrary(t *testing.T) {
	s := start(t, oneApp()...)
	p := publisher(s.addr)
	p.EncryptionMasterKeyBase64 = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
	sub := func(channel, user string) *rawConn {
		c := dial(t, s.addr, "")
		t.Cleanup(func() { c.nc.Close() })
		go c.readLoop()
		c.nextText(t, "connection_established")
		params := []byte("socket_id=" + c.sid + "&channel_name=" + channel)
		var auth []byte
		var err error
		switch {
		case user != "":
			auth, err = p.AuthorizePresenceChannel(params, pusher.MemberData{UserID: user, UserInfo: map[string]string{"name": user}})
		case strings.HasPrefix(channel, "private-"):
			auth, err = p.AuthorizePrivateChannel(params)
		default:
			auth = []byte(`{"auth":""}`)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.send(fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":%q,%s`, channel, strings.TrimPrefix(string(auth), "{")+"}"))
		c.nextText(t, "subscription_succeeded")
		return c
	}
	public, private, encrypted := sub("news", ""), sub("private-news", ""), sub("private-encrypted-news", "")
	presence := sub("presence-news", "ann")
	all := []*rawConn{public, private, encrypted, presence}
	for i, channel := range []string{"news", "private-news", "private-encrypted-news", "presence-news"} {
		if err := p.Trigger(channel, "event", map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{\"n\":%d}`, i)
		if channel == "private-encrypted-news" {
			want = "ciphertext"
		}
		all[i].nextText(t, want)
	}
	if err := p.TriggerMulti([]string{"news", "private-news"}, "multi", "x"); err != nil {
		t.Fatal(err)
	}
	public.nextText(t, "multi")
	private.nextText(t, "multi")
	if _, err := p.TriggerWithParams("news", "not-to-me", "x", pusher.TriggerParams{SocketID: &public.sid}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.TriggerBatch([]pusher.Event{{Channel: "news", Name: "batch1", Data: "x", Info: new("subscription_count")}, {Channel: "presence-news", Name: "batch2", Data: "y"}}); err != nil {
		t.Fatal(err)
	}
	if got := public.nextText(t, `"event"`); !strings.Contains(got, "batch1") {
		t.Errorf("got %s, want batch1", got)
	}
	presence.nextText(t, "batch2")
	if err := p.SendToUser("ann", "e", "x"); err != nil {
		t.Fatal(err)
	}
	channels, err := p.Channels(pusher.ChannelsParams{FilterByPrefix: new("presence-"), Info: new("user_count")})
	if err != nil || len(channels.Channels) != 1 || channels.Channels["presence-news"].UserCount != 1 {
		t.Errorf("got %+v, %v", channels, err)
	}
	channel, err := p.Channel("news", pusher.ChannelParams{Info: new("subscription_count")})
	if err != nil || !channel.Occupied || channel.SubscriptionCount != 1 {
		t.Errorf("got %+v, %v", channel, err)
	}
	users, err := p.GetChannelUsers("presence-news")
	if err != nil || len(users.List) != 1 || users.List[0].ID != "ann" {
		t.Errorf("got %+v, %v", users, err)
	}
	// Again as another user: a number is a string.
	sub("presence-news", "bob").nc.Close()
	presence.nextText(t, "member_added")
	presence.nextText(t, "member_removed")
	wrong := publisher(s.addr)
	wrong.Secret = "wrong"
	if err := wrong.Trigger("news", "e", "x"); err == nil || !strings.Contains(err.Error(), "REVERB_APP_SECRET") {
		t.Errorf("got %v, want a hint at REVERB_APP_SECRET", err)
	}
}

// TestReadmeCommands runs what the README tells a stranger without Laravel to run.
func TestReadmeCommands(t *testing.T) {
	home := t.TempDir()
	env := []string{"HOME=" + home, "REVERB_SERVER_PORT=0", "REVERB_ENV_FILE=/dev/null", "REVERB_SHUTDOWN_GRACE=0"}
	// The port must be known to the second terminal, so it is chosen beforehand.
	probe := start(t, oneApp()...)
	port := probe.addr[strings.LastIndexByte(probe.addr, ':')+1:]
	probe.stop()
	env[1] = "REVERB_SERVER_PORT=" + port
	serve := exec.Command(program, "start", "--dev")
	serve.Env = env
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { serve.Process.Kill(); serve.Wait() }()
	run := func(args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for begin := time.Now(); ; {
		if _, err := run("health", "--dev"); err == nil {
			break
		} else if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
	listen := exec.Command(program, "listen", "--dev", "my-channel", "private-encrypted-x", "presence-x")
	listen.Env = env
	stdout, err := listen.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { listen.Process.Kill(); listen.Wait() }()
	read := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		for n := 0; n < len(b); {
			k, err := stdout.Read(b[n:])
			if n += k; err != nil || string(b[:n]) != want[:n] {
				t.Fatalf("got %q, %v, want %q", b[:n], err, want)
			}
		}
	}
	read("listening on my-channel\nlistening on private-encrypted-x\nlistening on presence-x\n")
	if out, err := run("trigger", "--dev", "my-channel", "my-event", `{"hello":"world"}`); err != nil || out != "sent my-event to my-channel\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	read("my-channel my-event {\"hello\":\"world\"}\n")
}
