package main

// TLS: certificates and how they are renewed. The handshake itself and the records
// are crypto/tls; connections are served by the same loops as plain ones
// (internal/lib/poll, layered).
//
// Sections:
//
//	Settings        what can be set, in the words of Laravel and PHP too
//	Loading         files to a certificate, every mistake with its remedy
//	Encrypted keys  RFC 1423 and PKCS #8 with PBES2
//	Finding         where Herd and Valet keep certificates
//	Renewal         new files are taken without dropping a connection

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reverb/internal/config"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// --- Settings ---

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

// parseCipherSuites reads names of crypto/tls or of OpenSSL, separated by commas or
// colons. TLS 1.3 has no choice of suites.
func parseCipherSuites(list string) (ids []uint16, err error) {
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ':' || r == ' ' }) {
		i := slices.IndexFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool {
			return c.Name == name || slices.Contains(c.SupportedVersions, tls.VersionTLS12) && openSSLName(c.Name) == name
		})
		if i < 0 {
			return nil, fmt.Errorf("the cipher suite %q is not known or not safe; names are like ECDHE-RSA-AES128-GCM-SHA256 or TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
		ids = append(ids, tls.CipherSuites()[i].ID)
	}
	return ids, nil
}

// openSSLName turns TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 into
// ECDHE-RSA-AES128-GCM-SHA256.
func openSSLName(name string) string {
	name = strings.NewReplacer("TLS_", "", "WITH_", "", "AES_128", "AES128", "AES_256", "AES256", "POLY1305_SHA256", "POLY1305").Replace(name)
	return strings.ReplaceAll(name, "_", "-")
}

// --- Loading ---

// loadTLS reads what the settings name. warning tells of something that works but
// soon will not.
func loadTLS(s *config.TLS, now time.Time) (made *tls.Config, warning string, err error) {
	cert, warning, err := loadCertificate(s.CertFile, s.KeyFile, s.Passphrase, now)
	if err != nil {
		return nil, "", err
	}
	if s.Host != "" {
		if err := checkHost(cert.Leaf, s.Host); err != nil {
			return nil, "", fmt.Errorf("REVERB_TLS_CERT: %s: %w", s.CertFile, err)
		}
	}
	made = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if made.MinVersion, err = parseTLSVersion(s.MinVersion); err != nil {
		return nil, "", err
	}
	if made.CipherSuites, err = parseCipherSuites(s.Ciphers); err != nil {
		return nil, "", err
	}
	if s.CAFile != "" {
		if made.ClientCAs, err = loadCA(s.CAFile); err != nil {
			return nil, "", fmt.Errorf("REVERB_TLS_CA: %w", err)
		}
		made.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return made, warning, nil
}

// loadCertificate reads a certificate chain and its private key in PEM. keyFile may
// be empty: then certFile holds both. Its errors name the variable, the file and the
// remedy.
func loadCertificate(certFile, keyFile, passphrase string, now time.Time) (c tls.Certificate, warning string, err error) {
	certPEM, err := readPEM(certFile)
	if err != nil {
		return c, "", fmt.Errorf("REVERB_TLS_CERT: %w", err)
	}
	cert := "REVERB_TLS_CERT: " + certFile
	if !hasBlock(certPEM, "CERTIFICATE") {
		return c, "", fmt.Errorf("%s: the file holds no certificate, only %s; name the file of the certificate chain (certbot calls it fullchain.pem)", cert, blockTypes(certPEM))
	}
	keyPEM, from := certPEM, cert
	if keyFile != "" {
		from = "REVERB_TLS_KEY: " + keyFile
		if keyPEM, err = readPEM(keyFile); err != nil {
			return c, "", fmt.Errorf("REVERB_TLS_KEY: %w", err)
		}
	}
	if !hasBlock(keyPEM, "PRIVATE KEY") {
		remedy := "name the file of the private key in REVERB_TLS_KEY (certbot calls it privkey.pem)"
		return c, "", fmt.Errorf("%s: the file holds no private key, only %s; %s", from, blockTypes(keyPEM), remedy)
	}
	if keyPEM, err = decryptKey(keyPEM, passphrase); err != nil {
		return c, "", fmt.Errorf("%s: %w", from, err)
	}
	if c, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return c, "", keyPairError(certFile, cert, from, err)
	}
	warning, err = checkDates(cert, c.Leaf, now)
	return c, warning, err
}

