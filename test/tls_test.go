package test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// authority is a certificate that signs others.
type authority struct {
	t      *testing.T
	cert   *x509.Certificate
	key    crypto.Signer
	serial int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.key = ec
	template := &x509.Certificate{SerialNumber: big.NewInt(1),
		Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issued is a certificate and its key, in PEM.
type issued struct {
	serial    int64
	cert, key []byte
	public    crypto.PublicKey
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// issue makes a certificate for a host, valid from and until the given days from now.
func (a *authority) issue(host string, from, until int) issued {
	a.t.Helper()
	a.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(100 + a.serial),
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().AddDate(0, 0, from), NotAfter: time.Now().AddDate(0, 0, until),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return issued{100 + a.serial, block("CERTIFICATE", der), block("PRIVATE KEY", keyDER),
		key.Public()}
}

// write puts a file into dir.
func write(t *testing.T, dir, name string, parts ...[]byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	// A new file replaces the old one, as with tools for renewal.
	if err := os.WriteFile(path+".new", bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// says waits until the server has logged s.
func (s *server) says(text string) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(
		2 * time.Millisecond) {
		s.mu.Lock()
		found := strings.Contains(strings.Join(s.log, "\n")+"\n", text)
		s.mu.Unlock()
		if found {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Errorf("the server has not said %q:\n%s", text, strings.Join(s.log, "\n"))
	return false
}

// dialTLS opens a WebSocket over TLS and subscribes it to a channel.
func dialTLS(addr, channel, from string, config *tls.Config) (nc *tls.Conn, r *bufio.Reader,
	err error) {
	d := net.Dialer{Timeout: 20 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	if nc, err = tls.DialWithDialer(&d, "tcp", addr, config); err != nil {
		return nil, nil, err
	}
	io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	nc.Write(clientFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"`+channel+`"}}`),
		1))
	r = bufio.NewReaderSize(nc, 512)
	return nc, r, skipTo(r, `"channel":"`+channel+`"}`)
}

func TestTLS(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	env := append(oneApp(), "REVERB_TLS_CERT="+write(t, dir, "both.pem", c.cert, c.key),
		"REVERB_PLAIN_LISTEN=127.0.0.1:0", "REVERB_APP_PING_INTERVAL=1")
	s := start(t, env...)
	nc, r, err := dialTLS(s.addr, "x", "", &tls.Config{RootCAs: roots, ServerName: "ws.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := skipTo(r, "pusher:ping"); err != nil {
		// the connection is silent, so the server pings it
		t.Error(err)
	}
	// Messages of every size, in and out, in records of every size.
	for _, n := range []int{1, 125, 126, 4096, 9000} {
		text := strings.Repeat("y", n)
		frame := clientFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"c`+
			strconv.Itoa(n)+`","pad":"`+text+`"}}`), 1)
		for len(frame) > 0 {
			k := min(len(frame), 1000)
			nc.Write(frame[:k])
			frame = frame[k:]
		}
		if err := skipTo(r, `"channel":"c`+strconv.Itoa(n)+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	nc.Write(clientFrame([]byte{3, 0xe8}, 8))
	if err := skipTo(r, "\x88\x02\x03\xe8"); err != nil { // the close frame comes back
		t.Error(err)
	}
	if _, err := r.ReadByte(); err != io.EOF { // and then close_notify
		t.Errorf("got %v, want the end", err)
	}
	nc.Close()
	plain := ""
	for _, line := range s.log {
		if _, rest, ok := strings.Cut(line, "listening on "); ok &&
			strings.Contains(line, "with=plain") {
			plain = rest[:strings.IndexAny(rest, `"`)]
		}
	}
	if plain == "" && s.says("with=plain") {
		s.mu.Lock()
		for _, line := range s.log {
			if _, rest, ok := strings.Cut(line, "listening on "); ok &&
				strings.Contains(line, "with=plain") {
				plain = rest[:strings.IndexAny(rest, `"`)]
			}
		}
		s.mu.Unlock()
	}
	subscriber(t, plain, "x")
	// A plain client on the port for TLS gets an explanation.
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	io.WriteString(raw, "GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, _ := io.ReadAll(raw); !strings.Contains(string(b), "400") {
		t.Errorf("got %q, want 400", b)
	}
}

func TestClientCertificates(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	s := start(t, append(oneApp(), "REVERB_TLS_CERT="+write(t, dir, "both.pem", c.cert, c.key),
		"REVERB_TLS_CA="+write(t, dir, "ca.pem", block("CERTIFICATE", ca.cert.Raw)))...)
	if _, _, err := dialTLS(s.addr, "x", "", &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a client without a certificate was let in")
	}
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	nc, _, err := dialTLS(s.addr, "x", "",
		&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// TestCertificateRenewal replaces the certificate while 1,000 connections are open.
func TestCertificateRenewal(t *testing.T) {
	const n = 1000
	dir, ca := t.TempDir(), newAuthority(t)
	first, second, third, other := ca.issue("ws.test", -1, 90), ca.issue("ws.test", -1, 90),
		ca.issue("ws.test", -1, 90), ca.issue("ws.test", -1, 90)
	cert, key := write(t, dir, "cert.pem", first.cert), write(t, dir, "key.pem", first.key)
	s := start(t, append(oneApp(), "REVERB_TLS_CERT="+cert, "REVERB_TLS_KEY="+key, "REVERB_TLS_CA=",
		"REVERB_PLAIN_LISTEN=127.0.0.1:0")...)
	s.says("with=plain")
	config := &tls.Config{InsecureSkipVerify: true}
	var readers []*bufio.Reader
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range n / 8 {
				nc, r, err := dialTLS(s.addr, "x", "127.0.0."+strconv.Itoa(2+w%4), config)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { nc.NetConn().Close() })
				mu.Lock()
				readers = append(readers, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	serial := func() int64 {
		nc, err := tls.Dial("tcp", s.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	becomes := func(want int64) {
		t.Helper()
		begin := time.Now()
		for serial() != want {
			if time.Since(begin) > 25*time.Second {
				t.Fatalf("after %v the certificate is %d, want %d", time.Since(begin), serial(),
					want)
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Logf("certificate %d in force after %v", want, time.Since(begin).Round(time.Millisecond))
	}
	if got := serial(); got != first.serial {
		t.Fatalf("the certificate is %d, want %d", got, first.serial)
	}
	write(t, dir, "cert.pem", second.cert)
	write(t, dir, "key.pem", second.key)
	becomes(second.serial)
	write(t, dir, "cert.pem", third.cert)
	write(t, dir, "key.pem", third.key)
	s.cmd.Process.Signal(syscall.SIGHUP)
	becomes(third.serial)
	write(t, dir, "key.pem", other.key)
	s.cmd.Process.Signal(syscall.SIGHUP)
	s.says("does not belong to the first certificate")
	if got := serial(); got != third.serial {
		t.Errorf("the certificate is %d after a broken renewal, want the old one, %d", got,
			third.serial)
	}
	p := publisher(plainAddr(s))
	if err := p.Trigger("x", "the-event", "y"); err != nil {
		t.Fatal(err)
	}
	received := 0
	for _, r := range readers {
		if err := skipTo(r, "the-event"); err != nil {
			t.Fatalf("after %d: %v", received, err)
		}
		received++
	}
	t.Logf("%d of %d connections are open after three renewals and have received the event",
		received, n)
	if received != n {
		t.Errorf("%d connections are left, want %d", received, n)
	}
}

// TestFilesThatNeverEnd puts a pipe and a link to a device in the place of files that the program
// reads again while it runs. It reports them, keeps what is in force, and hears signals.
func TestFilesThatNeverEnd(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	files := map[string]string{
		"REVERB_TLS_CERT":            write(t, dir, "cert.pem", c.cert),
		"REVERB_TLS_KEY":             write(t, dir, "key.pem", c.key),
		"REVERB_TLS_CA":              write(t, dir, "ca.pem", block("CERTIFICATE", ca.cert.Raw)),
		"REVERB_APP_SECRET_FILE":     write(t, dir, "secret", []byte("app-secret")),
		"REVERB_TLS_PASSPHRASE_FILE": write(t, dir, "passphrase", []byte("x")),
		"REVERB_ENV_FILE":            write(t, dir, "env", []byte("A=1\n")),
	}
	env := []string{"REVERB_APP_ID=app-id", "REVERB_APP_KEY=app-key"}
	for name, file := range files {
		env = append(env, name+"="+file)
	}
	s := start(t, env...)
	for name, file := range files {
		saved, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, hostile := range []func() error{
			func() error { return syscall.Mkfifo(file, 0o600) },
			func() error { return os.Symlink("/dev/zero", file) },
		} {
			os.Remove(file)
			if err := hostile(); err != nil {
				t.Fatal(err)
			}
			s.hangUp()
			if !s.says("not a regular file") {
				t.Fatalf("%s: file %d is not reported", name, i)
			}
		}
		os.Remove(file)
		write(t, dir, filepath.Base(file), saved)
		s.hangUp()
		if !s.says("reloaded") {
			t.Fatalf("%s: no reload after it", name)
		}
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.wait(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// hangUp forgets what the server has logged, and has it read its configuration again.
func (s *server) hangUp() {
	s.mu.Lock()
	s.log = nil
	s.mu.Unlock()
	s.cmd.Process.Signal(syscall.SIGHUP)
}

// plainAddr is the address of REVERB_PLAIN_LISTEN.
func plainAddr(s *server) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if _, rest, ok := strings.Cut(line, "listening on "); ok &&
			strings.Contains(line, "with=plain") {
			return rest[:strings.IndexAny(rest, `"`)]
		}
	}
	return ""
}

const sealedPKCS8 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhGY98Suj6d0gICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEM0Vlc9CDjRJFPJHFblTruMEQHuY
j/wV0rKfBSunNH86hXnqiMG5vxTWSAZVQ8wY2woHRU9jX7g47397z87Ce26XxVMC
o0CE+t+fJvNdnGnb67c=
-----END ENCRYPTED PRIVATE KEY-----
`

// TestBrokenCertificates compares the output for each kind of mistake with testdata/tls.
func TestBrokenCertificates(t *testing.T) {
	ca := newAuthority(t)
	good, other := ca.issue("ws.test", -1, 90), ca.issue("ws.test", -1, 90)
	expired, future := ca.issue("ws.test", -90, -1), ca.issue("ws.test", 10, 90)
	issuer := block("CERTIFICATE", ca.cert.Raw)
	der, _ := pem.Decode(good.cert)
	for _, c := range []struct {
		name      string
		cert, key []byte // nil: no such file
		env       []string
	}{
		{name: "missing", key: good.key},
		{name: "missing-key", cert: good.cert},
		{name: "empty", cert: []byte(" \n"), key: good.key},
		{name: "not-pem", cert: []byte("hello"), key: good.key},
		{name: "der", cert: der.Bytes, key: good.key},
		{name: "cut-off", cert: good.cert[:len(good.cert)/2], key: good.key},
		{name: "key-as-certificate", cert: good.key, key: good.key},
		{name: "certificate-as-key", cert: good.cert, key: good.cert},
		{name: "other-key", cert: good.cert, key: other.key},
		{name: "issuer-first", cert: append(append([]byte{}, issuer...), good.cert...),
			key: good.key},
		{name: "damaged", cert: block("CERTIFICATE", der.Bytes[:len(der.Bytes)-3]), key: good.key},
		{name: "encrypted", cert: good.cert, key: []byte(sealedPKCS8)},
		{name: "wrong-passphrase", cert: good.cert, key: []byte(sealedPKCS8),
			env: []string{"REVERB_TLS_PASSPHRASE=not-this-one"}},
		{name: "expired", cert: expired.cert, key: expired.key},
		{name: "not-yet", cert: future.cert, key: future.key},
		{name: "other-host", cert: good.cert, key: good.key,
			env: []string{"REVERB_HOST=shop.example"}},
		{name: "bad-ca", cert: good.cert, key: good.key, env: []string{"REVERB_TLS_CA=key.pem"}},
		{name: "directory", cert: good.cert, key: good.key, env: []string{"REVERB_TLS_CERT=."}},
		{name: "key-alone", key: good.key, env: []string{"REVERB_TLS_CERT="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.cert != nil {
				write(t, dir, "cert.pem", c.cert)
			}
			if c.key != nil {
				write(t, dir, "key.pem", c.key)
			}
			cmd := command(program, "start")
			cmd.Dir = dir
			cmd.Env = append(append(oneApp(), "REVERB_SERVER_PORT=0", "REVERB_TLS_CERT=cert.pem",
				"REVERB_TLS_KEY=key.pem"), c.env...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 2 ||
				bytes.Contains(out, []byte("not-this-one")) {
				t.Errorf("got exit code %d, want 2, and no passphrase:\n%s", code, out)
			}
			got := regexp.MustCompile(`\d{4}-\d\d-\d\d`).ReplaceAllString(string(out), "(day)")
			golden := filepath.Join("testdata/tls", c.name+".txt")
			if *update {
				os.MkdirAll("testdata/tls", 0o755)
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestFoundCertificates looks for certificates of Herd and Valet.
func TestFoundCertificates(t *testing.T) {
	home, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("app.test", -1, 90)
	write(t, home, ".config/valet/Certificates/app.test.crt", c.cert)
	write(t, home, ".config/valet/Certificates/app.test.key", c.key)
	for _, tt := range []struct {
		env  []string
		says string
		tls  bool
	}{
		{[]string{"REVERB_HOST=app.test", "REVERB_SCHEME=https"},
			"app.test.crt, which Herd or Valet has made", true},
		{[]string{"REVERB_HOST=app.test"}, "app.test.crt, which Herd or Valet has made", true},
		{[]string{"REVERB_HOST=app.test", "REVERB_SCHEME=http"},
			"is not used, because REVERB_SCHEME=http", false},
		{[]string{"REVERB_HOST=127.0.0.1"}, "listening on", false},
		{[]string{"REVERB_HOST=other.test"}, "listening on", false},
	} {
		s := start(t, append(append(oneApp(), "HOME="+home), tt.env...)...)
		s.says(tt.says)
		nc, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
		if (err == nil) != tt.tls {
			t.Errorf("%v: a TLS handshake gives %v, want TLS: %v", tt.env, err, tt.tls)
		}
		if err == nil {
			nc.Close()
		}
		s.stop()
	}
}

// TestCommandsOverTLS checks that listen, trigger and health find their own server.
func TestCommandsOverTLS(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	env := append(oneApp(), "REVERB_TLS_CERT="+write(t, dir, "both.pem", c.cert, c.key))
	s := start(t, env...)
	_, port, _ := net.SplitHostPort(s.addr)
	env = append(env, "REVERB_SERVER_PORT="+port, "REVERB_ENV_FILE=/dev/null")
	command := func(args ...string) *exec.Cmd {
		cmd := command(program, args...)
		cmd.Env = env
		return cmd
	}
	if out, err := command("health").CombinedOutput(); err != nil {
		t.Errorf("health: %v, %s", err, out)
	}
	listen := command("listen", "private-x")
	stdout, err := listen.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "listening on private-x" {
		t.Errorf("got %q", lines.Text())
	}
	if out, err := command("trigger", "private-x", "e", "1").CombinedOutput(); err != nil {
		t.Errorf("trigger: %v, %s", err, out)
	}
	if !lines.Scan() || lines.Text() != "private-x e 1" {
		t.Errorf("got %q", lines.Text())
	}
	listen.Process.Kill()
	listen.Wait()
}

// TestManyTLSConnections measures memory. Client and server are processes of their
// own because of their descriptors.
func TestManyTLSConnections(t *testing.T) {
	const n = 10_000
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	s := start(t, append(oneApp(), "REVERB_TLS_CERT="+write(t, dir, "both.pem", c.cert, c.key),
		"REVERB_PLAIN_LISTEN=127.0.0.1:0")...)
	s.says("with=plain")
	pid := s.cmd.Process.Pid
	var received, failed atomic.Int64
	var open []*tls.Conn
	var readers []*bufio.Reader
	var mu sync.Mutex
	connect := func(n int) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for range n / 8 {
					nc, r, err := dialTLS(s.addr, "load", "127.0.0."+strconv.Itoa(2+w),
						&tls.Config{InsecureSkipVerify: true})
					if err != nil {
						failed.Add(1)
						t.Error(err)
						return
					}
					mu.Lock()
					open, readers = append(open, nc), append(readers, r)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	connect(1000) // the first ones fill pools
	before, threadsBefore := memory(t, pid), threads(t, pid)
	begin := time.Now()
	connect(n - 1000)
	took := time.Since(begin)
	after, threadsAfter := memory(t, pid), threads(t, pid)
	if err := publisher(plainAddr(s)).Trigger("load", "the-event", "x"); err != nil {
		t.Fatal(err)
	}
	for _, r := range readers {
		if skipTo(r, "the-event") == nil {
			received.Add(1)
		}
	}
	for _, nc := range open {
		nc.NetConn().Close()
	}
	per := float64(after-before) / (n - 1000)
	t.Logf("%d TLS connections in %v: %.0f bytes of resident memory each (%d KiB with 1,000, "+
		"%d KiB with all), threads %d, %d; %d have received the event",
		n, took.Round(time.Millisecond), per, before>>10, after>>10, threadsBefore, threadsAfter,
		received.Load())
	if received.Load() != n {
		t.Errorf("%d have received the event, want %d", received.Load(), n)
	}
	if per > 20_000 {
		t.Errorf("%.0f bytes each", per)
	}
}

// TestTLSInChromium runs pusher-js in Chromium against a certificate that only this
// test's authority has signed.
func TestTLSInChromium(t *testing.T) {
	needNode(t)
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	spki, err := x509.MarshalPKIXPublicKey(c.public)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	s := start(t, append(oneApp(), "REVERB_TLS_CERT="+write(t, dir, "both.pem", c.cert, c.key),
		"REVERB_ALLOWED_ORIGINS=127.0.0.1", "REVERB_HOST=ws.test")...)
	_, port, _ := net.SplitHostPort(s.addr)
	cmd := command("node", "--test", "--test-force-exit", "clients/tls.browser.mjs")
	cmd.Env = append(os.Environ(), "REVERB_TLS_PORT="+port,
		"REVERB_TLS_SPKI="+base64.StdEncoding.EncodeToString(sum[:]))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
