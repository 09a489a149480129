package fakesockets

import (
	"io"
	"net"
	"testing"
)

func TestPairs(t *testing.T) {
	n := 0
	Pairs(t, 2, func(i int, ours, peer net.Conn) {
		defer ours.Close()
		if i != n {
			t.Errorf("got %d, want %d", i, n)
		}
		n++
		var from net.Conn = ours
		if i == 1 {
			layer := TLS(t, ours, peer)
			if layer.Write([]byte("one")); layer.Writes != 1 || layer.Bytes != 3 {
				t.Errorf("%d writes of %d bytes", layer.Writes, layer.Bytes)
			}
			layer.Close()
			return
		}
		from.Write([]byte("one")) // an error shows below
		b := make([]byte, 3)
		if _, err := io.ReadFull(peer, b); err != nil || string(b) != "one" {
			t.Errorf("got %q, %v", b, err)
		}
	})
	if n != 2 {
		t.Errorf("%d pairs, want 2", n)
	}
}
