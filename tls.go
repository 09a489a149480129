package main

// TLS: certificates, and how they are renewed. crypto/tls has the handshake and the records. The
// same loops serve connections with and without TLS (internal/lib/poll, layered).
//
// Sections:
//
//	Settings        versions and cipher suites, also in the words of Laravel and PHP
//	Loading         from files to a certificate; what is wrong with it, also its dates, with
//	                the remedy; the reader of the configuration's files;
//	                internal/lib/pemfile reads PEM and opens encrypted keys
//	Renewal         new files are taken without dropping a connection; main.go, "Running",
//	                says when
//	Judgement       which certificate a start takes, and what is wrong with it

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/config"
	"reverb/internal/lib/pemfile"
	"reverb/internal/lib/plainfile"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/lib/valet"
)

// --- Settings ---

// parseTLSVersion reads 1.2 or 1.3; TLS may stand in front.
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
	for name := range strings.FieldsFuncSeq(list,
		func(r rune) bool { return r == ',' || r == ':' || r == ' ' }) {
		i := slices.IndexFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool {
			return c.Name == name || slices.Contains(c.SupportedVersions, tls.VersionTLS12) &&
				openSSLName(c.Name) == name
		})
		if i < 0 {
			return nil, fmt.Errorf("the cipher suite %q is not known or not safe; "+
				"names are like ECDHE-RSA-AES128-GCM-SHA256 or "+
				"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
		ids = append(ids, tls.CipherSuites()[i].ID)
	}
	return ids, nil
}

// openSSLName turns TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 into
// ECDHE-RSA-AES128-GCM-SHA256.
func openSSLName(name string) string {
	name = strings.NewReplacer("TLS_", "", "WITH_", "", "AES_128", "AES128", "AES_256", "AES256",
		"POLY1305_SHA256", "POLY1305").Replace(name)
	return strings.ReplaceAll(name, "_", "-")
}

// --- Loading ---

// loadTLS reads the files of the settings. warning tells of something that works, but will soon
// fail.
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

// loadCertificate reads a certificate chain and its private key in PEM. If keyFile is empty,
// certFile holds both. The errors name the variable, the file and the remedy.
func loadCertificate(certFile, keyFile, passphrase string, now time.Time) (c tls.Certificate,
	warning string, err error) {
	certPEM, err := pemfile.Read(certFile)
	if err != nil {
		return c, "", fmt.Errorf("REVERB_TLS_CERT: %w", err)
	}
	cert := "REVERB_TLS_CERT: " + certFile
	if !pemfile.Has(certPEM, "CERTIFICATE") {
		return c, "", fmt.Errorf("%s: the file holds no certificate, only %s; "+
			"name the file of the certificate chain (certbot calls it fullchain.pem)", cert,
			pemfile.Types(certPEM))
	}
	keyPEM, from := certPEM, cert
	if keyFile != "" {
		from = "REVERB_TLS_KEY: " + keyFile
		if keyPEM, err = pemfile.Read(keyFile); err != nil {
			return c, "", fmt.Errorf("REVERB_TLS_KEY: %w", err)
		}
	}
	if !pemfile.Has(keyPEM, "PRIVATE KEY") {
		remedy := "name the file of the private key in REVERB_TLS_KEY " +
			"(certbot calls it privkey.pem)"
		return c, "", fmt.Errorf("%s: the file holds no private key, only %s; %s", from,
			pemfile.Types(keyPEM), remedy)
	}
	switch keyPEM, err = pemfile.OpenKey(keyPEM, passphrase); err {
	case nil:
	case pemfile.ErrNoPassphrase:
		return c, "", fmt.Errorf("%s: %w; set REVERB_TLS_PASSPHRASE or REVERB_TLS_PASSPHRASE_FILE",
			from, err)
	case pemfile.ErrPassphrase:
		return c, "", fmt.Errorf("%s: the passphrase in REVERB_TLS_PASSPHRASE does not open the "+
			"private key", from)
	default:
		return c, "", fmt.Errorf("%s: %w", from, err)
	}
	if c, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return c, "", keyPairError(certFile, cert, from, err)
	}
	warning, err = checkDates(cert, c.Leaf, now)
	return c, warning, err
}

// files is the way to the operator's files for the configuration. Getwd prefers the name in PWD,
// which may be a link to the newest deployment.
func files() config.Files {
	folder, _ := os.Getwd() // without it no Laravel application is looked for
	return config.Files{Folder: folder, Exists: plainfile.Exists,
		User: os.Getuid(), Read: func(name string) ([]byte, error) {
			return plainfile.Text(name, maxFileBytes)
		}}
}

// maxFileBytes bounds a file of apps, of variables or of a secret. Larger: a file that grows by
// mistake takes more memory at each SIGHUP. Smaller: a long list of apps is refused; 16 MiB have
// about 100,000.
const maxFileBytes = 16 << 20