// readFile reads a file of the operator's, without the byte order mark that an editor
// may have put in front.
func readFile(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	return bytes.TrimPrefix(b, byteOrderMark), err
}

var byteOrderMark = []byte("\ufeff")

// readCertificates reads a file of PEM as crypto/x509 knows it. Byte order marks, which
// may stand between files that were joined too, are left out. The labels X509 CERTIFICATE
// and TRUSTED CERTIFICATE, which OpenSSL takes too (PEM_bytes_read_bio), become
// CERTIFICATE; what OpenSSL adds to a trusted one stands behind the certificate's DER and
// is cut off (d2i_X509_AUX).
func readCertificates(name string) ([]byte, error) {
	b, err := readFile(name)
	b = bytes.ReplaceAll(b, byteOrderMark, nil)
	if !bytes.Contains(b, []byte("-----BEGIN TRUSTED CERTIFICATE-----")) && !bytes.Contains(b, []byte("-----BEGIN X509 CERTIFICATE-----")) {
		return b, err
	}
	var known []byte
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return known, err
		}
		if block.Type == "TRUSTED CERTIFICATE" || block.Type == "X509 CERTIFICATE" {
			var certificate asn1.RawValue
			if _, bad := asn1.Unmarshal(block.Bytes, &certificate); bad == nil {
				block.Bytes = certificate.FullBytes
			}
			block.Type = "CERTIFICATE"
		}
		known = append(known, pem.EncodeToMemory(block)...)
	}
}

// readPEM reads a file that must be PEM.
func readPEM(file string) ([]byte, error) {
	b, err := readCertificates(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file; check the name, and that the folder above it may be entered", file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: this user (uid %d) may not read the file; change its owner or group, or hand it over with systemd's LoadCredential", file, os.Getuid())
	case err != nil:
		return nil, fmt.Errorf("%s: %w; name a PEM file", file, errors.Unwrap(err)) // a *fs.PathError says the name otherwise
	case len(bytes.TrimSpace(b)) == 0:
		return nil, fmt.Errorf("%s: the file is empty; write the certificate or key into it in PEM", file)
	}
	if block, _ := pem.Decode(b); block != nil {
		return b, nil
	}
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		return nil, fmt.Errorf("%s: the PEM is cut off or damaged; copy the whole file again, from -----BEGIN to -----END", file)
	}
	if b[0] == 0x30 { // an ASN.1 sequence
		return nil, fmt.Errorf("%s: the file is binary (DER or PKCS #12), not PEM; convert it with: openssl x509 -inform der -in %s -out cert.pem, or openssl pkcs12 -in %s -nodes -out cert.pem", file, file, file)
	}
	return nil, fmt.Errorf("%s: the file is not PEM; it must hold -----BEGIN CERTIFICATE----- or a private key", file)
}

// hasBlock says whether a PEM block of this kind is there; kind is the end of its
// type, as in RSA PRIVATE KEY.
func hasBlock(b []byte, kind string) bool {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return false
		}
		if strings.HasSuffix(block.Type, kind) {
			return true
		}
	}
}

// blockTypes names what a PEM file holds.
func blockTypes(b []byte) string {
	var types []string
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return strings.Join(types, ", ")
		}
		if !slices.Contains(types, strconv.Quote(block.Type)) {
			types = append(types, strconv.Quote(block.Type))
		}
	}
}

// keyPairError says in other words what crypto/tls found. cert and key are what its
// text begins with.
func keyPairError(certFile, cert, key string, err error) error {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	switch {
	case strings.Contains(text, "does not match"):
		return fmt.Errorf("%s: the private key does not belong to the first certificate in %s; the server's own certificate must stand first, its issuers after it, and the key must be its own", key, certFile)
	case strings.Contains(text, "parse private key"), strings.Contains(text, "unknown private key"):
		return fmt.Errorf("%s: the private key is damaged or of a kind that is not known; RSA, ECDSA and Ed25519 are", key)
	}
	return fmt.Errorf("%s: %s; copy the certificate again", cert, text)
}

