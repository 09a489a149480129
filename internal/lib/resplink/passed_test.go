package resplink

import (
	"net"
	"os"
	"reflect"
	"runtime"
	"testing"
)

var passed = Passed{Where: "tcp 127.0.0.1:6379",
	Masters: []Master{{"a:1", "7.0", [2][]byte{{}, []byte(">3\r\n")}},
		{"b:1", "", [2][]byte{[]byte("x"), {}}}}, ByBucket: []int{0, 1, 1}}

// TestPassed reads what was written, and refuses each beginning without a bucket, and other
// numbers.
func TestPassed(t *testing.T) {
	b := passed.Append(nil)
	if got, err := ParsePassed(b, 4); err != nil || !reflect.DeepEqual(got, passed) {
		t.Errorf("%+v became %+v, %v", passed, got, err)
	}
	for i := range len(b) - 2 {
		if _, err := ParsePassed(b[:i], 4); err == nil {
			t.Errorf("%d of %d bytes are enough", i, len(b))
		}
	}
	if _, err := ParsePassed(b, 3); err == nil {
		t.Error("three sockets are enough for two masters")
	}
	if _, err := ParsePassed(append(b, 2), 4); err == nil {
		t.Error("there is a third master")
	}
}

// FuzzPassed checks that what is read can be written and read again.
func FuzzPassed(f *testing.F) {
	f.Add(passed.Append(nil), 4)
	f.Fuzz(func(t *testing.T, b []byte, sockets int) {
		p, err := ParsePassed(b, sockets)
		if err != nil {
			return
		}
		again, err := ParsePassed(p.Append(nil), sockets)
		if err != nil || again.Where != p.Where || len(again.Masters) != len(p.Masters) ||
			!reflect.DeepEqual(again.ByBucket, p.ByBucket) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}

// TestDescriptors makes connections of the descriptors of others, which stay open.
func TestDescriptors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no descriptors are passed on")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	var conns []net.Conn
	err = Descriptors([]*Link{New(here, nil)}, func(fds []int) error {
		conns, err = Conns([]int{duplicate(t, fds[0])})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	here.Close()
	defer conns[0].Close()
	if _, err := conns[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := there.Read(b); err != nil || b[0] != 'x' {
		t.Errorf("got %q, %v", b, err)
	}
	pipe, _ := net.Pipe()
	if err := Descriptors([]*Link{New(pipe, nil)}, nil); err == nil {
		t.Error("a connection without a descriptor is passed on")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := Conns([]int{duplicate(t, int(null.Fd()))}); err == nil {
		t.Error("a file is a connection")
	}
}