// keyPairError says in better words what crypto/tls has found. Its text begins with cert or key.
func keyPairError(certFile, cert, key string, err error) error {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	switch {
	case strings.Contains(text, "does not match"):
		return fmt.Errorf("%s: the private key does not belong to the first certificate in %s; "+
			"the server's own certificate must stand first, its issuers after it, "+
			"and the key must be its own", key, certFile)
	case strings.Contains(text, "parse private key"), strings.Contains(text, "unknown private key"):
		return fmt.Errorf("%s: the private key is damaged or of a kind that is not known; "+
			"RSA, ECDSA and Ed25519 are", key)
	}
	return fmt.Errorf("%s: %s; copy the certificate again", cert, text)
}

// checkDates judges the dates of a certificate. Its texts begin with cert.
func checkDates(cert string, leaf *x509.Certificate, now time.Time) (warning string, err error) {
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	switch left := leaf.NotAfter.Sub(now); {
	case left < 0:
		return "", fmt.Errorf("%s: the certificate has expired on %s; renew it (certbot renew), "+
			"clients would refuse it", cert, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return "", fmt.Errorf("%s: the certificate is not valid before %s, and it is %s now; "+
			"check the clock of this machine", cert, day(leaf.NotBefore), day(now))
	case left < 14*24*time.Hour && leaf.NotAfter.Sub(leaf.NotBefore) > 30*24*time.Hour:
		warning = fmt.Sprintf("%s: the certificate expires on %s, in %d days; renew it", cert,
			day(leaf.NotAfter), int(left.Hours()/24))
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
	return fmt.Errorf("the certificate does not cover REVERB_HOST=%q, only %s; "+
		"browsers would refuse it: get one for that host, or correct REVERB_HOST", host, covered)
}

// loadCA reads certificates in PEM, by which peers are verified.
func loadCA(file string) (*x509.CertPool, error) {
	b, err := pemfile.Read(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: the file holds no certificate that can be read, only %s; "+
			"name a PEM file of certificates", file, pemfile.Types(b))
	}
	return pool, nil
}

// --- Renewal ---

// certificates serves the newest certificate that can be used.
type certificates struct {
	current atomic.Pointer[tls.Config]

	mu       sync.Mutex
	settings config.TLS
	seen     string // the state of the files when they were last read
	failed   string // the last state that could not be used
}

func newCertificates(s config.TLS, first *tls.Config) *certificates {
	c := &certificates{settings: s, seen: stateOf(&s)}
	c.current.Store(first)
	return c
}

// serving returns the settings for listeners. Every handshake takes the certificate that is in
// force then.
func (c *certificates) serving() *tls.Config {
	first := c.current.Load()
	return &tls.Config{
		MinVersion: first.MinVersion,
		NextProtos: first.NextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load(), nil
		},
	}
}

// notAfter is the time at which the certificate in force expires.
func (c *certificates) notAfter() time.Time {
	return c.current.Load().Certificates[0].Leaf.NotAfter
}

// stateOf distinguishes versions of the files, also behind symbolic links.
func stateOf(s *config.TLS) string {
	var b strings.Builder
	for _, name := range []string{s.CertFile, s.KeyFile, s.CAFile} {
		if fi, err := os.Stat(name); err == nil {
			fmt.Fprintf(&b, "%s %d %d;", name, fi.ModTime().UnixNano(), fi.Size())
		}
	}
	return b.String()
}

// renewal is the result of a look at the files.
type renewal struct {
	leaf    *x509.Certificate // nil: nothing changed
	file    string
	warning string
	err     error // the files changed, but the old certificate stays in force
}

// tell tells the log.
func (r renewal) tell(log *slog.Logger) {
	switch {
	case r.err != nil:
		log.Error("the new certificate cannot be used, the old one is kept: " + r.err.Error())
	case r.leaf != nil:
		log.Info("certificate in force", "file", r.file, "names",
			strings.Join(r.leaf.DNSNames, ","), "until",
			r.leaf.NotAfter.UTC().Format(time.DateOnly))
		if r.warning != "" {
			log.Warn(r.warning)
		}
	}
}

// reload reads the files again, also if they have not changed. If s is not nil, it has the new
// settings.
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

// poll reads the files again if they have changed. It reports a version that cannot be used once,
// and only if the files look the same twice: a certificate and its key are not replaced in the same
// instant.
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

// --- Judgement ---

