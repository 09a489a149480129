package protocol

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reverb/internal/lib/show"
)

// --- Signatures ---

// Sign is the HMAC-SHA256 of message, in lower-case hex.
func Sign(secret, message string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, message)
	return hex.EncodeToString(mac.Sum(nil))
}

// Credentials are the names and the secret with which an application signs. The functions that
// verify signatures compare in constant time.
type Credentials struct {
	ID, Key, Secret string
	Signers         *Signers // for this Secret alone; nil: each signature allocates
}

// Signers keeps memory for signatures with one secret. The zero Signers is ready.
type Signers struct{ pool sync.Pool } // of *signer

// signer makes signatures with one secret. It uses the memory of the last one again.
type signer struct {
	mac  hash.Hash
	text []byte
	sum  []byte
	hex  [2 * sha256.Size]byte
}

// take lends a signer; give takes it back.
func (c *Credentials) take() *signer {
	if c.Signers != nil {
		if s, ok := c.Signers.pool.Get().(*signer); ok {
			return s
		}
	}
	return &signer{mac: hmac.New(sha256.New, []byte(c.Secret))}
}

func (c *Credentials) give(s *signer) {
	if c.Signers != nil {
		c.Signers.pool.Put(s)
	}
}

// sign is Sign of s.text. The result is valid until the next call.
func (s *signer) sign() []byte {
	s.mac.Reset()
	s.mac.Write(s.text)
	s.sum = s.mac.Sum(s.sum[:0])
	hex.Encode(s.hex[:], s.sum)
	return s.hex[:]
}

// --- Signatures of channels ---

// checkChannel verifies auth, "key:signature", of a subscription. channelData is nil if none was
// sent.
func (c *Credentials) checkChannel(socketID, channel string, channelData []byte, auth string) bool {
	key, signature, _ := strings.Cut(auth, ":")
	s := c.take()
	defer c.give(s)
	s.text = append(append(append(s.text[:0], socketID...), ':'), channel...)
	if channelData != nil {
		s.text = append(append(s.text, ':'), channelData...)
	}
	sameKey := subtle.ConstantTimeCompare([]byte(key), []byte(c.Key))
	return sameKey&subtle.ConstantTimeCompare([]byte(signature), s.sign()) == 1
}

// channelFault says why checkChannel has refused a subscription, as far as that can be known. It
// costs one signature at most. It tells neither the secret nor a right signature.
func (c *Credentials) channelFault(socketID, channel string, channelData []byte,
	auth string) string {
	if fault := c.authFault(auth); fault != "" {
		return fault
	}
	switch {
	case channelData != nil && c.checkChannel(socketID, channel, nil, auth):
		return "the signature was made without channel_data, but channel_data was sent"
	case channelData == nil && strings.HasPrefix(channel, "presence-"):
		return "channel_data is missing, and the signature was made over one or " +
			"with another secret; compare REVERB_APP_SECRET on both sides"
	case channelData == nil:
		return "the signature was made with another secret, or over another socket_id or " +
			"channel, or over channel_data that was not sent; " +
			"compare REVERB_APP_SECRET on both sides"
	}
	return "the signature was made with another secret, " +
		"or over another socket_id, channel or channel_data; " +
		"compare REVERB_APP_SECRET on both sides"
}

// authFault says what is wrong with the form or the key of auth; empty: nothing is.
func (c *Credentials) authFault(auth string) string {
	key, signature, found := strings.Cut(auth, ":")
	switch {
	case auth == "":
		return "no auth was given; the application's auth endpoint makes it"
	case !found:
		return "auth must be the app's key, a colon and a signature"
	case key != c.Key && strings.Contains(key, c.Secret):
		return fmt.Sprintf("auth is not for this app's key %s; it must begin with the key",
			show.Quoted(c.Key))
	case key != c.Key && hexRun(key) >= 2*sha256.Size:
		return fmt.Sprintf("auth begins with what looks like a signature; it must begin with the "+
			"app's key, which is %s, and a colon", show.Quoted(c.Key))
	case key != c.Key:
		return fmt.Sprintf("auth is for the key %s, this app's is %s; "+
			"compare REVERB_APP_KEY on both sides", show.Quoted(key), show.Quoted(c.Key))
	case len(signature) != 2*sha256.Size || strings.Trim(signature, "0123456789abcdef") != "":
		return "the signature must have 64 hexadecimal digits in lower case"
	}
	return ""
}

