package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"reverb/internal/laravel"
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
		if b = laravel.Member(b, name); b == nil {
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
			version, err := laravel.TLSVersion(bits)
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
			c.forceTLS()
		}
		c.Notes = append(c.Notes, "serving TLS with "+show.Text(dump.CertFile)+", as "+who+" says")
	}
}

// forceTLS shows the TLS options of the application's configuration, which are in force, with their
// lines.
func (c *Config) forceTLS() {
	reverb, all := c.application.reverb, c.inForce
	c.inForce = nil
	for _, v := range Variables() {
		i := slices.IndexFunc(all, func(s Setting) bool { return s.Name == v.Name })
		key := laravel.TLSKeys()[v.Name]
		value := reverb.Get("servers", "reverb", "options", "tls", key)
		switch text := value.Text(); {
		case key != "" && text != "" && (key != "cafile" || c.TLS.CAFile != ""):
			c.inForce = append(c.inForce, Setting{Name: v.Name, Value: text, secret: v.Secret,
				given: v.Name, Origin: fmt.Sprintf("%s:%d, tls.%s", reverb.File, value.Line, key)})
		case i >= 0:
			c.inForce = append(c.inForce, all[i])
		}
	}
}
