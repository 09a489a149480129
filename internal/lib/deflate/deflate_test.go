package deflate

import (
	"bytes"
	"compress/flate"
	"testing"
)

func TestAccepts(t *testing.T) {
	for offer, want := range map[string]bool{
		"permessage-deflate":                                                  true,
		"permessage-deflate; client_max_window_bits":                          true,
		"Permessage-Deflate;client_max_window_bits=10":                        true,
		`permessage-deflate; client_max_window_bits="12"`:                     true,
		"permessage-deflate; server_max_window_bits=15":                       false,
		"permessage-deflate; server_max_window_bits=10":                       false,
		"permessage-deflate; server_max_window_bits=10, permessage-deflate":   true,
		"permessage-deflate; server_max_window_bits":                          false,
		"permessage-deflate; client_max_window_bits=16":                       false,
		"permessage-deflate; client_max_window_bits=08":                       false,
		"permessage-deflate; client_max_window_bits=":                         false,
		"permessage-deflate; server_no_context_takeover":                      true,
		"permessage-deflate; server_no_context_takeover=1":                    false,
		"permessage-deflate; foo":                                             false,
		"permessage-deflate; client_max_window_bits; client_max_window_bits":  false,
		"x-webkit-deflate-frame":                                              false,
		"":                                                                    false,
		"permessage-deflate; client_no_context_takeover; foo, bar; baz, quux": false,
	} {
		if got := accepts([]string{offer}); got != want {
			t.Errorf("%q: got %v, want %v", offer, got, want)
		}
	}
	if !accepts([]string{"foo", "permessage-deflate"}) || !accepts([]string{accepted}) {
		t.Error("the second header, or what is answered, is not taken")
	}
}

// deflated has messages of other implementations.
func deflated(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, 6)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte(syncTail))
}

func TestInflate(t *testing.T) {
	var r Reader
	for _, n := range []int{0, 1, 100, 5000, 100_000} {
		want := bytes.Repeat([]byte("abcdefghij"), n/10+1)[:n]
		got, err := r.Inflate(deflated(t, want), n)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		if n > 0 {
			if _, err := r.Inflate(deflated(t, want), n-1); err != ErrTooLong {
				t.Errorf("%d bytes, limit %d: got %v, want ErrTooLong", n, n-1, err)
			}
		}
	}
	// Fifty times the same block of a mebibyte: each begins at a byte and refers to zeros.
	block := append(deflated(t, make([]byte, 1<<20)), syncTail...)
	bomb := bytes.TrimSuffix(bytes.Repeat(block, 50), []byte(syncTail))
	if _, err := r.Inflate(bomb, 10_000); err != ErrTooLong || cap(r.out) > 64<<10 {
		t.Errorf("bomb of %d bytes: got %v, a buffer of %d", len(bomb), err, cap(r.out))
	}
	three := bytes.TrimSuffix(bomb[:3*len(block)], []byte(syncTail))
	if got, err := r.Inflate(three, 3<<20); err != nil || !bytes.Equal(got, make([]byte, 3<<20)) {
		t.Errorf("three blocks of the bomb have %d bytes, %v; want 3 MiB", len(got), err)
	}
	if _, err := r.Inflate([]byte("garbage!"), 1000); err != ErrBroken || cap(r.out) > keepBytes {
		t.Errorf("garbage: got %v, and a buffer of %d", err, cap(r.out))
	}
	if got, err := r.Inflate(deflated(t, []byte("after")), 100); err != nil ||
		string(got) != "after" {
		t.Errorf("after an error: got %q, %v", got, err)
	}
}

func TestDeflate(t *testing.T) {
	var w Writer
	var r Reader
	for _, message := range [][]byte{bytes.Repeat([]byte("xyz "), 200), make([]byte, 100_000),
		bytes.Repeat([]byte("é"), 300)} {
		payload, smaller := w.Deflate(message)
		if got, err := r.Inflate(payload, len(message)); !smaller || err != nil ||
			!bytes.Equal(got, message) {
			t.Errorf("%d bytes became %d and then %d, %v", len(message), len(payload), len(got),
				err)
		}
	}
	if payload, smaller := w.Deflate([]byte("short")); smaller {
		t.Errorf("a short message became %q", payload)
	}
	noise := make([]byte, 100_000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	if w.Deflate(noise); w.out.Cap() <= keepBytes {
		t.Error("the test does not reach the bound")
	}
	if w.Deflate(nil); w.out.Cap() > keepBytes {
		t.Errorf("a buffer of %d bytes is kept", w.out.Cap())
	}
	message := bytes.Repeat([]byte("xyz "), 200)
	if n := testing.AllocsPerRun(20, func() { w.Deflate(message) }); n != 0 {
		t.Errorf("%v allocations a message, want none", n)
	}
}

// Compression is used only if both sides want it.
func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		offer  string
		wanted bool
		want   string
	}{
		{"permessage-deflate", true, accepted},
		{"permessage-deflate", false, ""},
		{"foo", true, ""},
	} {
		if got := Answer([]string{tt.offer}, tt.wanted); got != tt.want {
			t.Errorf("%q, %v: got %q, want %q", tt.offer, tt.wanted, got, tt.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`permessage-deflate; client_max_window_bits="15"`)
	f.Add(accepted)
	f.Fuzz(func(t *testing.T, offer string) { accepts([]string{offer}) })
}

func FuzzInflate(f *testing.F) {
	f.Add(deflated(f, []byte("hello, hello")), 100)
	f.Add(deflated(f, make([]byte, 10_000)), 100)
	f.Add([]byte("garbage!"), 100)
	var r Reader
	var w Writer
	f.Fuzz(func(t *testing.T, payload []byte, limit int) {
		limit = int(uint(limit) % (1 << 20))
		got, err := r.Inflate(payload, limit)
		if err != nil && got != nil || len(got) > limit ||
			cap(r.out) > 2*limit+1024 && cap(r.out) > keepBytes {
			t.Fatalf("got %d bytes, %v, a buffer of %d; the limit is %d", len(got), err, cap(r.out),
				limit)
		}
		if err != nil {
			return
		}
		message := bytes.Clone(got)
		payload, smaller := w.Deflate(message)
		if !smaller {
			return
		}
		if got, err := r.Inflate(payload, limit); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%d bytes came back as %d, %v", len(message), len(got), err)
		}
	})
}
