package selfsigned

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"runtime"
	"testing"
	"time"
)

func TestMake(t *testing.T) {
	from, until := time.Unix(1_800_000_000, 0), time.Unix(1_900_000_000, 0)
	m := Make(t, "ws.test", from, until)
	pair, err := tls.X509KeyPair([]byte(m.Cert), []byte(m.Key))
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Leaf
	if !leaf.NotBefore.Equal(from) || !leaf.NotAfter.Equal(until) || !bytes.Equal(leaf.Raw, m.DER) {
		t.Errorf("valid from %v until %v", leaf.NotBefore, leaf.NotAfter)
	}
	if err := leaf.VerifyHostname("ws.test"); err != nil {
		t.Error(err)
	}
	block, _ := pem.Decode([]byte(m.Sealed(t, "geheim")))
	//lint:ignore SA1019 operators have such keys
	der, err := x509.DecryptPEMBlock(block, []byte("geheim"))
	if err != nil || PEM("PRIVATE KEY", der) != m.Key {
		t.Errorf("the sealed key is another one, or %v", err)
	}
}

// failing notes that a helper has failed its test, and ends the helper's goroutine as T does.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper() {}

func (f *failing) Fatal(...any) {
	f.failed = true
	runtime.Goexit()
}

func TestMakeFails(t *testing.T) {
	f, ended := &failing{}, make(chan bool)
	go func() {
		defer close(ended)
		Make(f, "no-ASCII-\u00e9.test", time.Unix(0, 0), time.Unix(1, 0))
	}()
	if <-ended; !f.failed {
		t.Error("a certificate is made for a host that none can have")
	}
}
