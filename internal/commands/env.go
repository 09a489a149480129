package commands

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/aliases"
	"reverb/internal/config"
	"reverb/internal/lib/credentials"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/show"
)

// Env prints the lines for .env: an app of c, and the address of its server. If c has no app, the
// app is a fresh one. If c has several apps, it is the one that --app names, or the first, and note
// says so. With --from, the lines are a translation of another server's variables. The error says
// that there is no such app or server, or that w is the .env in force and has an app already; then
// nothing is printed.
func Env(w io.Writer, c *config.Config, l *Line) (note string, err error) {
	if from := l.Get("from"); from != "" {
		return "", translate(w, c, from)
	}
	a := &config.App{}
	if id := l.Get("app"); id != "" {
		i := slices.IndexFunc(c.Apps, func(a *config.App) bool { return a.ID == id })
		if i < 0 {
			return "", fmt.Errorf("there is no app %s", show.Quoted(id))
		}
		a = c.Apps[i]
	} else if len(c.Apps) > 0 {
		a = c.Apps[0]
		if n := len(c.Apps); n > 1 {
			note = fmt.Sprintf("the lines are those of app %s, the first of %d; --app ID names "+
				"another", show.Text(a.ID), n)
		}
	} else {
		a.ID, a.Key, a.Secret = credentials.New()
	}
	name := c.Setting("REVERB_ENV_FILE").Value
	info := fileOf(w)
	if line := c.InEnvFile("REVERB_APP_KEY"); line > 0 && info != nil {
		if in, err := os.Stat(name); err == nil && os.SameFile(in, info) {
			return "", fmt.Errorf("%s has an app already (REVERB_APP_KEY on line %d), so nothing "+
				"was added; reverb env alone prints the lines", show.Text(name), line)
		}
	}
	if info != nil && info.Mode().IsRegular() && info.Size() > 0 {
		fmt.Fprintln(w) // the last line of the file may lack its line feed
	}
	_, err = io.WriteString(w, envLines(c, a))
	return note, err
}

// translate prints the lines for .env that mean here what the environment means for another server,
// one of the choices of --from.
func translate(w io.Writer, c *config.Config, from string) error {
	lines := aliases.Of(from).Translate(c.Names, c.Lookup)
	if len(lines) == 0 {
		return fmt.Errorf("no variable of %s is set", from)
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// WithoutApp is the text of start when there is no app. The program has no built-in app, because
// other people would know its secret.
func WithoutApp() string {
	id, key, secret := credentials.New()
	return fmt.Sprintf("reverb: there is no app to serve. "+
		"In a Laravel application run this in its folder, where .env is.\n"+
		`Otherwise put these lines, made just now at random, into .env or the environment:

REVERB_APP_ID=%s
REVERB_APP_KEY=%s
REVERB_APP_SECRET=%s

Or try things out on this machine with: reverb start --dev
`, id, key, secret)
}

// fileOf describes the file that w writes to; nil: w is not a file.
func fileOf(w io.Writer) os.FileInfo {
	f, ok := w.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	return info
}

// envLines has the lines of an app, in the order of Laravel's installer (laravel/reverb:
// src/Console/Commands/InstallCommand.php). The variables that say where to listen are among them
// if they were set.
func envLines(c *config.Config, a *config.App) string {
	var b strings.Builder
	add := func(name, value string) { fmt.Fprintf(&b, "%s=%s\n", name, dotenv.Quote(value)) }
	add("BROADCAST_CONNECTION", "reverb")
	b.WriteString("\n")
	add("REVERB_APP_ID", a.ID)
	add("REVERB_APP_KEY", a.Key)
	add("REVERB_APP_SECRET", a.Secret)
	host, port, scheme := public(c, cmp.Or(c.Listen.Port, 8080))
	add("REVERB_HOST", host)
	add("REVERB_PORT", port)
	add("REVERB_SCHEME", scheme)
	for _, name := range []string{"HOST", "PORT", "PATH"} {
		name = "REVERB_SERVER_" + name
		if s := c.Setting(name); !c.Dev && s.Origin != "default" && s.Value != "" {
			add(name, s.Value)
		}
	}
	b.WriteString("\n")
	for _, name := range []string{"APP_KEY", "HOST", "PORT", "SCHEME"} {
		fmt.Fprintf(&b, "VITE_REVERB_%s=\"${REVERB_%s}\"\n", name, name)
	}
	return b.String()
}

// public is the address at which browsers find a server that listens on port. Parts that were not
// set are those of the address that the server listens on.
func public(c *config.Config, port int) (host, portText, scheme string) {
	scheme = "http"
	if c.TLS.CertFile != "" {
		scheme = "https"
	}
	host = c.Listen.Host
	if host == "" || net.ParseIP(host).IsUnspecified() || strings.HasPrefix(host, "unix:") {
		host = "localhost"
	}
	if c.Dev { // the server listens on loopback only; .env may name another host
		return "127.0.0.1", strconv.Itoa(port), scheme
	}
	if c.Public.Host != "" {
		host = c.Public.Host
	}
	if c.Public.Scheme != "" {
		scheme = c.Public.Scheme
	}
	if c.Public.Host != "" && scheme == "https" && c.TLS.CertFile == "" {
		port = 443 // the port of a proxy that has the certificate
	}
	return host, strconv.Itoa(cmp.Or(c.Public.Port, port)), scheme
}
