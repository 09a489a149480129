package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"reverb/internal/lib/show"
)

// skewMax is how far the clocks of a server and this machine may differ before Check tells of it.
// Larger: Check misses a clock that nobody sets. Smaller: good clocks look wrong, because the
// difference includes the time of an answer on its way.
const skewMax = 30 * time.Second

// Public is the address where browsers and Laravel look for the server of this machine, and
// what a check of the address must know of that server. All fields are constant.
type Public struct {
	Server  Server        // the public address, by its name; if App has no key, nothing is tried
	Port    int           // of the public address
	OwnPort int           // on which this machine's server listens
	OwnTLS  bool          // that server speaks TLS there
	Both    bool          // that server has an address without TLS too
	Window  time.Duration // how far a request's time may be off; 0: any time is right
	Running bool          // that server runs, or may
}

// Check does what a browser and Laravel do: it subscribes and publishes through the public address.
// It tells what it finds: the word ok, note (worth a look) or FAIL (does not work), and a sentence
// that is safe to print.
func (p *Public) Check(ctx context.Context, now func() time.Time,
	tell func(word, format string, args ...any),
) {
	public := "public address: " + scheme(p.Server.TLS) + "://" + p.Server.Address + p.Server.Path
	if p.Port == p.OwnPort && p.Server.TLS != p.OwnTLS && !p.Both {
		serves := scheme(p.OwnTLS)
		tell("FAIL", "%s, but this server speaks %s on port %d; set REVERB_SCHEME=%s, or give it "+
			"a certificate with REVERB_TLS_CERT", public, serves, p.OwnPort, serves)
		return
	}
	if p.Server.App.Key == "" {
		return
	}
	took, skew, err := p.Server.measure(ctx, now)
	switch {
	case err != nil && !p.Running:
		tell("note", "%s: %s; no server runs here yet, so start it and check again",
			public, show.Line(err.Error()))
		return
	case err != nil:
		tell("FAIL", "%s: %s; %s", public, show.Line(err.Error()), p.hint(err))
		return
	}
	tell("ok", "%s: an event came back in %v", public, took.Round(100*time.Microsecond))
	skew = skew.Round(time.Second)
	if skew.Abs() > skewMax && p.Window > 0 {
		tell("note", "clock: the server's and this machine's differ by %v; requests are refused "+
			"from %v on (REVERB_AUTH_WINDOW): timedatectl set-ntp true", skew, p.Window)
	} else {
		tell("ok", "clock: the same as the public address's, to %v", max(skew.Abs(), time.Second))
	}
}

// scheme is the scheme of URLs, with or without TLS.
func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

// hint says what to do when the round trip fails.
func (p *Public) hint(err error) string {
	proxied := p.Port != p.OwnPort
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "the certificate's issuer is not trusted on this machine; serve the whole chain " +
			"(fullchain.pem), or trust the issuer"
	case errors.As(err, new(*net.DNSError)):
		return "REVERB_HOST must resolve on this machine too; add it to DNS or /etc/hosts"
	case proxied && errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("a proxy must forward port %d to %d (deploy/nginx.conf)",
			p.Port, p.OwnPort)
	case proxied:
		path := p.Server.Path
		return fmt.Sprintf("the proxy on port %d must forward %s/app and %s/apps with Upgrade to "+
			"port %d (deploy/nginx.conf)", p.Port, path, path, p.OwnPort)
	}
	return "compare REVERB_HOST, REVERB_PORT and REVERB_SCHEME with where the server is"
}
