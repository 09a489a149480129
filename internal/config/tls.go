package config

import (
	"cmp"
	"errors"
	"strconv"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// TLS says which certificate is served and how. It never changes.
type TLS struct {
	CertFile   string // PEM; may hold the key too
	KeyFile    string // empty: CertFile holds the key
	Passphrase string
	CAFile     string // clients must show a certificate signed by one of these
	MinVersion string // 1.2 or 1.3
	Ciphers    string // of TLS 1.2
	Host       string // the name that the certificate must cover; empty: any
}

// readDumpTLS takes the TLS options of PHP's stream context from a dump of config('reverb'):
// servers.reverb.options.tls. The variables count before them.
func (c *Config) readDumpTLS(given string, b []byte) {
	for _, name := range []string{"servers", "reverb", "options", "tls"} {
		if b = memberOf(b, name); b == nil {
			return
		}
	}
	dump, verify := TLS{MinVersion: c.TLS.MinVersion, Ciphers: c.TLS.Ciphers}, true
	var odd []string
	jsonraw.Object(b, func(key, value []byte) { // an empty list if nothing is set
		s, _ := jsonraw.Scalar(value)
		switch name := string(key); name {
		case "local_cert":
			dump.CertFile = s
		case "local_pk":
			dump.KeyFile = s
		case "passphrase":
			dump.Passphrase = s
		case "cafile":
			dump.CAFile = s
		case "ciphers":
			dump.Ciphers = cmp.Or(c.TLS.Ciphers, s)
		case "verify_peer":
			verify = string(value) == "true"
		case "crypto_method":
			bits, _ := strconv.Atoi(s)
			version, err := tlsVersionOfPHP(bits)
			if err != nil {
				c.Problem(given, "tls.crypto_method="+show.Text(s)+" "+err.Error())
			}
			dump.MinVersion = max(c.TLS.MinVersion, version)
		default:
			odd = append(odd, name)
		}
	})
	for _, name := range odd {
		c.Warn("%s: tls.%s means nothing here", given, show.Text(name))
	}
	if err := redact.NoName(dump.CertFile + dump.KeyFile + dump.CAFile); err != nil {
		c.Problem(given, "tls: "+err.Error())
		return
	}
	if !verify {
		dump.CAFile = ""
	}
	if c.TLS.CertFile == "" && dump.CertFile != "" {
		c.TLS = dump
		who := "the list of apps"
		if given == c.application.reverb.File {
			who = given
		}
		c.Notes = append(c.Notes, "serving TLS with "+show.Text(dump.CertFile)+", as "+who+" says")
	}
}

// tlsVersionOfPHP reads STREAM_CRYPTO_METHOD_…_SERVER, a set of bits, as PHP dumps
// it: 32 is TLS 1.2, 64 is TLS 1.3; older ones are not served.
func tlsVersionOfPHP(bits int) (string, error) {
	switch {
	case bits&32 != 0:
		return "1.2", nil
	case bits&64 != 0:
		return "1.3", nil
	}
	return "", errors.New("allows only TLS 1.0 and 1.1, which are not served; leave it out or " +
		"allow TLS 1.2")
}
