package outbound

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/destinations"
)

// A stop ends the wait for other requests, and the wait for other connections ends with dialTime.
func TestFullTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := New(destinations.Guard{}, nil, nil)
		for range MaxConnections {
			transport.open <- struct{}{}
		}
		for range maxRequests {
			transport.room <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := transport.Enter(ctx); err == nil {
			t.Error("a request has begun")
		}
		if _, err := transport.dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil ||
			!strings.Contains(err.Error(), "more than 128 connections") {
			t.Errorf("got %v", err)
		}
	})
}

// A connection counts until it is closed; what could not be dialed does not count.
func TestCount(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	transport := New(destinations.Guard{}, nil, nil)
	var asking sync.WaitGroup
	for range 3 * maxRequests {
		asking.Go(func() {
			leave, err := transport.Enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			req := httptest.NewRequest(http.MethodPost, server.URL, nil)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	asking.Wait()
	if n := len(transport.open); n == 0 || n > MaxConnections {
		t.Errorf("%d connections are open", n)
	}
	if _, err := transport.RoundTrip(httptest.NewRequest(http.MethodPost,
		"http://169.254.169.254/", nil)); err == nil ||
		!strings.Contains(err.Error(), "metadata service") {
		t.Errorf("got %v", err)
	}
	transport.CloseIdleConnections()
	for len(transport.open) > 0 { // the last ones close by themselves
		time.Sleep(time.Millisecond)
	}
	if len(transport.room) > 0 {
		t.Errorf("%d requests are under way", len(transport.room))
	}
}

// A proxy is asked for what the guard allows.
func TestProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := New(destinations.Guard{}, nil, at)
	defer transport.CloseIdleConnections()
	for _, to := range []string{"http://[fe80::1]/", "http://a.example/in"} {
		resp, err := transport.RoundTrip(httptest.NewRequest(http.MethodPost, to, nil))
		if (err == nil) != strings.Contains(to, "example") {
			t.Errorf("%s: %v", to, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	if got := <-asked; got != "http://a.example/in" {
		t.Errorf("got %s", got)
	}
}
