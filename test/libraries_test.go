package test

//lint:file-ignore SA1019 the tests call every method of the library, also deprecated ones

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
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
			auth, err = p.AuthorizePresenceChannel(params,
				pusher.MemberData{UserID: user, UserInfo: map[string]string{"name": user}})
		case strings.HasPrefix(channel, "private-"):
			auth, err = p.AuthorizePrivateChannel(params)
		default:
			auth = []byte(`{"auth":""}`)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.send(fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":%q,%s`, channel,
			strings.TrimPrefix(string(auth), "{")+"}"))
		c.nextText(t, "subscription_succeeded")
		return c
	}
	public, private, encrypted := sub("news", ""), sub("private-news", ""),
		sub("private-encrypted-news", "")
	presence := sub("presence-news", "ann")
	all := []*rawConn{public, private, encrypted, presence}
	for i, channel := range []string{"news", "private-news", "private-encrypted-news",
		"presence-news"} {
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
	if _, err := p.TriggerWithParams("news", "not-to-me", "x",
		pusher.TriggerParams{SocketID: &public.sid}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.TriggerBatch([]pusher.Event{{Channel: "news", Name: "batch1", Data: "x",
		Info: new("subscription_count")},
		{Channel: "presence-news", Name: "batch2", Data: "y"}}); err != nil {
		t.Fatal(err)
	}
	if got := public.nextText(t, `"event"`); !strings.Contains(got, "batch1") {
		t.Errorf("got %s, want batch1", got)
	}
	presence.nextText(t, "batch2")
	if err := p.SendToUser("ann", "e", "x"); err != nil {
		t.Fatal(err)
	}
	channels, err := p.Channels(pusher.ChannelsParams{FilterByPrefix: new("presence-"),
		Info: new("user_count")})
	if err != nil || len(channels.Channels) != 1 ||
		channels.Channels["presence-news"].UserCount != 1 {
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
	if err := wrong.Trigger("news", "e", "x"); err == nil ||
		!strings.Contains(err.Error(), "REVERB_APP_SECRET") {
		t.Errorf("got %v, want a hint at REVERB_APP_SECRET", err)
	}
}

// TestGoLibraryMethods calls every public method of Pusher's library for Go while no client is
// connected.
func TestGoLibraryMethods(t *testing.T) {
	s := start(t, oneApp()...)
	p := publisher(s.addr)
	p.EncryptionMasterKeyBase64 = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
	counts, names, id := new("user_count,subscription_count"),
		[]string{"nobody", "presence-nobody"}, "1.2"
	form := func(channel string) []byte { return []byte("socket_id=1.2&channel_name=" + channel) }
	member := pusher.MemberData{UserID: "1"}
	check := func(got any, err error, want string) error {
		if b, _ := json.Marshal(got); err != nil || string(b) != want {
			return fmt.Errorf("got %s, %v, want %s", b, err, want)
		}
		return nil
	}
	signed := func(b []byte, err error) error {
		if err != nil || !bytes.Contains(b, []byte(`"auth":"app-key:`)) {
			return fmt.Errorf("got %s, %v", b, err)
		}
		return nil
	}
	methods := map[string]func() error{
		"Trigger": func() error {
			return errors.Join(p.Trigger("nobody", "e", map[string]int{"n": 1}),
				p.Trigger("private-encrypted-nobody", "e", "x"))
		},
		"TriggerWithParams": func() error {
			got, err := p.TriggerWithParams("presence-nobody", "e", "x",
				pusher.TriggerParams{SocketID: &id, Info: counts})
			return check(got, err,
				`{"channels":{"presence-nobody":{"user_count":0,"subscription_count":0}}}`)
		},
		"TriggerMulti": func() error { return p.TriggerMulti(names, "e", "x") },
		"TriggerMultiWithParams": func() error {
			got, err := p.TriggerMultiWithParams(names, "e", "x",
				pusher.TriggerParams{Info: counts})
			return check(got, err, `{"channels":{"nobody":{"subscription_count":0},`+
				`"presence-nobody":{"user_count":0,"subscription_count":0}}}`)
		},
		"TriggerExclusive": func() error { return p.TriggerExclusive("nobody", "e", "x", id) },
		"TriggerMultiExclusive": func() error {
			return p.TriggerMultiExclusive(names, "e", "x",
				id)
		},
		"SendToUser": func() error { return p.SendToUser("nobody@all", "e", "x") },
		"TriggerBatch": func() error {
			batch := []pusher.Event{{Channel: "nobody", Name: "e", Data: "x"},
				{Channel: "private-encrypted-nobody", Name: "e", Data: "x", SocketID: &id}}
			got, err := p.TriggerBatch(batch)
			first := check(got, err, `{"batch":null}`)
			got, err = p.TriggerBatch(append(batch,
				pusher.Event{Channel: "presence-nobody", Name: "e", Data: "x", Info: counts}))
			return errors.Join(first, check(got, err,
				`{"batch":[{},{},{"user_count":0,"subscription_count":0}]}`))
		},
		"Channels": func() error {
			got, err := p.Channels(pusher.ChannelsParams{})
			first := check(got, err, `{"channels":{}}`)
			got, err = p.Channels(pusher.ChannelsParams{
				FilterByPrefix: new("presence-a@b=1;{}|\"ü"), Info: counts})
			return errors.Join(first, check(got, err, `{"channels":{}}`))
		},
		"Channel": func() error {
			got, err := p.Channel("a@b=1;c", pusher.ChannelParams{})
			first := check(got, err, `{"Name":"a@b=1;c"}`)
			got, err = p.Channel("presence-nobody", pusher.ChannelParams{Info: counts})
			return errors.Join(first, check(got, err, `{"Name":"presence-nobody"}`))
		},
		"GetChannelUsers": func() error {
			got, err := p.GetChannelUsers("presence-nobody")
			if _, err := p.GetChannelUsers("nobody"); err == nil ||
				!strings.Contains(err.Error(), "400") {
				return fmt.Errorf("got %v for a public channel, want a 400", err)
			}
			return check(got, err, `{"users":[]}`)
		},
		"AuthenticateUser": func() error {
			return signed(p.AuthenticateUser([]byte("socket_id=1.2"), map[string]any{"id": "1"}))
		},
		"AuthorizePrivateChannel": func() error {
			return signed(p.AuthorizePrivateChannel(form("private-x")))
		},
		"AuthenticatePrivateChannel": func() error {
			return signed(p.AuthenticatePrivateChannel(form("private-encrypted-x")))
		},
		"AuthorizePresenceChannel": func() error {
			return signed(p.AuthorizePresenceChannel(form("presence-x"), member))
		},
		"AuthenticatePresenceChannel": func() error {
			return signed(p.AuthenticatePresenceChannel(form("presence-x"), member))
		},
		"Webhook": func() error {
			body := `{"time_ms":1,"events":[{"name":"channel_occupied","channel":"x"}]}`
			got, err := p.Webhook(http.Header{"X-Pusher-Key": {"app-key"},
				"X-Pusher-Signature": {recordedApp("").sign(body)}}, []byte(body))
			return check(got, err, body)
		},
	}
	for m := range reflect.TypeFor[*pusher.Client]().Methods() {
		if f := methods[m.Name]; f == nil {
			t.Errorf("%s is not called", m.Name)
		} else if err := f(); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// TestReadmeCommands runs the README's commands for a reader without Laravel.
func TestReadmeCommands(t *testing.T) {
	home := t.TempDir()
	env := []string{"HOME=" + home, "REVERB_SERVER_PORT=0", "REVERB_ENV_FILE=/dev/null",
		"REVERB_SHUTDOWN_GRACE=0"}
	// The second terminal must know the port, so the test chooses it.
	probe := start(t, oneApp()...)
	port := probe.addr[strings.LastIndexByte(probe.addr, ':')+1:]
	probe.stop()
	env[1] = "REVERB_SERVER_PORT=" + port
	serve := command(program, "start", "--dev")
	serve.Env = env
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { serve.Process.Kill(); serve.Wait() }()
	run := func(args ...string) (string, error) {
		cmd := command(program, args...)
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
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(b), "```sh\n./reverb listen ")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("the README lacks the commands")
	}
	if err := os.Symlink(program, filepath.Join(home, "reverb")); err != nil {
		t.Fatal(err)
	}
	terminal := command("sh", "-c", "./reverb listen "+block+"wait")
	terminal.Dir, terminal.Env, terminal.SysProcAttr.Setpgid = home,
		append(env, "PATH="+os.Getenv("PATH")), true
	stdout, err := terminal.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := terminal.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { syscall.Kill(-terminal.Process.Pid, syscall.SIGKILL) }
	defer func() { kill(); terminal.Wait() }()
	defer time.AfterFunc(20*time.Second, kill).Stop()
	waiting := map[string]bool{"listening on my-channel": true, "sent my-event to my-channel": true,
		`my-channel my-event {"hello":"world"}`: true}
	for lines := bufio.NewScanner(stdout); len(waiting) > 0; delete(waiting, lines.Text()) {
		if !lines.Scan() || !waiting[lines.Text()] {
			t.Fatalf("got %q, want one of %v", lines.Text(), waiting)
		}
	}
	if out, err := run("trigger", "--dev", "private-encrypted-x", "e", "1"); err != nil ||
		out != "sent e to private-encrypted-x\n" {
		t.Errorf("got %q, %v", out, err)
	}
}
