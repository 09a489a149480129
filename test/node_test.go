package test

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clusterNode is a process of the program that is a node of a cluster.
type clusterNode struct {
	*server
	admin string
	http  *http.Client
}

// startNode starts a node. redis has the variables that lead to its Redis.
func startNode(t testing.TB, redis []string, env ...string) *clusterNode {
	t.Helper()
	s := start(t.(*testing.T), slices.Concat(oneApp(),
		[]string{"REVERB_SCALING_ENABLED=true", "REVERB_ADMIN_LISTEN=127.0.0.1:0",
			"REVERB_APP_PING_INTERVAL=600"}, redis, env)...)
	n := &clusterNode{server: s, admin: "http://" + adminAddr(t.(*testing.T), s),
		http: &http.Client{Timeout: 30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(func() { n.thaw(); n.http.CloseIdleConnections() })
	return n
}

func startNodes(t testing.TB, count int, redis []string, env ...string) (nodes []*clusterNode) {
	t.Helper()
	for range count {
		nodes = append(nodes, startNode(t, redis, env...))
	}
	for _, n := range nodes {
		eventually(t, 20*time.Second, n.notReady)
	}
	return nodes
}

// kill ends a node as a crash does.
func (n *clusterNode) kill() {
	n.cmd.Process.Kill()
	n.wait(10 * time.Second)
}

func (n *clusterNode) freeze() { n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *clusterNode) thaw()   { n.cmd.Process.Signal(syscall.SIGCONT) }

// notReady is the complaint of /ready.
func (n *clusterNode) notReady() string {
	resp, err := n.http.Get(n.admin + "/ready")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return "not ready: " + string(b)
	}
	return ""
}

// metric reads a metric that has no labels.
func (n *clusterNode) metric(name string) int {
	n.t.Helper()
	resp, err := n.http.Get(n.admin + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "reverb_"+name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return int(f)
		}
	}
	n.t.Fatalf("no metric %s", name)
	return 0
}

// api sends a signed request to the node.
func (n *clusterNode) api(method, path string, query url.Values, body []byte) (int, []byte, error) {
	return n.apiWithKey("", method, path, query, body)
}