// judgeTLS looks for a certificate if none is given, and judges the certificate and its settings.
func judgeTLS(c *config.Config, now time.Time) {
	for _, name := range []string{"REVERB_TLS_CERT", "REVERB_TLS_KEY", "REVERB_TLS_CA"} {
		if redact.Pasted(c.Setting(name).Value) != "" {
			return // a problem of the configuration
		}
	}
	certified := c.TLS // the settings by which the files are judged
	if _, err := parseTLSVersion(c.TLS.MinVersion); err != nil {
		certified.MinVersion = "1.2"
		c.Problem("REVERB_TLS_MIN_VERSION="+config.Masked(c.TLS.MinVersion), err.Error())
	}
	if _, err := parseCipherSuites(c.TLS.Ciphers); err != nil {
		certified.Ciphers = ""
		c.Problem("REVERB_TLS_CIPHERS="+config.Masked(c.TLS.Ciphers), err.Error())
	}
	if c.TLS.CertFile == "" {
		for _, lone := range [][2]string{{"REVERB_TLS_KEY", c.TLS.KeyFile},
			{"REVERB_TLS_CA", c.TLS.CAFile}} {
			if name, value := lone[0], lone[1]; value != "" {
				c.Problem(name+"="+config.Masked(value),
					"there is no certificate for it; set REVERB_TLS_CERT too")
			}
		}
		takeCertificate(c)
	}
	if c.TLS.CertFile == "" {
		if c.Listen.Plain != "" {
			c.Problem("REVERB_PLAIN_LISTEN="+config.Masked(c.Listen.Plain),
				"without a certificate the main address is plain already; "+
					"set REVERB_TLS_CERT or leave this out")
		}
		return
	}
	c.TLS.Host = c.Public.Host
	if ip := net.ParseIP(strings.Trim(c.Public.Host, "[]")); ip != nil ||
		c.Public.Host == "localhost" {
		// Laravel on the same machine does not verify; browsers use another name
		c.TLS.Host = ""
	}
	certified.CertFile, certified.KeyFile, certified.Host = c.TLS.CertFile, c.TLS.KeyFile,
		c.TLS.Host
	_, warning, err := loadTLS(&certified, now)
	if err != nil {
		c.Problem("", err.Error())
	}
	if warning != "" {
		c.Warn("%s", warning)
	}
	if err == nil {
		warnPublicTLS(c, now)
	}
}

// warnPublicTLS warns if the server has TLS and the public address contradicts that. Behind a proxy
// browsers may come without TLS; another port or REVERB_TRUSTED_PROXIES shows a proxy. A host on
// loopback is for Laravel on the same machine, which does not verify.
func warnPublicTLS(c *config.Config, now time.Time) {
	proxied := c.Public.Port != c.Listen.Port &&
		(c.Listen.ProxyProtocol || c.Setting("REVERB_TRUSTED_PROXIES").Value != "")
	if c.Public.Scheme == "http" && c.Listen.Plain == "" && !proxied {
		c.Warn("REVERB_SCHEME=http, but with REVERB_TLS_CERT=%s the server speaks TLS alone; "+
			"set REVERB_SCHEME=https, or add an address without TLS with REVERB_PLAIN_LISTEN "+
			"(only a proxy that takes http and speaks TLS to this server makes it right)",
			show.Quoted(c.TLS.CertFile))
	}
	ip := net.ParseIP(c.Public.Host)
	if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		return
	}
	cert, _, err := loadCertificate(c.TLS.CertFile, c.TLS.KeyFile, c.TLS.Passphrase, now)
	if err == nil {
		err = checkHost(cert.Leaf, c.Public.Host)
	}
	if err != nil {
		c.Warn("REVERB_TLS_CERT=%s: %v", show.Quoted(c.TLS.CertFile), err)
	}
}

// takeCertificate takes the certificate that Herd or Valet has made for the public host.
// REVERB_SCHEME=http says that browsers come without TLS, but --hostname asks for this host now, as
// in artisan reverb:start.
func takeCertificate(c *config.Config) {
	cert, key, ok := valet.Find(c.Public.Host,
		cmp.Or(c.Getenv("HOME"), c.Getenv("USERPROFILE")), plainfile.Exists)
	if !ok {
		return
	}
	if c.Public.Scheme == "http" && c.Setting("REVERB_HOST").Origin != "--hostname" {
		c.Notes = append(c.Notes, fmt.Sprintf("the certificate %s is not used, "+
			"because REVERB_SCHEME=http; set it to https, or give --hostname, to serve TLS", cert))
		return
	}
	c.TLS.CertFile, c.TLS.KeyFile = cert, key
	c.Notes = append(c.Notes, fmt.Sprintf(
		"serving TLS with %s, which Herd or Valet has made for %s", cert, show.Text(c.Public.Host)))
}

// checkCertificate prints what the certificate is for, and until when. add takes a line of check.
func checkCertificate(s *config.TLS, now time.Time, add func(word, format string, args ...any)) {
	if s.CertFile == "" {
		return // the check of the public address says whether a proxy must have TLS
	}
	cert, _, err := loadCertificate(s.CertFile, s.KeyFile, s.Passphrase, now)
	if err != nil {
		return // a problem of the configuration, printed above
	}
	leaf := cert.Leaf
	verdict, days := "ok", int(leaf.NotAfter.Sub(now).Hours()/24)
	if days < 14 {
		verdict = "note"
	}
	if advice := poll.TLSAdvice(); advice != "" {
		add("note", "TLS: %s", advice)
	}
	add(verdict, "certificate: %s, for %s, until %s (%d days)", s.CertFile,
		show.Text(strings.Join(leaf.DNSNames, ", ")), leaf.NotAfter.UTC().Format(time.DateOnly),
		days)
}