// checkDates judges when a certificate is valid. cert is what its text begins with.
func checkDates(cert string, leaf *x509.Certificate, now time.Time) (warning string, err error) {
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch left := leaf.NotAfter.Sub(now); {
	case left < 0:
		return "", fmt.Errorf("%s: the certificate has expired on %s; renew it (certbot renew), clients would refuse it", cert, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return "", fmt.Errorf("%s: the certificate is not valid before %s, and it is %s now; check the clock of this machine", cert, day(leaf.NotBefore), day(now))
	case left < 14*24*time.Hour && leaf.NotAfter.Sub(leaf.NotBefore) > 30*24*time.Hour:
		warning = fmt.Sprintf("%s: the certificate expires on %s, in %d days; renew it", cert, day(leaf.NotAfter), int(left.Hours()/24))
	}
	return warning, nil
}

// checkHost says whether the certificate covers the host that browsers ask for.
func checkHost(leaf *x509.Certificate, host string) error {
	if leaf.VerifyHostname(host) == nil {
		return nil
	}
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	covered := "no name at all"
	if len(names) > 0 {
		covered = strconv.Quote(strings.Join(names, ", "))
	}
	return fmt.Errorf("the certificate does not cover REVERB_HOST=%q, only %s; browsers would refuse it: get one for that host, or correct REVERB_HOST", host, covered)
}

// loadCA reads certificates in PEM to verify peers with.
func loadCA(file string) (*x509.CertPool, error) {
	b, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: the file holds no certificate that can be read, only %s; name a PEM file of certificates", file, blockTypes(b))
	}
	return pool, nil
}

// --- Encrypted keys ---

// decryptKey decrypts the private key in keyPEM if it is encrypted.
func decryptKey(keyPEM []byte, passphrase string) ([]byte, error) {
	for rest := keyPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return keyPEM, nil
		}
		pkcs8 := block.Type == "ENCRYPTED PRIVATE KEY"
		//lint:ignore SA1019 the operator has such a key; it is decrypted, never made
		if !pkcs8 && !x509.IsEncryptedPEMBlock(block) {
			continue
		}
		if passphrase == "" {
			return nil, errors.New("the private key is encrypted; set REVERB_TLS_PASSPHRASE or REVERB_TLS_PASSPHRASE_FILE")
		}
		if pkcs8 {
			der, err := decryptPKCS8(block.Bytes, passphrase)
			if err != nil {
				return nil, err
			}
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
		}
		//lint:ignore SA1019 see above
		der, err := x509.DecryptPEMBlock(block, []byte(passphrase))
		if err != nil {
			return nil, errPassphrase
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
	}
}

var errPassphrase = errors.New("the passphrase in REVERB_TLS_PASSPHRASE does not open the private key")

// maxKeyIterations bounds what a key file can make us compute; OpenSSL uses 2,048.
const maxKeyIterations = 10_000_000

