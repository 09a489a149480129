package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write down what the server does as what it should do")

type credentials struct{ id, key, secret string }

func recordedApp(name string) credentials {
	if name == "" || name == "main" {
		return credentials{"app-id", "app-key", "app-secret"}
	}
	return credentials{"id-" + name, "key-" + name, "secret-" + name}
}

func (c credentials) sign(s string) string {
	mac := hmac.New(sha256.New, []byte(c.secret))
	io.WriteString(mac, s)
	return hex.EncodeToString(mac.Sum(nil))
}

// TestGolden replays every recording with one node. The outcome of a step must be as recorded, as
// one of the rules says, or as in golden/accepted.json for a scenario with a reason in
// differences.go.
func TestGolden(t *testing.T) {
	accepted := map[string]map[string]json.RawMessage{}
	if b, err := os.ReadFile("golden/accepted.json"); err == nil {
		if err := json.Unmarshal(b, &accepted); err != nil {
			t.Fatal(err)
		}
	} else if !*update {
		t.Fatal(err)
	}
	tally := newTally()
	files, err := filepath.Glob("golden/*.json")
	if err != nil {
		t.Fatal(err)
	}
	slow := func(file string) bool { return strings.Contains(file, "slow_") } // minutes: first
	slices.SortStableFunc(files, func(a, b string) int {
		switch {
		case slow(a) == slow(b):
			return 0
		case slow(a):
			return -1
		}
		return 1
	})
	apps, err := filepath.Abs("golden/apps.json")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("replay", func(t *testing.T) {
		for _, file := range files {
			if base := filepath.Base(file); base == "apps.json" || base == "accepted.json" {
				continue
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, sc := range r.Scenarios {
				name := r.Group + "/" + sc.Name
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					env := []string{"REVERB_APPS_FILE=" + apps}
					switch r.Group {
					case "path_prefix":
						env = append(env, "REVERB_SERVER_PATH=/ws")
					case "big_request":
						env = append(env, "REVERB_MAX_REQUEST_SIZE=2000000")
					}
					replay(t, name, sc, start(t, env...).addr, accepted[name], tally)
				})
			}
		}
	})
	tally.report(t, accepted)
}

// tally counts the outcomes of scenarios.
type tally struct {
	mu        sync.Mutex
	scenarios int
	equal     int
	byReason  map[string]int
	byRule    map[string]int
	others    int
	observed  map[string]map[string]json.RawMessage // the differing steps of each scenario
}

func newTally() *tally {
	return &tally{byReason: map[string]int{}, byRule: map[string]int{},
		observed: map[string]map[string]json.RawMessage{}}
}

