package redisurl

import (
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	for s, want := range map[string]Address{
		"redis://localhost":           {"tcp", "localhost:6379", "", "", 0, false},
		"rediss://u:p%40ss@h:1/2":     {"tcp", "h:1", "u", "p@ss", 2, true},
		"tls://:p@[::1]:7/3":          {"tcp", "[::1]:7", "", "p", 3, true},
		"unix:///run/redis.sock?db=4": {"unix", "/run/redis.sock", "", "", 4, false},
	} {
		if got, err := (Parts{Port: 6379}).ParseURL(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "localhost", "http://x", "redis://", "redis://x/y",
		"redis://:geheim@h:port", "redis://u:geheim@h/-1"} {
		_, err := Parts{Port: 6379}.ParseURL(s)
		if err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: got %v", s, err)
		}
	}
	for host, want := range map[string]Address{
		"h": {"tcp", "h:1", "u", "p", 2, false}, "tls://h": {"tcp", "h:1", "u", "p", 2, true},
		"/run/r":        {"unix", "/run/r", "u", "p", 2, false},
		"unix:/run/r":   {"unix", "/run/r", "u", "p", 2, false},
		"unix:///run/r": {"unix", "/run/r", "u", "p", 2, false},
	} {
		parts := Parts{Host: host, Port: 1, Username: "u", Password: "p", DB: 2}
		if got, err := parts.Parse(); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", host, got, err, want)
		}
	}
}

func FuzzURL(f *testing.F) {
	f.Add("rediss://u:p@h:1/2")
	f.Add("unix:///x?db=1")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parts{Port: 6379}.ParseURL(s)
		if err == nil && (a.Address == "" && a.Network == "tcp" || a.DB < 0) {
			t.Fatalf("%q gave %+v", s, a)
		}
	})
}

// FuzzHost puts a password in the place of a host. The password is not dialed, so no error of
// dialing holds it, and no error of parsing quotes it.
func FuzzHost(f *testing.F) {
	f.Add("", "", "")
	f.Add("tls://", "7?", "/0")
	f.Add("redis://", "@x/", "?db=1")
	f.Fuzz(func(t *testing.T, scheme, before, after string) {
		const password = "SECRET"
		host := scheme + "u:" + before + password + after + "@h"
		a, err := Parts{Host: host, Port: 1}.Parse()
		if err != nil && strings.Contains(err.Error(), password) ||
			err == nil && a.Network == "tcp" && strings.Contains(a.Address, password) {
			t.Fatalf("%q gave %+v, %v", host, a, err)
		}
	})
}
