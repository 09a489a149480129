package protocol

import (
	"crypto/md5"
	"encoding/hex"
	"maps"
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSignatures(t *testing.T) {
	// The worked examples of the Pusher documentation.
	const key, secret = "278d425bdf160c739803", "7ad3773142a6692b25b8"
	a := &Credentials{ID: "3", Key: key, Secret: secret, Signers: new(Signers)}
	for _, c := range []struct{ socket, channel, data, signature string }{
		{"1234.1234", "private-foobar", "",
			"58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"},
		{"1234.1234", "presence-foobar", `{"user_id":10,"user_info":{"name":"Mr. Channels"}}`,
			"31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"},
	} {
		data := []byte(c.data)
		if c.data == "" {
			data = nil
		}
		if !a.checkChannel(c.socket, c.channel, data, key+":"+c.signature) {
			t.Errorf("%s: refused", c.channel)
		}
		for _, auth := range []string{"", c.signature, ":" + c.signature, "x:" + c.signature,
			key + ":" + strings.ToUpper(c.signature), key + ":" + c.signature + "0", key + ":"} {
			if a.checkChannel(c.socket, c.channel, data, auth) {
				t.Errorf("%s: %q accepted", c.channel, auth)
			}
		}
		if a.checkChannel("1234.1235", c.channel, data, key+":"+c.signature) {
			t.Errorf("%s: accepted for another socket", c.channel)
		}
	}
	query := map[string]string{"auth_key": key, "auth_timestamp": "1353088179",
		"auth_version": "1.0", "body_md5": "ec365a775a4cd0599faeb73354201b6f"}
	if got := Sign(secret, textToSign("post", "/apps/3/events", query,
		true)); got != "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c" {
		t.Errorf("request: got %s", got)
	}
}

// textToSign is the plain version of setText, over parameters that are no lists.
func textToSign(method, path string, query map[string]string, lower bool) string {
	byName := map[string]string{}
	for name, value := range query {
		if lower {
			name = strings.ToLower(name)
		}
		byName[name] = value
	}
	delete(byName, "auth_signature")
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		lines = append(lines, name+"="+byName[name])
	}
	return strings.ToUpper(method) + "\n" + path + "\n" + strings.Join(lines, "&")
}

func signedQuery(a *Credentials, method, path, body string, at time.Time,
	extra map[string]string) map[string]string {
	sum := md5.Sum([]byte(body))
	q := map[string]string{"auth_key": a.Key, "auth_timestamp": strconv.FormatInt(at.Unix(), 10),
		"auth_version": "1.0"}
	if body != "" {
		q["body_md5"] = hex.EncodeToString(sum[:])
	}
	for k, v := range extra {
		q[k] = v
	}
	q["auth_signature"] = Sign(a.Secret, textToSign(method, path, q, true))
	return q
}

func TestRequestAuth(t *testing.T) {
	a := &Credentials{ID: "1", Key: "key", Secret: "s3cr3t"}
	now := time.Unix(1_800_000_000, 0)
	paths := []string{"/apps/1/events", "/ws/apps/1/events"}
	path := &RequestPath{"/ws", paths[0], paths[1]}
	for _, c := range []struct {
		name string
		edit func(q map[string]string)
		path string
		at   time.Time
		want string // part of the answer; empty: accepted
	}{
		{"good", nil, paths[0], now, ""},
		{"with the prefix", nil, paths[1], now, ""},
		{"599 seconds late", nil, paths[0], now.Add(-599 * time.Second), ""},
		{"601 seconds late", nil, paths[0], now.Add(-601 * time.Second), "601 seconds off"},
		{"601 seconds early", nil, paths[0], now.Add(601 * time.Second), "-601 seconds off"},
		{"as far off as can be", func(q map[string]string) {
			q["auth_timestamp"] = strconv.FormatInt(now.Unix()+math.MinInt64, 10)
			q["auth_signature"] = Sign(a.Secret, textToSign("POST", paths[0], q, true))
		}, paths[0], now, "seconds off"},
		{"other path", nil, "/apps/2/events", now, "secret of app"},
		{"no signature", func(q map[string]string) { delete(q, "auth_signature") }, paths[0], now,
			"auth_signature is missing"},
		{"other key", func(q map[string]string) { q["auth_key"] = "k2" }, paths[0], now,
			`auth_key "k2"`},
		{"version", func(q map[string]string) { q["auth_version"] = "2.0" }, paths[0], now,
			"auth_version"},
		{"body", func(q map[string]string) { q["body_md5"] = "x" }, paths[0], now, "body_md5"},
		{"no body_md5", func(q map[string]string) { delete(q, "body_md5") }, paths[0], now,
			"body_md5"},
		{"added parameter", func(q map[string]string) { q["info"] = "x" }, paths[0], now,
			"secret of app"},
		{"upper case", func(q map[string]string) {
			q["auth_signature"] = strings.ToUpper(q["auth_signature"])
		}, paths[0], now, "secret of app"},
	} {
		q := signedQuery(a, "POST", c.path, "{}", c.at, nil)
		if c.edit != nil {
			c.edit(q)
		}
		e := a.CheckRequest("POST", path, paramsOf(t, q), []byte("{}"), now, 600*time.Second)
		switch {
		case e == nil && c.want == "":
		case e == nil || c.want == "" || !strings.Contains(e.Text, c.want) || e.Status != 401:
			t.Errorf("%s: got %+v, want %q", c.name, e, c.want)
		case strings.Contains(e.Text, a.Secret) || strings.Contains(e.Text, "\n"):
			t.Errorf("%s: the answer %q tells too much", c.name, e.Text)
		}
	}
	if e := a.CheckRequest("POST", path,
		paramsOf(t, signedQuery(a, "POST", paths[0], "", time.Unix(0, 0), nil)), nil, now,
		0); e != nil {
		t.Errorf("window 0: got %v", e)
	}
}