// decryptPKCS8 opens an EncryptedPrivateKeyInfo (RFC 5958 §3) that uses PBES2 with
// PBKDF2 and AES in CBC mode (RFC 8018 §6.2), which is what OpenSSL writes.
func decryptPKCS8(der []byte, passphrase string) ([]byte, error) {
	other := errors.New("the private key is encrypted in a way that is not supported; decrypt it once with: openssl pkey -in KEY -out NEWKEY")
	var info struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters struct{ KDF, Cipher pkix.AlgorithmIdentifier }
		}
		Data []byte
	}
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, other
	}
	var kdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	var iv []byte
	if _, err := asn1.Unmarshal(info.Algorithm.Parameters.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, other
	}
	if _, err := asn1.Unmarshal(info.Algorithm.Parameters.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, other
	}
	const pbes2, pbkdf2ID = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12"
	prf := map[string]func() hash.Hash{"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New,
		"1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New}[kdf.PRF.Algorithm.String()]
	keyBytes := map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24,
		"2.16.840.1.101.3.4.1.42": 32}[info.Algorithm.Parameters.Cipher.Algorithm.String()]
	if info.Algorithm.ID.String() != pbes2 || info.Algorithm.Parameters.KDF.Algorithm.String() != pbkdf2ID || prf == nil || keyBytes == 0 ||
		kdf.Iterations < 1 || kdf.Iterations > maxKeyIterations || len(iv) != aes.BlockSize || len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, other
	}
	key, err := pbkdf2.Key(prf, passphrase, kdf.Salt, kdf.Iterations, keyBytes)
	if err != nil {
		return nil, other
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, other
	}
	plain := make([]byte, len(info.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, info.Data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize || plain[0] != 0x30 {
		return nil, errPassphrase
	}
	if _, err := x509.ParsePKCS8PrivateKey(plain[:len(plain)-pad]); err != nil {
		return nil, errPassphrase
	}
	return plain[:len(plain)-pad], nil
}

// --- Finding ---

// certificateFolders are where Laravel Herd and Valet put the certificates that
// they make (Reverb: src/Certificate.php; Herd for Windows; valet-linux).
func certificateFolders(home string) []string {
	if home == "" {
		return nil
	}
	return []string{
		filepath.Join(home, "Library", "Application Support", "Herd", "config", "valet", "Certificates"),
		filepath.Join(home, ".config", "herd", "config", "valet", "Certificates"),
		filepath.Join(home, ".config", "valet", "Certificates"),
		filepath.Join(home, ".valet", "Certificates"),
	}
}

// findCertificate looks for the certificate of a host of Herd's or Valet's. An
// address is no such host.
func findCertificate(host, home string) (certFile, keyFile string, ok bool) {
	if host == "" || net.ParseIP(strings.Trim(host, "[]")) != nil || strings.ContainsAny(host, `/\:`) || host[0] == '.' {
		return "", "", false
	}
	for _, dir := range certificateFolders(home) {
		cert, key := filepath.Join(dir, host+".crt"), filepath.Join(dir, host+".key")
		if isFile(cert) && isFile(key) {
			return cert, key, true
		}
	}
	return "", "", false
}

func isFile(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}

// --- Renewal ---

// certificates serves the newest certificate that is right.
type certificates struct {
	current atomic.Pointer[tls.Config]

	mu       sync.Mutex
	settings config.TLS
	seen     string // what the files looked like when they were last read
	failed   string // what they looked like when they could not be used
}

func newCertificates(s config.TLS, first *tls.Config) *certificates {
	c := &certificates{settings: s, seen: stateOf(&s)}
	c.current.Store(first)
	return c
}

// config is what listeners are given: every handshake takes the certificate that is
// in force then.
func (c *certificates) config() *tls.Config {
	first := c.current.Load()
	return &tls.Config{
		MinVersion: first.MinVersion,
		NextProtos: first.NextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load(), nil
		},
	}
}

// notAfter is when the certificate in force expires.
func (c *certificates) notAfter() time.Time { return c.current.Load().Certificates[0].Leaf.NotAfter }

// state tells versions of the files apart, through symbolic links too.
func stateOf(s *config.TLS) string {
	var b strings.Builder
	for _, name := range []string{s.CertFile, s.KeyFile, s.CAFile} {
		if fi, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%s %d %d;", name, fi.ModTime().UnixNano(), fi.Size())
		}
	}
	return b.String()
}

// renewal is what a look at the files brought.
type renewal struct {
	leaf    *x509.Certificate // nil: nothing changed
	file    string
	warning string
	err     error // the files changed, but the old certificate is kept
}

// reload reads the files again, with new settings if s is not nil, whether they
// have changed or not.
func (c *certificates) reload(s *config.TLS, now time.Time) renewal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == nil {
		s = &c.settings
	}
	state := stateOf(s)
	made, warning, err := loadTLS(s, now)
	if err != nil {
		c.failed = state
		return renewal{file: s.CertFile, err: err}
	}
	c.settings, c.seen, c.failed = *s, state, ""
	c.current.Store(made)
	return renewal{leaf: made.Certificates[0].Leaf, file: s.CertFile, warning: warning}
}

// poll reads the files again if they have changed since. A version that cannot be
// used is reported once, and only when it looks the same twice: a certificate and
// its key are not replaced in the same instant.
func (c *certificates) poll(before string, now time.Time) (state string, r renewal) {
	c.mu.Lock()
	state = stateOf(&c.settings)
	same := state == c.seen || state == c.failed || state != before
	c.mu.Unlock()
	if same {
		return state, renewal{}
	}
	return state, c.reload(nil, now)
}
