package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"reverb/internal/lib/http1"
	"reverb/internal/lib/proxyproto"
)

// maxAnswerBytes bounds the body of an answer; the rest is not read. Larger: a wrong server costs
// more memory. Smaller: long lists of channels are cut.
const maxAnswerBytes = 1 << 20

// errNoServer is in the chain of an error when nothing accepts the connection.
var errNoServer = errors.New("nothing answers")

// Server is a running server and the app to use there. All fields are constant.
type Server struct {
	Network, Address string // the arguments of Dial
	Dial             func(ctx context.Context, network, address string) (net.Conn, error)
	TLS              bool
	Proxied          bool // the server expects a PROXY header
	// Name is what the server's certificate must cover; empty: any certificate is right.
	Name string
	Path string // the server's prefix, like /ws, or empty
	App  App

	// Frames makes the client's end of a WebSocket from a connection whose handshake is over. r
	// reads from nc and may hold the first bytes already. nil: the server is used with HTTP only.
	Frames func(nc net.Conn, r *bufio.Reader) Conn
}

// Local says how to dial the address of a server of this machine: host:port, or unix: and a path.
// An address that stands for every interface becomes the loopback address.
func Local(address string) (network, dial string) {
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		return "unix", path
	}
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return "tcp", net.JoinHostPort("127.0.0.1", port)
	}
	return "tcp", address
}

// connect dials the server and makes its TLS handshake. Without a Name it does not check the
// certificate: the server is on this machine, nothing secret travels, and browsers know the server
// by another name.
func (s *Server) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := s.Dial(ctx, s.Network, s.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoServer, err)
	}
	if s.Proxied {
		io.WriteString(nc, proxyproto.Local) // an error shows with the next write
	}
	if !s.TLS {
		return nc, nil
	}
	secure := tls.Client(nc, &tls.Config{ServerName: s.Name, InsecureSkipVerify: s.Name == "",
		NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", s.Address, err)
	}
	return secure, nil
}

// open connects and makes the WebSocket handshake (RFC 6455 §4.1). The caller closes the
// connection, and reads frames from the reader, which may already hold the first. It
// offers no extension, so that frames come uncompressed.
func (s *Server) open(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	nc, err := s.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	nonce := make([]byte, 16)
	rand.Read(nonce) // never fails
	nc.SetDeadline(time.Now().Add(timeout))
	fmt.Fprintf(nc, "GET %s/app/%s?protocol=7&client=reverb-listen HTTP/1.1\r\nHost: "+
		"%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"%s\r\nSec-WebSocket-Version: 13\r\nOrigin: https://%s\r\n\r\n",
		s.Path, url.PathEscape(s.App.Key), cmp.Or(s.Name, "localhost"),
		base64.StdEncoding.EncodeToString(nonce), s.App.Origin)
	r := http1.NewReader(nc)
	resp, err := r.Answer(nil)
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("read handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		nc.Close()
		return nil, nil, unexpected(resp.StatusCode, text)
	}
	nc.SetDeadline(time.Time{})
	return nc, r.Buffer, nil
}

// answer is what the server answers to one HTTP request.
type answer struct {
	status int
	body   []byte
	date   time.Time // the server's clock; zero when it does not tell
}

// request sends one HTTP request on a connection of its own. If the body breaks off, there is an
// error, and the answer has what came.
func (s *Server) request(ctx context.Context, method, path, query string, body []byte) (a answer,
	err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: "reverb", Path: s.Path + path, RawQuery: query}
	if s.Network == "tcp" {
		u.Host = s.Address
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	r.Close = true
	nc, err := s.connect(ctx)
	if err != nil {
		return a, err
	}
	resp, err := http1.New(nc, false, nil).Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	a.date, _ = http.ParseTime(resp.Header.Get("Date"))
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	return a, err
}

// Health asks the server whether it is well and returns the text of its answer. An answer other
// than 200 becomes an error with that text.
func (s *Server) Health(ctx context.Context) (string, error) {
	a, err := s.request(ctx, http.MethodGet, "/up", "", nil)
	if err != nil {
		return "", err
	}
	return string(a.body), a.unexpected()
}

// unexpected is the error of an answer other than 200, and nil for 200.
func (a *answer) unexpected() error {
	if a.status == http.StatusOK {
		return nil
	}
	return unexpected(a.status, a.body)
}

// unexpected says what the server has answered, and what such an answer usually means.
func unexpected(status int, body []byte) error {
	text := strings.TrimSpace(string(body))
	switch {
	case strings.Contains(text, "HTTP request to an HTTPS server"):
		text = "it serves TLS; set REVERB_TLS_CERT here too"
	case status == http.StatusNotFound && text == "Not found.":
		text = "there is nothing; compare REVERB_SERVER_PATH with the server's"
	case text == "" || text[0] == '<':
		text = "which reverb does not; another program is listening there"
	}
	return fmt.Errorf("the server answers %d: %s", status, text)
}

// Hint says what to do about an error of a Server. It is empty, or a part of a sentence that begins
// with a semicolon.
func Hint(err error) string {
	switch {
	case errors.Is(err, errNoServer):
		return "; is the server running, and on this REVERB_SERVER_HOST and REVERB_SERVER_PORT?"
	case errors.As(err, new(tls.RecordHeaderError)):
		return "; the server speaks plain HTTP there: leave REVERB_TLS_CERT out here too"
	}
	return ""
}
