// Package selfsigned makes certificates for tests, as PEM and as DER.
package selfsigned

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"
)

// Made is a certificate and its key, which is an ECDSA key.
type Made struct {
	DER       []byte // of the certificate
	Cert, Key string // PEM
}

// Make makes a certificate for a host that is valid from one time until another.
func Make(t testing.TB, host string, from, until time.Time) Made {
	t.Helper()
	key, keyErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host},
		NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	keyDER, encodeErr := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(keyErr, err, encodeErr); err != nil {
		t.Fatal(err)
	}
	return Made{DER: der, Cert: PEM("CERTIFICATE", der), Key: PEM("PRIVATE KEY", keyDER)}
}

// PEM is a block of PEM with a label.
func PEM(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

// Sealed is the key, encrypted with a passphrase in the old form of OpenSSL.
func (m Made) Sealed(t testing.TB, passphrase string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(m.Key))
	//lint:ignore SA1019 operators have such keys
	sealed, err := x509.EncryptPEMBlock(rand.Reader, block.Type, block.Bytes, []byte(passphrase),
		x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(sealed))
}
