package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

var vectors = []struct {
	in   string
	want Reply
}{
	{"+OK\r\n", Reply{Kind: Text, Text: "OK"}},
	{"-MOVED 1 h:1\r\n", Reply{Kind: Error, Text: "MOVED 1 h:1"}},
	{":12\r\n", Reply{Kind: Int, N: 12}},
	{":-12\r\n", Reply{Kind: Int, N: -12}},
	{":+7\r\n", Reply{Kind: Int, N: 7}},
	{":9223372036854775807\r\n", Reply{Kind: Int, N: 9223372036854775807}},
	{"$3\r\na\r\n\r\n", Reply{Kind: Text, Text: "a\r\n"}},
	{"$0\r\n\r\n", Reply{Kind: Text}},
	{"$-1\r\n", Reply{}},
	{"*-1\r\n", Reply{}},
	{"_\r\n", Reply{}},
	{"#t\r\n", Reply{Kind: Int, N: 1}},
	{"#f\r\n", Reply{Kind: Int}},
	{",1.5\r\n", Reply{Kind: Text, Text: "1.5"}},
	{"(123456789012345678901234567890\r\n",
		Reply{Kind: Text, Text: "123456789012345678901234567890"}},
	{"=7\r\ntxt:abc\r\n", Reply{Kind: Text, Text: "abc"}},
	{"!5\r\nERR x\r\n", Reply{Kind: Error, Text: "ERR x"}},
	{"*2\r\n:1\r\n$1\r\na\r\n", Reply{Kind: Array,
		Items: []Reply{{Kind: Int, N: 1}, {Kind: Text, Text: "a"}}}},
	{"~1\r\n:1\r\n", Reply{Kind: Array, Items: []Reply{{Kind: Int, N: 1}}}},
	{"%1\r\n+k\r\n:1\r\n", Reply{Kind: Array,
		Items: []Reply{{Kind: Text, Text: "k"}, {Kind: Int, N: 1}}}},
	{">1\r\n+message\r\n", Reply{Kind: Push, Items: []Reply{{Kind: Text, Text: "message"}}}},
	{"|1\r\n+ttl\r\n:3\r\n:5\r\n", Reply{Kind: Int, N: 5}},
	{"*0\r\n", Reply{Kind: Array, Items: []Reply{}}},
}