func (ta *tally) report(t *testing.T, accepted map[string]map[string]json.RawMessage) {
	ta.mu.Lock()
	defer ta.mu.Unlock()
	if *update {
		b, err := json.MarshalIndent(ta.observed, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("golden/accepted.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	listed := 0
	for _, d := range differences() {
		if n := ta.byReason[d.reason]; n == 0 {
			t.Errorf("listed, but occurs no more: %s", d.reason)
		} else {
			listed += n
			t.Logf("%4d  %s", n, d.reason)
		}
	}
	for _, r := range rules() {
		if n := ta.byRule[r.reason]; n == 0 {
			t.Errorf("a rule that is used no more: %s", r.reason)
		} else {
			t.Logf("%4d  steps by rule: %s", n, r.reason)
		}
	}
	for name := range accepted {
		if ta.observed[name] == nil {
			t.Errorf("golden/accepted.json has %q, which does not occur", name)
		}
	}
	t.Logf("%d scenarios: %d equal in meaning, %d on the list of deliberate differences, %d others",
		ta.scenarios, ta.equal, listed, ta.others)
}

func replay(t *testing.T, name string, sc scenario, addr string,
	accepted map[string]json.RawMessage, ta *tally) {
	r := &replayer{t: t, addr: addr, conns: map[string]*rawConn{}}
	defer r.close()
	differing := map[string]json.RawMessage{}
	var used []string
	bad := ""
	for i, st := range sc.Steps {
		want, by := expected(&st)
		used = append(used, by...)
		if a, ok := accepted[strconv.Itoa(i)]; ok {
			var o outcome
			d := json.NewDecoder(bytes.NewReader(a))
			d.UseNumber()
			if err := d.Decode(&o); err != nil {
				t.Fatal(err)
			}
			got := r.step(&st, &o)
			if got.String() != want.String() {
				differing[strconv.Itoa(i)] = json.RawMessage(got.String())
			}
			if got.String() != o.String() {
				bad += fmt.Sprintf("step %d %s\n  accepted %s\n  got      %s\n", i, st.Op, o, got)
			}
			continue
		}
		got := r.step(&st, &want)
		if got.String() != want.String() {
			differing[strconv.Itoa(i)] = json.RawMessage(got.String())
			bad += fmt.Sprintf("step %d %s %.200s\n  recorded %s\n  got      %s\n", i, st.Op,
				st.Text+st.Request, want, got)
		}
	}
	ta.mu.Lock()
	defer ta.mu.Unlock()
	ta.scenarios++
	for _, u := range used {
		ta.byRule[u]++
	}
	if len(differing) == 0 {
		ta.equal++
		if len(accepted) > 0 && !*update {
			t.Error("is on the list of differences, but there is none")
		}
		return
	}
	ta.observed[name] = differing
	reason := reasonFor(name)
	if reason == "" {
		ta.others++
		t.Errorf("differs, and no reason covers it:\n%s", bad)
		return
	}
	ta.byReason[reason]++
	if bad != "" && !*update {
		t.Errorf("differs otherwise than accepted:\n%s", bad)
	}
}

func reasonFor(name string) string {
	for _, d := range differences() {
		for _, pattern := range d.scenarios {
			if ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x01"),
				strings.ReplaceAll(name, "/", "\x01")); err != nil {
				panic(err)
			} else if ok {
				return d.reason
			}
		}
	}
	return ""
}

// expected is the recorded outcome of a step after all rules, and which applied.
func expected(st *step) (o outcome, used []string) {
	o.Got = map[string][]any{}
	for c, events := range st.Got {
		for _, e := range events {
			o.Got[c] = append(o.Got[c], canonicalEvent(e))
		}
	}
	if st.Response != nil {
		o.Response = canonicalResponse(st.Response)
	}
	for _, r := range rules() {
		before := o.String()
		r.apply(st, &o)
		if o.String() != before {
			used = append(used, r.reason)
		}
	}
	for c := range o.Got {
		if len(o.Got[c]) == 0 {
			delete(o.Got, c)
		}
	}
	return o, used
}

// canonicalEvent turns the recorder's note of one arrival into a value.
func canonicalEvent(e map[string]any) any {
	if s, ok := e["text"].(string); ok {
		return canonicalText(s)
	}
	if s, ok := e["handshake"].(string); ok {
		return map[string]any{"handshake": statusOf(s)}
	}
	if f, ok := e["frame"].(map[string]any); ok {
		return map[string]any{"frame": f["opcode"], "payload": f["payload"]}
	}
	if code, ok := e["close"]; ok {
		return map[string]any{"close": code, "reason": e["reason"]}
	}
	if b, ok := e["bytes"].(string); ok {
		return map[string]any{"bytes": b}
	}
	return map[string]any{"tcp": e["tcp"]}
}

func statusOf(head string) string {
	if f := strings.Fields(head); len(f) > 1 {
		return f[1]
	}
	return head
}

// canonicalText decodes a message, and the JSON inside its data.
func canonicalText(s string) any {
	v := decode(s)
	if m, ok := v.(map[string]any); ok {
		if data, ok := m["data"].(string); ok {
			m["data"] = canonicalString(data)
		}
		return m
	}
	return map[string]any{"text": s}
}

// canonicalString marks a string that holds a JSON object or array, and decodes it.
func canonicalString(s string) any {
	switch v := decode(s).(type) {
	case map[string]any, []any:
		return map[string]any{"string of": v}
	}
	return s
}

func canonicalResponse(r map[string]any) []any {
	line, _ := r["status_line"].(string)
	if line == "" {
		return []any{"no answer"}
	}
	body, _ := r["body"].(string)
	out := []any{statusOf(line)}
	if v := decode(body); v != nil {
		out = append(out, v)
	} else {
		out = append(out, body)
	}
	headers, _ := r["headers"].([]any)
	for _, h := range headers {
		name, value, _ := strings.Cut(h.(string), ":")
		if strings.EqualFold(name, "Allow") {
			out = append(out, "Allow: "+strings.TrimSpace(value))
		}
	}
	return out
}

// replayer plays one scenario.
type replayer struct {
	t     *testing.T
	addr  string
	conns map[string]*rawConn
}

// rawConn is a socket on which a scenario writes bytes of its choice.
type rawConn struct {
	nc  net.Conn
	app credentials

	mu      sync.Mutex
	arrived *sync.Cond
	buf     []byte
	opened  bool // the handshake has been read
	sid     string
	events  []map[string]any
	eof     bool
}

func (r *replayer) close() {
	for _, c := range r.conns {
		c.nc.Close()
	}
}

func (r *replayer) sid(name string) string {
	if c := r.conns[name]; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.sid != "" {
			return c.sid
		}
	}
	return "0.0"
}

var sidPlace = regexp.MustCompile(`\{\{sid:(\w+)\}\}`)

func (r *replayer) fill(s string) string {
	return sidPlace.ReplaceAllStringFunc(s,
		func(m string) string { return r.sid(sidPlace.FindStringSubmatch(m)[1]) })
}

// mask puts the placeholders of the recordings in the place of socket IDs.
func (r *replayer) mask(s string) string {
	for name := range r.conns {
		if id := r.sid(name); id != "0.0" {
			s = strings.ReplaceAll(s, id, "{{sid:"+name+"}}")
		}
	}
	return s
}

// step does a step and returns its outcome. want only says how long to wait: until as much has
// arrived, and then a moment more.
func (r *replayer) step(st *step, want *outcome) outcome {
	o := outcome{Got: map[string][]any{}}
	switch st.Op {
	case "connect":
		r.connect(st)
	case "send":
		r.write(st.C, clientFrame([]byte(r.fill(st.Text)), 1))
	case "sub":
		r.write(st.C, clientFrame(r.subscribe(st), 1))
	case "frame":
		r.write(st.C, oddFrame(st, r))
	case "raw":
		b, err := hex.DecodeString(st.Hex)
		if err != nil {
			r.t.Fatal(err)
		}
		r.write(st.C, b)
	case "multi":
		var b []byte
		for _, text := range st.Texts {
			b = append(b, clientFrame([]byte(r.fill(text)), 1)...)
		}
		r.write(st.C, b)
	case "tcpclose":
		r.conns[st.C].nc.Close()
	case "shutdown":
		r.conns[st.C].nc.(*net.TCPConn).CloseWrite()
	case "wait":
		time.Sleep(time.Duration(st.S * float64(time.Second)))
	case "http":
		o.Response = r.http(st)
	default:
		r.t.Fatalf("unknown step %q", st.Op)
	}
	names := make([]string, 0, len(r.conns))
	for name := range r.conns {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		r.conns[name].await(len(want.Got[name]))
	}
	time.Sleep(60 * time.Millisecond) // time for messages that are not expected
	for _, name := range names {
		if name == st.C && (st.Op == "tcpclose") {
			r.conns[name].take()
			continue
		}
		for _, e := range r.conns[name].take() {
			for k, v := range e {
				if s, ok := v.(string); ok {
					e[k] = r.mask(s)
				}
			}
			o.Got[name] = append(o.Got[name], canonicalEvent(e))
		}
	}
	return o
}

func (r *replayer) connect(st *step) {
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &rawConn{nc: nc, app: recordedApp(st.App)}
	c.arrived = sync.NewCond(&c.mu)
	r.conns[st.C] = c
	early, err := hex.DecodeString(st.EarlyHex)
	if err != nil {
		r.t.Fatal(err)
	}
	go c.readLoop()
	r.write(st.C, append([]byte(st.Request), early...))
}

func (r *replayer) write(name string, b []byte) {
	r.conns[name].nc.Write(b) // an error means that the server has closed it; reading shows that
}

// subscribe makes the message of a "sub" step and signs it as the step says.
func (r *replayer) subscribe(st *step) []byte {
	c := r.conns[st.C]
	auth := st.Auth
	if auth == "auto" || auth == "" && !strings.Contains(st.Text, `"auth":""`) {
		if auth = "none"; strings.HasPrefix(st.Channel, "private") ||
			strings.HasPrefix(st.Channel, "presence") {
			auth = "good"
		}
	}
	signed := r.sid(st.C) + ":" + st.Channel
	if st.ChannelData != nil && *st.ChannelData != "" {
		signed += ":" + *st.ChannelData
	}
	good := c.app.sign(signed)
	data := map[string]any{"channel": st.Channel}
	switch auth {
	case "good":
		data["auth"] = c.app.key + ":" + good
	case "sigonly":
		data["auth"] = good
	case "otherkey":
		data["auth"] = "nosuchkey:" + good
	case "none":
	default:
		data["auth"] = auth
	}
	if st.ChannelData != nil {
		data["channel_data"] = *st.ChannelData
	}
	b, err := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": data})
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func clientFrame(payload []byte, opcode byte) []byte {
	fin, mask := true, true
	return buildFrame(payload, opcode, fin, mask, 0, 0, uint64(len(payload)))
}

// buildFrame makes any frame, also a wrong one. lenform 2 or 8 is how many bytes the length has;
// claim is the length that the frame states.
func buildFrame(payload []byte, opcode byte, fin, mask bool, rsv byte, lenform int,
	claim uint64) []byte {
	b0, mb := opcode|rsv<<4, byte(0)
	if fin {
		b0 |= 0x80
	}
	if mask {
		mb = 0x80
	}
	var h []byte
	switch {
	case lenform == 8 || lenform == 0 && claim > 65535:
		h = binary.BigEndian.AppendUint64([]byte{b0, mb | 127}, claim)
	case lenform == 2 || lenform == 0 && claim > 125:
		h = binary.BigEndian.AppendUint16([]byte{b0, mb | 126}, uint16(claim))
	default:
		h = []byte{b0, mb | byte(claim)}
	}
	if !mask {
		return append(h, payload...)
	}
	h = append(h, 1, 2, 3, 4)
	for i, c := range payload {
		h = append(h, c^byte(i&3+1))
	}
	return h
}

func oddFrame(st *step, r *replayer) []byte {
	payload := []byte(r.fill(st.Payload))
	if st.Hex != "" {
		payload, _ = hex.DecodeString(st.Hex)
	}
	payload = bytes.Repeat(payload, max(st.Repeat, 1))
	opcode, fin, mask, claim := byte(1), true, true, uint64(len(payload))
	if st.Opcode != nil {
		opcode = *st.Opcode
	}
	if st.Fin != nil {
		fin = *st.Fin
	}
	if st.Mask != nil {
		mask = *st.Mask
	}
	if st.Claim != nil {
		claim = *st.Claim
	}
	b := buildFrame(payload, opcode, fin, mask, st.Rsv, st.Lenform, claim)
	if st.Trunc != nil {
		b = b[:min(*st.Trunc, len(b))]
	}
	return b
}

func (c *rawConn) readLoop() {
	chunk := make([]byte, 64<<10)
	for {
		n, err := c.nc.Read(chunk)
		c.mu.Lock()
		c.buf = append(c.buf, chunk[:n]...)
		c.parse()
		if err != nil {
			c.flush()
			word := "eof"
			if err != io.EOF && strings.Contains(err.Error(), "reset") {
				word = "reset"
			}
			c.events, c.eof = append(c.events, map[string]any{"tcp": word}), true
		}
		c.arrived.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// flush reports bytes that are not a frame, such as an HTTP answer.
func (c *rawConn) flush() {
	if len(c.buf) > 0 {
		c.events, c.buf = append(c.events, map[string]any{"bytes": string(c.buf)}), nil
	}
}

var sidInText = regexp.MustCompile(`\\"socket_id\\":\\"([0-9.]+)\\"`)

// parse removes whole frames from the front of buf.
func (c *rawConn) parse() {
	if !c.opened {
		i := bytes.Index(c.buf, []byte("\r\n\r\n"))
		if i < 0 {
			return
		}
		c.events, c.opened = append(c.events, map[string]any{"handshake": string(c.buf[:i+4])}),
			true
		c.buf = c.buf[i+4:]
	}
	for len(c.buf) >= 2 {
		b0, b1 := c.buf[0], c.buf[1]
		if b0&0x70 != 0 || b1&0x80 != 0 || !slices.Contains([]byte{0, 1, 2, 8, 9, 10}, b0&15) {
			return
		}
		n, off := int(b1&127), 2
		switch {
		case n == 126 && len(c.buf) >= 4:
			n, off = int(binary.BigEndian.Uint16(c.buf[2:])), 4
		case n == 127 && len(c.buf) >= 10:
			n, off = int(binary.BigEndian.Uint64(c.buf[2:])), 10
		case n > 125:
			return
		}
		if len(c.buf) < off+n {
			return
		}
		payload := c.buf[off : off+n]
		c.buf = c.buf[off+n:]
		switch op := b0 & 15; {
		case op == 1 && b0&0x80 != 0:
			if m := sidInText.FindSubmatch(payload); m != nil && c.sid == "" {
				c.sid = string(m[1])
			}
			c.events = append(c.events, map[string]any{"text": string(payload)})
		case op == 8 && len(payload) >= 2:
			c.events = append(c.events, map[string]any{
				"close": int(binary.BigEndian.Uint16(payload)), "reason": string(payload[2:])})
		default:
			c.events = append(c.events, map[string]any{"frame": map[string]any{"opcode": int(op),
				"payload": string(payload)}})
		}
	}
}

// await returns when n events have arrived, the connection has ended, or it has
// taken too long.
func (c *rawConn) await(n int) {
	late := false
	timer := time.AfterFunc(3*time.Second, func() {
		c.mu.Lock()
		late = true
		c.arrived.Broadcast()
		c.mu.Unlock()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.events) < n && !c.eof && !late &&
		!(c.opened && len(c.buf) > 0 && len(c.events)+1 >= n) {
		c.arrived.Wait()
	}
}

func (c *rawConn) take() []map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened {
		c.flush()
	}
	events := c.events
	c.events = nil
	return events
}

// http sends the request of a step, signed as the step says, on a connection of its own.
func (r *replayer) http(st *step) []any {
	app := recordedApp(st.App)
	body := ""
	if st.Body != nil {
		body = strings.ReplaceAll(r.fill(*st.Body), "@@", strings.Repeat("x", st.BodyRepeat))
	}
	method, target := st.Method, r.fill(st.Path)
	if method == "" {
		method = "GET"
	}
	query := map[string]string{}
	for k, v := range st.Query {
		query[k] = fmt.Sprint(v)
	}
	sign := "good"
	if st.Sign != nil {
		sign = *st.Sign
	}
	if sign != "none" {
		r.signQuery(st, app, method, target, body, sign, query)
	}
	if len(query) > 0 {
		var parts []string
		for k, v := range query {
			parts = append(parts, k+"="+strings.ReplaceAll(url.QueryEscape(v), "+", "%20"))
		}
		sort.Strings(parts)
		target += "?" + strings.Join(parts, "&")
	}
	if st.Rawquery != "" {
		target = r.fill(st.Path) + "?" + st.Rawquery
	}
	headers := map[string]string{"Host": "127.0.0.1:8080", "Accept": "application/json"}
	if st.Body != nil {
		headers["Content-Type"], headers["Content-Length"] = "application/json",
			strconv.Itoa(len(body))
	}
	for k, v := range st.Headers {
		if delete(headers, k); v != nil {
			headers[k] = *v
		}
	}
	// The request line is as recorded: some are malformed on purpose.
	line, _, _ := strings.Cut(st.Request, "\r\n")
	proto := line[strings.LastIndexByte(line, ' ')+1:]
	if !strings.HasPrefix(proto, "HTTP/") {
		proto = ""
	}
	head := method + " " + target + " " + proto + "\r\n"
	for k, v := range headers {
		head += k + ": " + v + "\r\n"
	}
	return r.exchange(st, []byte(head+"\r\n"), []byte(body))
}

func (r *replayer) signQuery(st *step, app credentials, method, target, body, sign string,
	query map[string]string) {
	set := func(k, v string) {
		if _, ok := query[k]; !ok && !slices.Contains(st.Drop, k) {
			query[k] = v
		}
	}
	ts := st.Ts
	if ts == "" {
		ts = strconv.FormatInt(time.Now().Unix(), 10)
	}
	sum := md5.Sum([]byte(body))
	bodyMD5 := hex.EncodeToString(sum[:])
	set("auth_key", app.key)
	set("auth_timestamp", ts)
	set("auth_version", "1.0")
	if body != "" {
		set("body_md5", bodyMD5)
	}
	signed := map[string]string{}
	for k, v := range query {
		signed[k] = v
	}
	if body != "" {
		signed["body_md5"] = bodyMD5
	}
	var lines []string
	for k, v := range signed {
		lines = append(lines, k+"="+v)
	}
	sort.Strings(lines)
	signPath := target
	if st.Signpath != nil {
		signPath = *st.Signpath
	}
	signature := app.sign(method + "\n" + signPath + "\n" + strings.Join(lines, "&"))
	switch sign {
	case "good":
	case "bad":
		signature = signature[:60] + "zzzz"
	case "upper":
		signature = strings.ToUpper(signature)
	case "nosig":
		return
	default:
		signature = sign
	}
	query["auth_signature"] = signature
}

func (r *replayer) exchange(st *step, head, body []byte) []any {
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	if st.Split {
		for part := range slices.Chunk(append(head, body...), 7) {
			nc.Write(part)
		}
	} else {
		nc.Write(append(head, body...))
		if st.Second {
			nc.Write(append(head, body...))
		}
	}
	if st.HalfClose {
		nc.(*net.TCPConn).CloseWrite()
	}
	nc.SetReadDeadline(time.Now().Add(4 * time.Second))
	var raw []byte
	chunk := make([]byte, 64<<10)
	for !complete(raw, st) {
		n, err := nc.Read(chunk)
		raw = append(raw, chunk[:n]...)
		if err != nil {
			break
		}
	}
	text := skew.ReplaceAllString(date.ReplaceAllString(r.mask(string(raw)), "Date: {{date}}"),
		"is {{skew}} seconds off")
	head0, rest, _ := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head0, "\r\n")
	headers := []any{}
	for _, h := range lines[1:] {
		headers = append(headers, h)
	}
	return canonicalResponse(map[string]any{"status_line": lines[0], "headers": headers,
		"body": rest})
}

var (
	date = regexp.MustCompile(`Date: [^\r]+`)
	skew = regexp.MustCompile(`is -?\d+ seconds off`)
)

var contentLength = regexp.MustCompile(`(?i)\r\ncontent-length: *(\d+)`)

// complete says whether raw holds a whole answer, if that can be known.
func complete(raw []byte, st *step) bool {
	i := bytes.Index(raw, []byte("\r\n\r\n"))
	m := contentLength.FindSubmatch(raw[:max(i, 0)])
	if i < 0 || m == nil || st.Second || st.Method == "HEAD" {
		return false
	}
	n, err := strconv.Atoi(string(m[1]))
	return err == nil && len(raw) >= i+4+n
}
