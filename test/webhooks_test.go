package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pusher/pusher-http-go/v5"

	"reverb/internal/lib/destinations"
	"reverb/internal/protocol"
	"reverb/internal/webhooks"
)

// received is a request that the library for Node judges, see clients/webhooks.mjs.
type received struct {
	App     string            `json:"app"`
	Headers map[string]string `json:"headers"` // in lower case, as Node has them
	Body    string            `json:"body"`
}

// TestWebhookLibraries sends webhooks of all kinds for two apps, and has Pusher's libraries for Go
// and for Node verify and read them.
func TestWebhookLibraries(t *testing.T) {
	const events = 700
	var mu sync.Mutex
	var all []received
	got := map[string][]string{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		app := strings.Trim(r.URL.Path, "/")
		library := pusher.Client{Key: "key-" + app, Secret: "secret-" + app}
		hook, err := library.Webhook(r.Header, b)
		if bytes.Contains(b, []byte(`"private-encrypted-`)) {
			// The library throws away the whole request, as that for PHP does: this is why such
			// events travel apart. The signature can be right nevertheless.
			if err == nil || !strings.Contains(err.Error(), "master encryption key") {
				t.Errorf("an encrypted channel: %v", err)
			}
			hook = &pusher.Webhook{}
			err = json.Unmarshal(b, hook)
		}
		if err != nil {
			t.Errorf("%.200s: %v", b, err)
			return
		}
		headers := map[string]string{}
		for name := range r.Header {
			headers[strings.ToLower(name)] = r.Header.Get(name)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, received{app, headers, string(b)})
		for _, e := range hook.Events {
			got[app] = append(got[app], fmt.Sprint(e.Name, " ", e.Channel, " ", e.Data))
		}
	}))
	defer server.Close()
	s := webhooks.New(webhooks.Options{QueueBytes: 64 << 20, ClientEvents: events,
		Transport: webhooks.NewTransport(destinations.Guard{}, nil, nil), Now: time.Now,
		Log: slog.New(slog.DiscardHandler), After: time.After, Draw: rand.Int64N})
	want := map[string][]string{}
	for _, app := range []string{"1", "2"} {
		u, err := url.Parse(server.URL + "/" + app)
		if err != nil {
			t.Fatal(err)
		}
		a := s.App(webhooks.Account{ID: app, Key: "key-" + app, Secret: "secret-" + app,
			Hooks: []*webhooks.Hook{{URL: u, Kinds: webhooks.AllKinds, Timeout: time.Minute}}})
		for i := range events {
			channel, err := protocol.ParseName(fmt.Sprint(
				[]string{"presence-", "private-encrypted-", "cache-"}[i/30%3], i))
			if err != nil {
				t.Fatal(err)
			}
			e := webhooks.Event{Kind: webhooks.Kind(i % 7), Channel: channel}
			data := ""
			switch e.Kind {
			case webhooks.MemberAdded, webhooks.MemberRemoved:
				e.User = fmt.Sprint("Müller ", i)
			case webhooks.ClientEvent:
				data = fmt.Sprintf(`{"i":%d,"é":"\ud83d"}`, i)
				e.Event, e.Data, e.Socket = "client-x", []byte(data), protocol.NewSocketID()
			}
			a.Tell(e)
			want[app] = append(want[app], fmt.Sprint(e.Kind, " ", channel, " ", data))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if n := s.Close(ctx); n != 0 {
		t.Errorf("%d were not delivered", n)
	}
	for app := range want {
		if !slices.Equal(got[app], want[app]) {
			t.Errorf("app %s: %d events, want %d, or other ones", app, len(got[app]),
				len(want[app]))
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command("node", "clients/webhooks.mjs")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.CombinedOutput()
	if line := fmt.Sprintf("%d requests, %d events\n", len(all), 2*events); err != nil ||
		string(out) != line {
		t.Errorf("%v: %s, want %s", err, out, line)
	}
}
