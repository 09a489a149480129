package selfsigned

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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