// A refused signature is explained, and nothing secret is told.
func TestChannelFault(t *testing.T) {
	c := &Credentials{ID: "1", Key: "app-key", Secret: "app-secret"}
	data := []byte(`{"user_id":"1"}`)
	with := func(secret, text string) string { return "app-key:" + Sign(secret, text) }
	for _, v := range []struct {
		channel, auth string
		data          []byte
		want          string
	}{
		{"private-x", "", nil, "no auth was given"},
		{"private-x", "app-key", nil, "auth must be the app's key, a colon and a signature"},
		{"private-x", "other:00", nil, `auth is for the key "other", this app's is "app-key"`},
		{"private-x", "app-secret:00", nil, `auth is not for this app's key "app-key"`},
		{"private-x", "x" + Sign("app-secret", "1.2:private-x") + ":app-key", nil,
			`auth begins with what looks like a signature; it must begin with the app's key, ` +
				`which is "app-key", and a colon`},
		{"private-x", "app-key:XY", nil, "the signature must have 64 hexadecimal digits"},
		{"private-x", with("wrong", "1.2:private-x"), nil, "the signature was made with another " +
			"secret, or over another socket_id or channel"},
		{"presence-x", with("app-secret", "1.2:presence-x"), data,
			"the signature was made without channel_data"},
		{"presence-x", with("app-secret", "1.2:presence-x:{}"), data,
			"the signature was made with another secret, or over another socket_id, channel or " +
				"channel_data"},
		{"presence-x", with("app-secret", "1.2:presence-x:{}"), nil, "channel_data is missing"},
	} {
		if c.checkChannel("1.2", v.channel, v.data, v.auth) {
			t.Errorf("%s is accepted", v.auth)
		}
		got := c.channelFault("1.2", v.channel, v.data, v.auth)
		if !strings.HasPrefix(got, v.want) || strings.Contains(got, c.Secret) ||
			strings.Contains(got, Sign(c.Secret, "1.2:"+v.channel)) {
			t.Errorf("%s: got %s, want %s", v.auth, got, v.want)
		}
	}
}

// Verifying takes no memory but the first time.
func TestSignatureAllocations(t *testing.T) {
	if b, ok := debug.ReadBuildInfo(); ok &&
		slices.Contains(b.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("sync.Pool forgets at random where races are looked for")
	}
	signers, auth := new(Signers), "key:"+Sign("secret", "1.2:private-news")
	if n := testing.AllocsPerRun(100, func() {
		c := Credentials{ID: "1", Key: "key", Secret: "secret", Signers: signers}
		if !c.checkChannel("1.2", "private-news", nil, auth) {
			t.Fatal("refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	name := "presence-cache-" + strings.Repeat("x", 50)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := ParseName(name); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a name", n)
	}
}

func TestStringToSign(t *testing.T) {
	q, err := ParseQuery(nil, "b=2&A=1&auth_signature=x")
	if got, want := StringToSign("post", "/apps/1/events", q),
		"POST\n/apps/1/events\na=1&b=2"; err != nil || got != want {
		t.Errorf("got %q, want %q, %v", got, want, err)
	}
}
