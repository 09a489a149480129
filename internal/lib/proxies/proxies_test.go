package proxies

import "testing"

func TestClient(t *testing.T) {
	for _, tt := range []struct {
		trusted, peer string
		forwarded     []string
		want          string
	}{
		{"10.0.0.1", "192.0.2.1:5", []string{"203.0.113.7"}, "192.0.2.1:5"},
		{"10.0.0.1", "10.0.0.1:5", []string{"203.0.113.7"}, "203.0.113.7"},
		{"10.0.0.1", "10.0.0.1:5", nil, "10.0.0.1:5"},
		{"10.0.0.0/8", "10.0.0.1:5", []string{"6.6.6.6, 203.0.113.7, 10.1.2.3"}, "203.0.113.7"},
		{"10.0.0.0/8", "10.0.0.1:5", []string{"6.6.6.6", "203.0.113.7"}, "203.0.113.7"},
		{"10.0.0.0/8", "10.0.0.1:5", []string{"10.1.2.3"}, "10.1.2.3"},
		{"10.0.0.0/8", "10.0.0.1:5", []string{"rubbish, 10.1.2.3"}, "10.1.2.3"},
		{"10.0.0.0/8", "10.0.0.1:5", []string{"rubbish"}, "10.0.0.1:5"},
		{"10.0.0.0/8", "10.0.0.1:5", []string{"203.0.113.7:4444"}, "203.0.113.7"},
		{"10.0.0.0/8", "[::ffff:10.0.0.1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		{"::1", "[::1]:5", []string{"[2001:db8::1]:80"}, "2001:db8::1"},
		{"unix", "@", []string{"203.0.113.7"}, "203.0.113.7"},
		{"10.0.0.1", "@", []string{"203.0.113.7"}, "@"},
		{"*", "192.0.2.1:5", []string{"203.0.113.7"}, "203.0.113.7"},
	} {
		trusted, err := Parse(tt.trusted)
		if err != nil {
			t.Fatal(err)
		}
		if got := trusted.Client(tt.peer, tt.forwarded); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
	for _, list := range []string{"", "x", "10.0.0.1,", "10.0.0.0/33", "http://10.0.0.1"} {
		if _, err := Parse(list); err == nil {
			t.Errorf("%q: no error", list)
		}
	}
	if (Trusted{}).Client("192.0.2.1:5", []string{"203.0.113.7"}) != "192.0.2.1:5" ||
		!(Trusted{}).Nobody() {
		t.Error("the zero value trusts somebody")
	}
}

func FuzzClient(f *testing.F) {
	f.Add("10.0.0.1:5", "203.0.113.7, 10.1.2.3")
	trusted, err := Parse("10.0.0.0/8,unix")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		got := trusted.Client(peer, []string{forwarded})
		if !trusted.Contains(peer) && got != peer {
			t.Errorf("%q was believed: %q", peer, got)
		}
	})
}
