package servicelinks

import "testing"

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