// apiWithKey sends a signed request with a key, unless key is empty.
func (n *clusterNode) apiWithKey(key, method, path string, query url.Values,
	body []byte) (int, []byte, error) {
	app := recordedApp("main")
	q := url.Values{"auth_key": {app.key},
		"auth_timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "auth_version": {"1.0"}}
	for k, v := range query {
		q[k] = v
	}
	if body != nil {
		sum := md5.Sum(body)
		q.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	path = "/apps/" + app.id + path
	unescaped, err := url.QueryUnescape(q.Encode()) // sorted by key
	if err != nil {
		return 0, nil, err
	}
	q.Set("auth_signature", app.sign(method+"\n"+path+"\n"+unescaped))
	req, err := http.NewRequest(method, "http://"+n.addr+path+"?"+q.Encode(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// ask reads an answer of the node about the cluster.
func (n *clusterNode) ask(path, query string) (string, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	code, b, err := n.api("GET", path, q, nil)
	if err == nil && code != 200 {
		err = fmt.Errorf("%s: status %d: %s", path, code, b)
	}
	return string(b), err
}

// apiEvent is an event in the form of POST /events and /batch_events.
type apiEvent struct {
	Name     string `json:"name"`
	Data     string `json:"data"`
	Channel  string `json:"channel"`
	SocketID string `json:"socket_id,omitempty"`
}

// publish sends up to ten events.
func (n *clusterNode) publish(events ...apiEvent) error {
	body, err := json.Marshal(map[string]any{"batch": events})
	if err != nil {
		return err
	}
	code, b, err := n.api("POST", "/batch_events", nil, body)
	if err == nil && code != 200 {
		err = fmt.Errorf("publish: status %d: %s", code, b)
	}
	return err
}

// peerEvent is an event that a peer has received.
type peerEvent struct{ name, channel, data, user string }

// peer is a client that keeps its own list of members from the events that it gets, and notes
// mistakes.
type peer struct {
	node *clusterNode
	nc   net.Conn
	id   string // socket ID
	// fast gets the data of every event named "e", which has only digits.
	fast func(channel, data string)

	mu      sync.Mutex
	changed *sync.Cond
	log     []peerEvent
	quiet   bool // do not keep presence events in log
	joined  map[string]bool
	members map[string]map[string]string // by channel and user: info
	// by channel, if the test asks for it: +user and -user in turn
	moves    map[string][]string
	problems []string
	ended    bool
	code     int // of the close frame
}

var errNotOpened = errors.New("the connection was not established")

// connect opens a connection. fast may be nil.
func (n *clusterNode) connect(fast func(channel, data string)) (*peer, error) {
	nc, err := net.DialTimeout("tcp", n.addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	p := &peer{node: n, nc: nc, fast: fast, joined: map[string]bool{},
		members: map[string]map[string]string{}, moves: map[string][]string{}}
	p.changed = sync.NewCond(&p.mu)
	io.WriteString(nc, "GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	r := bufio.NewReaderSize(nc, 4096)
	if err := skipTo(r, "\r\n\r\n"); err != nil {
		nc.Close()
		return nil, err
	}
	go p.read(r)
	p.wait(10*time.Second, func() bool { return p.id != "" || p.ended })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id == "" || p.ended {
		nc.Close()
		return p, errNotOpened
	}
	return p, nil
}

// open is connect; an error ends the test.
func (n *clusterNode) open(t testing.TB, channels ...string) *peer {
	t.Helper()
	p, err := n.connect(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	for _, c := range channels {
		p.subscribe(c, "", "")
		p.mustJoin(t, c)
	}
	return p
}

func (p *peer) close() { p.nc.Close() }

// wait waits until f says true; it is called with the lock held.
func (p *peer) wait(limit time.Duration, f func() bool) bool {
	late := false
	timer := time.AfterFunc(limit, func() {
		p.mu.Lock()
		late = true
		p.changed.Broadcast()
		p.mu.Unlock()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !f() {
		if late {
			return false
		}
		p.changed.Wait()
	}
	return true
}

// send writes one message.
func (p *peer) send(text string) {
	p.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	p.nc.Write(clientFrame([]byte(text), 1)) // a failure shows as the end of the connection
}

// subscribe asks for a channel, as a user if it is a presence channel.
func (p *peer) subscribe(channel, user, info string) {
	data := map[string]string{"channel": channel}
	if strings.HasPrefix(channel, "private-") || strings.HasPrefix(channel, "presence-") {
		signed := p.id + ":" + channel
		if user != "" {
			data["channel_data"] = `{"user_id":"` + user + `","user_info":` + info + `}`
			signed += ":" + data["channel_data"]
		}
		app := recordedApp("main")
		data["auth"] = app.key + ":" + app.sign(signed)
	}
	b, err := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": data})
	if err != nil {
		panic(err)
	}
	p.send(string(b))
}

func (p *peer) unsubscribe(channel string) {
	p.mu.Lock()
	delete(p.joined, channel)
	delete(p.members, channel)
	p.mu.Unlock()
	p.send(`{"event":"pusher:unsubscribe","data":{"channel":"` + channel + `"}}`)
}

// join waits until the subscription has succeeded.
func (p *peer) join(channel string, limit time.Duration) bool {
	ok := p.wait(limit, func() bool { return p.joined[channel] || p.ended })
	p.mu.Lock()
	defer p.mu.Unlock()
	return ok && p.joined[channel]
}

func (p *peer) mustJoin(t testing.TB, channel string) {
	t.Helper()
	if !p.join(channel, 10*time.Second) {
		p.mu.Lock()
		defer p.mu.Unlock()
		t.Fatalf("no subscription to %s; ended: %v; events: %v", channel, p.ended, p.log)
	}
}

// users lists who is in a presence channel, as this peer knows it, in order of names.
func (p *peer) users(channel string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	users := make([]string, 0, len(p.members[channel]))
	for u := range p.members[channel] {
		users = append(users, u)
	}
	slices.Sort(users)
	return users
}

// got counts the events of a name and, unless it is empty, of some data.
func (p *peer) got(name, data string) (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gotLocked(name, data)
}

func (p *peer) gotLocked(name, data string) (count int) {
	for _, e := range p.log {
		if e.name == name && (data == "" || e.data == data) {
			count++
		}
	}
	return count
}

func (p *peer) mustGet(t testing.TB, name, data string) {
	t.Helper()
	if !p.wait(10*time.Second, func() bool { return p.gotLocked(name, data) > 0 || p.ended }) ||
		p.got(name, data) == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		t.Fatalf("no event %s %s; ended: %v; events: %v", name, data, p.ended, p.log)
	}
}

// read reads frames until the end.
func (p *peer) read(r *bufio.Reader) {
	var h [8]byte
	var b []byte
	for {
		if _, err := io.ReadFull(r, h[:2]); err != nil {
			break
		}
		op, n := h[0]&15, uint64(h[1])
		switch n {
		case 126:
			io.ReadFull(r, h[:2])
			n = uint64(binary.BigEndian.Uint16(h[:2]))
		case 127:
			io.ReadFull(r, h[:8])
			n = binary.BigEndian.Uint64(h[:8])
		}
		if n > 64<<20 {
			break
		}
		b = slices.Grow(b[:0], int(n))[:n]
		if _, err := io.ReadFull(r, b); err != nil {
			break
		}
		switch op {
		case 1:
			p.handle(b)
		case 8:
			p.mu.Lock()
			if len(b) >= 2 {
				p.code = int(binary.BigEndian.Uint16(b))
			}
			p.mu.Unlock()
		}
	}
	p.nc.Close()
	p.mu.Lock()
	p.ended = true
	p.changed.Broadcast()
	p.mu.Unlock()
}

var fastPrefix, fastMiddle = []byte(`{"event":"e","data":"`), []byte(`","channel":"`)

func (p *peer) handle(b []byte) {
	if rest, ok := bytes.CutPrefix(b, fastPrefix); ok && p.fast != nil {
		data, channel, ok := bytes.Cut(rest, fastMiddle)
		if ok {
			p.fast(string(channel[:len(channel)-2]), string(data))
			return
		}
	}
	var m struct {
		Event, Channel string
		Data           json.RawMessage
		UserID         string `json:"user_id"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		m.Event, m.Channel = "no JSON", string(b)
	}
	data := string(m.Data)
	if len(data) > 0 && data[0] == '"' {
		json.Unmarshal(m.Data, &data) // it is a string: b was parsed as a whole
	}
	if m.Event == "pusher:ping" {
		p.send(`{"event":"pusher:pong"}`)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed.Broadcast()
	presence := p.handlePresence(m.Event, m.Channel, data)
	if !presence || !p.quiet {
		p.log = append(p.log, peerEvent{m.Event, m.Channel, data, m.UserID})
	}
}

// handlePresence keeps the lists of members. It says whether the event was about them.
func (p *peer) handlePresence(event, channel, data string) bool {
	var d struct {
		SocketID string `json:"socket_id"`
		UserID   string `json:"user_id"`
		UserInfo json.RawMessage
		Presence struct {
			IDs   []string
			Hash  map[string]json.RawMessage
			Count int
		}
	}
	problem := func(format string, args ...any) {
		p.problems = append(p.problems,
			fmt.Sprintf(format, args...))
	}
	switch event {
	case "pusher:connection_established", "pusher_internal:subscription_succeeded",
		"pusher_internal:member_added", "pusher_internal:member_removed":
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			problem("%s: %v in %s", event, err, data)
		}
	}
	here := p.members[channel]
	switch event {
	case "pusher:connection_established":
		p.id = d.SocketID
		return false
	case "pusher_internal:subscription_succeeded":
		p.joined[channel] = true
		if !strings.HasPrefix(channel, "presence-") {
			return false
		}
		here = map[string]string{}
		for user, info := range d.Presence.Hash {
			here[user] = string(info)
		}
		if len(here) != d.Presence.Count || len(here) != len(d.Presence.IDs) {
			problem("%d members in hash, %d in ids, count %d", len(here), len(d.Presence.IDs),
				d.Presence.Count)
		}
		p.members[channel] = here
	case "pusher_internal:member_added":
		if here == nil {
			return true // unsubscribed meanwhile
		}
		if _, present := here[d.UserID]; present {
			problem("%s: %s was added, but is here", channel, d.UserID)
		}
		here[d.UserID] = string(d.UserInfo)
		p.move(channel, "+"+d.UserID)
	case "pusher_internal:member_removed":
		if here == nil {
			return true
		}
		if _, present := here[d.UserID]; !present {
			problem("%s: %s was removed, but is not here", channel, d.UserID)
		}
		delete(here, d.UserID)
		p.move(channel, "-"+d.UserID)
	default:
		return false
	}
	return true
}

func (p *peer) move(channel, what string) {
	if moves, asked := p.moves[channel]; asked {
		p.moves[channel] = append(moves, what)
	}
}

// closeCode is the code of the close frame, once the connection has ended.
func (p *peer) closeCode() int {
	if p == nil {
		return 0
	}
	p.wait(10*time.Second, func() bool { return p.ended })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.code
}
