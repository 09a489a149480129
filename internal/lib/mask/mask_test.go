package mask

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// plainly masks byte by byte.
func plainly(b []byte, key uint32) {
	for i := range b {
		b[i] ^= byte(key >> (8 * (i % 4)))
	}
}

func TestBytes(t *testing.T) {
	for n := range 200 {
		for _, split := range []int{0, n / 3, n} {
			want := make([]byte, n)
			for i := range want {
				want[i] = byte(rand.Uint32())
			}
			got, key := bytes.Clone(want), rand.Uint32()
			plainly(want, key)
			Bytes(got[split:], Bytes(got[:split], key))
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes split at %d: got %x, want %x", n, split, got, want)
			}
		}
	}
}

func BenchmarkBytes(b *testing.B) {
	buf := make([]byte, 4096)
	for name, mask := range map[string]func(){
		"fast":  func() { Bytes(buf, 0x12345678) },
		"plain": func() { plainly(buf, 0x12345678) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(4096)
			for b.Loop() {
				mask()
			}
		})
	}
}
