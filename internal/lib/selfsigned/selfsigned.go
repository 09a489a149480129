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
	"os"
	"path/filepath"
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

// Files writes certificates for ws.test and keys into a folder, right and wrong ones, and files of
// an app and of a secret that begin with a byte order mark. now is the time at which they are
// judged. The passphrase of sealed is geheim.
func Files(t testing.TB, dir string, now time.Time) {
	t.Helper()
	const mark, day = "\ufeff", 24 * time.Hour
	made := func(from, until time.Duration) Made {
		return Make(t, "ws.test", now.Add(from), now.Add(until))
	}
	good, other := made(-time.Hour, 50*day), made(-time.Hour, 50*day)
	expired, early, soon := made(-day, -time.Second), made(2*day, 50*day), made(-32*day, 10*day)
	for name, text := range map[string]string{
		"cert": good.Cert, "key": good.Key, "both": good.Cert + good.Key,
		"sealed": good.Sealed(t, "geheim"),
		"other":  other.Cert + other.Key, "expired": expired.Cert + expired.Key,
		"early": early.Cert + early.Key, "soon": soon.Cert + soon.Key,
		"pkcs8":       PEM("ENCRYPTED PRIVATE KEY", good.DER),
		"damaged":     PEM("CERTIFICATE", good.DER[:40]),
		"bad":         PEM("PRIVATE KEY", good.DER),
		"marked-cert": mark + PEM("X509 CERTIFICATE", good.DER),
		"marked-key":  mark + good.Key, "secret": mark + "s\r\n",
		"apps": mark + `[{"app_id":"1","key":"k","secret":"s"}]`,
		"env":  mark + "REVERB_APP_ID=1\rREVERB_APP_KEY=k\rREVERB_APP_SECRET=s\r",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
