package conversation

import (
	"bufio"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Sign is the signature of a text: HMAC with SHA-256, in hexadecimal digits.
func Sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// SignedQuery is the query of a signed request, in the form of Pusher's libraries. extra has
// further parameters, with their names as they are spelled; it may be nil.
func SignedQuery(
	a App, method, path, body string, at time.Time, extra map[string]string,
) url.Values {
	q := map[string]string{"auth_key": a.Key, "auth_version": "1.0",
		"auth_timestamp": strconv.FormatInt(at.Unix(), 10)}
	if body != "" {
		sum := md5.Sum([]byte(body))
		q["body_md5"] = hex.EncodeToString(sum[:])
	}
	maps.Copy(q, extra)
	var lines []string
	values := url.Values{}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		lines = append(lines, name+"="+q[name])
		values.Set(name, q[name])
	}
	values.Set("auth_signature", Sign(a.Secret, method+"\n"+path+"\n"+strings.Join(lines, "&")))
	return values
}

// signed is a request of the app that its path names, or of the first.
func (p *player) signed(method, target, body string) (string, error) {
	u, err := url.Parse("http://x" + target)
	if err != nil {
		return "", err
	}
	extra := map[string]string{}
	for name, values := range u.Query() {
		extra[name] = values[0]
	}
	path := u.EscapedPath()
	a := p.Apps[0]
	for _, other := range p.Apps {
		if strings.HasPrefix(path, "/apps/"+other.ID+"/") {
			a = other
		}
	}
	q := SignedQuery(a, method, path, body, time.Now(), extra)
	return plain(method, path+"?"+q.Encode(), body), nil
}

// plain is a request without a signature.
func plain(method, target, body string) string {
	head := method + " " + target + " HTTP/1.1\r\nHost: x\r\n"
	if body != "" {
		head += "Content-Type: application/json\r\n"
	}
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

// asks is a GET for path?query&AUTH, unchanged, signed over signedPath and signedQuery.
func (p *player) asks(path, signedPath, query, signedQuery string) string {
	a := p.Apps[0]
	auth := fmt.Sprintf("auth_key=%s&auth_timestamp=%d&auth_version=1.0", a.Key, time.Now().Unix())
	put := func(s string) string { return strings.ReplaceAll(s, "AUTH", auth) }
	sign := Sign(a.Secret, "GET\n"+signedPath+"\n"+put(signedQuery))
	target := path + "?" + put(query) + "&auth_signature=" + sign
	return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"
}

// answer is the answer to a request.
type answer struct {
	status int
	body   string
	header http.Header
	more   string // further answers on the connection, each behind a |
}

func (a *answer) String() string {
	body := strings.ReplaceAll(strings.TrimSuffix(a.body, "\n"), "\n", "|")
	return fmt.Sprintf("%d %s%s", a.status, body, a.more)
}

// request is one request on a connection of its own.
type request struct {
	conn net.Conn
	read *bufio.Reader

	mu   sync.Mutex
	kept *answer // the part that has come; nil: nothing has come
}

// send sends a request.
func send(nc net.Conn, text string) *request {
	go io.WriteString(nc, text) // the server may answer before it has read all
	return &request{conn: nc, read: bufio.NewReader(nc)}
}

// wait returns the answer. If all is set, it also returns every further answer until the server
// closes the connection.
func (r *request) wait(all bool) *answer {
	defer r.conn.Close()
	a, err := r.next()
	if err != nil {
		return &answer{body: err.Error()}
	}
	for all {
		next, err := r.next()
		if err != nil {
			break
		}
		a.more += "|" + next.String()
	}
	return a
}

func (r *request) next() (*answer, error) {
	resp, err := http.ReadResponse(r.read, nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return &answer{status: resp.StatusCode, body: string(b), header: resp.Header}, err
}

// keep reads the answer, and keeps the part that has come for sofar.
func (r *request) keep() {
	resp, err := http.ReadResponse(r.read, nil)
	if err != nil {
		return // so nothing has come
	}
	defer resp.Body.Close()
	r.keepSome(&answer{status: resp.StatusCode}, nil)
	b := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = resp.Body.Read(b)
		r.keepSome(r.kept, b[:n])
	}
}

func (r *request) keepSome(a *answer, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = a
	a.body += string(body)
}

// sofar is the part of the answer that has come; empty: nothing has come.
func (r *request) sofar() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil {
		return ""
	}
	return r.kept.String()
}