// userChannel takes the place of the channel's name in the signature of a sign-in, which is over
// socket_id::user::user_data.
const userChannel = ":user:"

// userFault says why the auth of a sign-in was refused, as channelFault does.
func (c *Credentials) userFault(socketID string, userData []byte, auth string) string {
	if fault := c.authFault(auth); fault != "" {
		return fault
	}
	return "the signature was made with another secret, or over another socket_id or user_data; " +
		"compare REVERB_APP_SECRET on both sides"
}

// hexRun is the length of the longest run of hexadecimal digits.
func hexRun(s string) (longest int) {
	run := 0
	for i := range len(s) {
		if run++; !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// --- Signatures of requests ---

// CheckRequest verifies a request of the HTTP API; nil means that it is right. now is the time of
// this server. window is how far the request's time may be off; 0: any time is right. If the
// signature is wrong, the answer tells nothing that the sender does not know.
func (c *Credentials) CheckRequest(method string, path *RequestPath, query Params, body []byte,
	now time.Time, window time.Duration) *Problem {
	for _, name := range []string{"auth_key", "auth_timestamp", "auth_version", "auth_signature"} {
		if query.Get(name) == "" {
			return unauthorized("the parameter %s is missing", name)
		}
	}
	if key := query.Get("auth_key"); subtle.ConstantTimeCompare([]byte(key), []byte(c.Key)) != 1 {
		return unauthorized("auth_key %s is not the key of app %q; "+
			"compare REVERB_APP_KEY on both sides", show.Quoted(key), c.ID)
	}
	if version := query.Get("auth_version"); version != "1.0" {
		return unauthorized("auth_version is %s; only 1.0 is known", show.Quoted(version))
	}
	var digest [2 * md5.Size]byte
	sum := md5.Sum(body)
	hex.Encode(digest[:], sum[:])
	if got := query.Get("body_md5"); (got != "" || len(body) > 0) &&
		subtle.ConstantTimeCompare([]byte(got), digest[:]) != 1 {
		return unauthorized("body_md5 %s is not the MD5 of the %d bytes of body that arrived",
			show.Quoted(got), len(body))
	}
	if !c.validSignature(method, path, query) {
		return unauthorized("it was not made with the secret of app %q "+
			"(compare REVERB_APP_SECRET on both sides) over %s", c.ID,
			show.Quoted(strings.ToUpper(method)+" "+path.Rest))
	}
	timestamp := query.Get("auth_timestamp")
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return unauthorized("auth_timestamp %s is not a Unix time", show.Quoted(timestamp))
	}
	if at, allowed := now.Unix(), int64(window/time.Second); allowed > 0 &&
		(sent < at-allowed || sent > at+allowed) {
		return unauthorized("auth_timestamp is %d seconds off this server's clock; "+
			"REVERB_AUTH_WINDOW allows %d. Check both clocks", at-sent, allowed)
	}
	return nil
}

func (c *Credentials) validSignature(method string, path *RequestPath, query Params) bool {
	s := c.take()
	defer c.give(s)
	var given [2 * sha256.Size]byte
	if signature := query.Get("auth_signature"); len(signature) != copy(given[:], signature) {
		return false
	}
	var more []string                                 // the rarer forms of the path
	for form := nameLower; form <= nameSent; form++ { // for nameSent, setText reorders lists
		if form > nameLower && !query.spelled(form) {
			continue
		}
		signed := func(prefix, path string) bool {
			s.setText(method, prefix, path, query, form)
			return subtle.ConstantTimeCompare(given[:], s.sign()) == 1
		}
		if signed("", path.Rest) || path.Prefix != "" && signed(path.Prefix, path.Rest) {
			return true
		}
		if more == nil {
			more = path.more()
		}
		if slices.ContainsFunc(more, func(path string) bool { return signed("", path) }) {
			return true
		}
	}
	return false
}

func unauthorized(format string, args ...any) *Problem {
	return &Problem{Status: http.StatusUnauthorized, Text: "Authentication signature invalid: " +
		fmt.Sprintf(format, args...) + "."}
}