func TestRead(t *testing.T) {
	for _, v := range vectors {
		r := NewReader(iotest.OneByteReader(strings.NewReader(v.in + ":42\r\n")))
		got, err := r.Read()
		if err != nil || !reflect.DeepEqual(got, v.want) {
			t.Errorf("%q: got %+v, %v, want %+v", v.in, got, err, v.want)
			continue
		}
		if got, err := r.Read(); err != nil || got.N != 42 {
			t.Errorf("%q: what follows is %+v, %v", v.in, got, err)
		}
		for n := range len(v.in) { // every prefix is short
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if got, err := NewReader(strings.NewReader(v.in[:n])).Read(); err != want {
				t.Errorf("%q: got %+v, %v, want %v", v.in[:n], got, err, want)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, in := range []string{
		"\r\n", "x\r\n", "+a\n", ":\r\n", ":a\r\n", ":1 \r\n", "$a\r\n", "$+1\r\na\r\n", "$-2\r\n",
		"$1\r\nab\r\n", "$99999999999999999999\r\n", "$300000000\r\n",
		"*5000000\r\n", "%3000000\r\n", "#x\r\n", "#\r\n", "#ft\r\n", "_x\r\n",
		strings.Repeat("*1\r\n", 12) + ":1\r\n", strings.Repeat("|1\r\n+a\r\n+b\r\n", 12) +
			":1\r\n",
		"+" + strings.Repeat("a", maxLineBytes) + "\r\n",
	} {
		if got, err := NewReader(strings.NewReader(in)).Read(); err == nil ||
			errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.40q: got %+v, %v", in, got, err)
		}
	}
}

// TestReadLong reads strings around the size of the buffer.
func TestReadLong(t *testing.T) {
	for _, n := range []int{maxLineBytes - 3, maxLineBytes - 2, maxLineBytes - 1, maxLineBytes,
		3 * maxLineBytes} {
		s := strings.Repeat("x", n)
		got, err := NewReader(bytes.NewReader(AppendCommand(nil, s, "end"))).Read()
		if err != nil || len(got.Items) != 2 || got.Items[0].Text != s ||
			got.Items[1].Text != "end" {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestReadPaysAsItGoes announces much, sends little, and measures the memory.
func TestReadPaysAsItGoes(t *testing.T) {
	for _, in := range []string{"$200000000\r\nabc", "*4000000\r\n:1\r\n"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		NewReader(strings.NewReader(in)).Read()
		runtime.ReadMemStats(&after)
		cost := after.TotalAlloc - before.TotalAlloc
		if cost > 4*maxLineBytes {
			t.Errorf("%q costs %d bytes", in, cost)
		}
	}
}

func TestReplyError(t *testing.T) {
	e := ReplyError("MOVED 1 h:1")
	if !e.Begins("MOVED") || e.Begins("MOVE") || !ReplyError("READONLY").Begins("READONLY") ||
		(Reply{Kind: Error, Text: "X"}).Err() == nil || (Reply{}).Err() != nil {
		t.Error("errors are not told apart")
	}
}

// TestSlot holds vectors of the cluster specification, and of CLUSTER KEYSLOT.
func TestSlot(t *testing.T) {
	if got := CRC16("123456789"); got != 0x31C3 {
		t.Errorf("CRC16: got %#x, want 0x31c3", got)
	}
	for name, want := range map[string]int{"foo": 12182, "{foo}.x": 12182, "a{foo}b{bar}": 12182,
		"{}foo": Slot("{}foo"), "": 0, "somekey": 11058, "foo{hash_tag}": 2515,
		"bar{hash_tag}": 2515} {
		if got := Slot(name); got != want {
			t.Errorf("%q: got %d, want %d", name, got, want)
		}
	}
	if Slot("foo{}{bar}") != int(CRC16("foo{}{bar}"))%Slots ||
		Slot("foo{{bar}}zap") != int(CRC16("{bar"))%Slots {
		t.Error("braces are not read as the specification says")
	}
}

func FuzzRead(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, bytewise := NewReader(bytes.NewReader(b)),
			NewReader(iotest.OneByteReader(bytes.NewReader(b)))
		for {
			got, err := whole.Read()
			again, errAgain := bytewise.Read()
			if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(got, again) {
				t.Fatalf("got %+v, %v and, byte by byte, %+v, %v", got, err, again, errAgain)
			}
			if err != nil {
				return
			}
		}
	})
}

// FuzzCommand reads commands of AppendCommand.
func FuzzCommand(f *testing.F) {
	f.Add("PUBLISH", "a\r\nb", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		got, err := NewReader(bytes.NewReader(AppendCommand(nil, a, b, c))).Read()
		if err != nil || len(got.Items) != 3 || got.Items[0].Text != a || got.Items[1].Text != b ||
			got.Items[2].Text != c {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
}

func BenchmarkReadMessage(b *testing.B) {
	in := []byte(">3\r\n$7\r\nmessage\r\n$20\r\nreverb:1:channel-abc\r\n$150\r\n" +
		strings.Repeat("x", 150) + "\r\n")
	src := bytes.NewReader(nil)
	r := NewReader(src)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		src.Reset(in)
		if got, err := r.Read(); err != nil || len(got.Items) != 3 {
			b.Fatal(got, err)
		}
	}
}

func TestForeign(t *testing.T) {
	for text, want := range map[string]bool{"WRONGTYPE Operation against a key": true,
		"ERR hash value is not an integer": true, "ERR increment would overflow": true,
		"READONLY You can't write": false} {
		if got := Foreign(fmt.Errorf("script: %w", ReplyError(text))); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
	if Foreign(io.EOF) || Foreign(nil) {
		t.Error("another error is foreign")
	}
}
