package servicelinks

import (
	"math/rand/v2"
	"regexp"
	"testing"
)

func TestLinks(t *testing.T) {
	env := map[string]string{"REDIS_NAME": "/web/redis"}
	for _, tt := range []struct {
		name, value string
		link, port  bool
	}{
		{"REDIS_PORT", "tcp://10.0.0.1:6379", true, true},
		{"REVERB_SERVER_PORT", "tcp://[fd00::1]:8080", true, true},
		{"DNS_PORT", "udp://10.0.0.1:53", true, true},
		{"REDIS_PORT", "6379", false, false},
		{"REDIS_PORT", "tcp://10.0.0.1", false, false},
		{"REDIS_PORT", "tcp://u:p@10.0.0.1:6379", false, false},
		{"REDIS_URL", "tcp://10.0.0.1:6379", false, false},
		{"REVERB_SERVICE_HOST", "10.0.0.1", true, false},
		{"REVERB_SERVICE_PORT", "8080", true, false},
		{"REVERB_SERVICE_PORT_HTTP_WS", "8080", true, false},
		{"REVERB_PORT_80_TCP", "tcp://10.0.0.1:80", true, false},
		{"REVERB_PORT_80_TCP_ADDR", "10.0.0.1", true, false},
		{"REVERB_PORT_80_TCP_PORT", "80", true, false},
		{"REVERB_PORT_80_TCP_PROTO", "tcp", true, false},
		{"REVERB_PORT_53_UDP_ADDR", "10.0.0.1", true, false},
		{"REVERB_PORT_80_TCPX", "x", false, false},
		{"REDIS_NAME", "/web/redis", true, false},
		{"REDIS_ENV_REDIS_VERSION", "7.0", true, false},
		{"REVERB_ENV_FIEL", ".env", false, false},
		{"REVERB_NAME", "me", false, false},
		{"", "", false, false},
	} {
		if got := IsLink(tt.name, tt.value,
			func(name string) string { return env[name] }); got != tt.link {
			t.Errorf("%s=%s: got a link %v, want %v", tt.name, tt.value, got, tt.link)
		}
		if got := IsPort(tt.name, tt.value); got != tt.port {
			t.Errorf("%s=%s: got a port %v, want %v", tt.name, tt.value, got, tt.port)
		}
	}
}

// TestModel compares names and values made of typical parts with regular expressions.
func TestModel(t *testing.T) {
	named := regexp.MustCompile(
		`^[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
			`PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR|START|END|PORT_START|PORT_END))?)$`)
	address := regexp.MustCompile(`^(tcp|udp|sctp)://[^/@?#]+:[0-9]+$`)
	parts := []string{"A", "_", "_SERVICE", "_HOST", "_PORT", "_80", "9", "_TCP", "_UDP", "_SCTP",
		"_PROTO", "_ADDR", "_START", "_END", "x", "-"}
	marks := []string{"tcp", "udp", "sctp", "://", "/", "a", ":", "1", "@", "?", "#", "[", "\n"}
	rng := rand.New(rand.NewPCG(1, 2))
	some := func(of []string) (s string) {
		for range rng.IntN(8) {
			s += of[rng.IntN(len(of))]
		}
		return s
	}
	matched := 0
	for range 200_000 {
		name, value := some(parts), some(marks)
		if got, want := onlyPlatform(name), named.MatchString(name); got != want {
			t.Fatalf("%s: got %v, want %v", name, got, want)
		} else if got {
			matched++
		}
		if got, want := isAddress(value), address.MatchString(value); got != want {
			t.Fatalf("%q: got %v, want %v", value, got, want)
		}
	}
	if matched < 100 {
		t.Errorf("only %d names matched", matched)
	}
}
