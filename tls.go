package main

// Certificates: loading and checking them. Serving with them comes later; until
// then only the settings are read and checked.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// loadCertificate reads a certificate chain and its private key in PEM. keyFile may
// be empty: then certFile holds both. warning tells of a certificate that works but
// soon will not.
func loadCertificate(certFile, keyFile, passphrase string, now time.Time) (c tls.Certificate, warning string, err error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return c, "", err
	}
	keyPEM := certPEM
	if keyFile != "" {
		if keyPEM, err = os.ReadFile(keyFile); err != nil {
			return c, "", err
		}
	}
	if keyPEM, err = decryptKey(keyPEM, passphrase); err != nil {
		return c, "", err
	}
	if c, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return c, "", errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	leaf := c.Leaf
	switch {
	case now.After(leaf.NotAfter):
		warning = "the certificate has expired on " + leaf.NotAfter.UTC().Format(time.DateOnly)
	case now.Before(leaf.NotBefore):
		warning = "the certificate is not valid before " + leaf.NotBefore.UTC().Format(time.DateOnly)
	}
	return c, warning, nil
}

// decryptKey decrypts a private key in the old PEM encryption (RFC 1423). Keys
// encrypted with PKCS #8 are not read by the standard library.
func decryptKey(keyPEM []byte, passphrase string) ([]byte, error) {
	for rest := keyPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return keyPEM, nil
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" {
			return nil, errors.New("the key is encrypted with PKCS #8, which is not supported; decrypt it once with: openssl pkey -in KEY -out NEWKEY")
		}
		//lint:ignore SA1019 the operator has such a key; it is decrypted, never made
		if !x509.IsEncryptedPEMBlock(block) {
			continue
		}
		if passphrase == "" {
			return nil, errors.New("the key is encrypted; set REVERB_TLS_PASSPHRASE")
		}
		//lint:ignore SA1019 see above
		der, err := x509.DecryptPEMBlock(block, []byte(passphrase))
		if err != nil {
			return nil, errors.New("the passphrase in REVERB_TLS_PASSPHRASE does not open the key")
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
	}
}

// loadCA reads certificates in PEM to verify peers with.
func loadCA(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("the file holds no certificate in PEM")
	}
	return pool, nil
}

// parseTLSVersion reads 1.2 or 1.3, with or without TLS in front.
func parseTLSVersion(s string) (uint16, error) {
	switch strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(s), "tls"), "v") {
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, errors.New("not a TLS version that is served; give 1.2 or 1.3")
}

// parseCipherSuites reads names of crypto/tls, separated by commas or colons.
func parseCipherSuites(list string) (ids []uint16, err error) {
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ':' || r == ' ' }) {
		i := slices.IndexFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the cipher suite %q is not known or not safe; names are like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
		ids = append(ids, tls.CipherSuites()[i].ID)
	}
	return ids, nil
}
