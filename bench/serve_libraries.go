//go:build linux

package main

// Small broadcast servers on the Go libraries that others build on. Each writes to all
// members of a channel in the best way that its library has. They check no signature,
// send no pings, and keep no more than a list of members.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	nbio "github.com/lesismal/nbio/nbhttp/websocket"
	"github.com/lxzan/gws"
)

// hub knows the members of each channel. C is the library's connection.
type hub[C comparable] struct {
	send func(members []C, message []byte) // to all; never twice at the same time for one channel

	mu       sync.RWMutex
	channels map[string]*room[C]
	rooms    map[C][]*room[C]
}

type room[C comparable] struct {
	mu      sync.Mutex
	members []C
}

func newHub[C comparable](send func([]C, []byte)) *hub[C] {
	return &hub[C]{send: send, channels: map[string]*room[C]{}, rooms: map[C][]*room[C]{}}
}

func (h *hub[C]) join(channel string, c C) {
	h.mu.Lock()
	r := h.channels[channel]
	if r == nil {
		r = &room[C]{}
		h.channels[channel] = r
	}
	h.rooms[c] = append(h.rooms[c], r)
	h.mu.Unlock()
	r.mu.Lock()
	r.members = append(r.members, c)
	r.mu.Unlock()
}

func (h *hub[C]) leave(c C) {
	h.mu.Lock()
	rooms := h.rooms[c]
	delete(h.rooms, c)
	h.mu.Unlock()
	for _, r := range rooms {
		r.mu.Lock()
		if i := slices.Index(r.members, c); i >= 0 {
			last := len(r.members) - 1
			r.members[i] = r.members[last]
			r.members = r.members[:last]
		}
		r.mu.Unlock()
	}
}

// handle takes a message of a client and returns the answer, or nothing.
func (h *hub[C]) handle(c C, message []byte) []byte {
	var m struct {
		Event string
		Data  struct{ Channel string }
	}
	if json.Unmarshal(message, &m) != nil || m.Event != "pusher:subscribe" {
		return nil
	}
	h.join(m.Data.Channel, c)
	return subscriptionSucceeded(m.Data.Channel)
}

// publish is POST /apps/1/events.
func (h *hub[C]) publish(w http.ResponseWriter, r *http.Request) {
	var body struct{ Name, Channel, Data string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	message, err := json.Marshal(struct {
		Event   string `json:"event"`
		Data    string `json:"data"`
		Channel string `json:"channel"`
	}{body.Name, body.Data, body.Channel})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.RLock()
	room := h.channels[body.Channel]
	h.mu.RUnlock()
	if room != nil {
		room.mu.Lock()
		h.send(room.members, message)
		room.mu.Unlock()
	}
	answerOK(w)
}

// answerOK answers as the Pusher API does.
func answerOK(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "2") // nbio sends chunks without it
	io.WriteString(w, "{}")
}

// serveBare is a handler of net/http that reads the body and answers, for scale.
func serveBare(ln net.Listener) error {
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answerOK(w)
	}))
}

// handler answers both requests. upgrade serves a connection.
func (h *hub[C]) handler(upgrade http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apps/{id}/events", h.publish)
	mux.HandleFunc("GET /app/{key}", upgrade)
	return mux
}

// gorillaConn may be written to by a broadcast and by its reader.
type gorillaConn struct {
	*gorilla.Conn
	mu sync.Mutex
}

func (c *gorillaConn) write(m *gorilla.PreparedMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.WritePreparedMessage(m)
}

func (c *gorillaConn) writeText(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.WriteMessage(gorilla.TextMessage, b)
}

// serveGorilla: a PreparedMessage, written to each connection by the publisher's
// goroutine; a goroutine reads each connection; write buffers are pooled.
func serveGorilla(ln net.Listener) error {
	h := newHub(func(members []*gorillaConn, message []byte) {
		prepared, err := gorilla.NewPreparedMessage(gorilla.TextMessage, message)
		if err != nil {
			panic(err)
		}
		for _, c := range members {
			c.write(prepared) // an error shows up in its reader
		}
	})
	upgrader := gorilla.Upgrader{ReadBufferSize: 1024, WriteBufferPool: &sync.Pool{},
		CheckOrigin: func(*http.Request) bool { return true }}
	return http.Serve(ln, h.handler(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // answered by Upgrade
		}
		c := &gorillaConn{Conn: conn}
		defer c.Close()
		defer h.leave(c)
		if c.writeText(established("1.1")) != nil {
			return
		}
		for {
			_, message, err := c.ReadMessage()
			if err != nil {
				return
			}
			if answer := h.handle(c, message); answer != nil && c.writeText(answer) != nil {
				return
			}
		}
	}))
}

// serveCoder: Conn.Write by the publisher's goroutine; the library has nothing for
// many connections.
func serveCoder(ln net.Listener) error {
	ctx := context.Background()
	h := newHub(func(members []*coder.Conn, message []byte) {
		for _, c := range members {
			c.Write(ctx, coder.MessageText, message)
		}
	})
	return http.Serve(ln, h.handler(func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, &coder.AcceptOptions{InsecureSkipVerify: true,
			CompressionMode: coder.CompressionDisabled})
		if err != nil {
			return // answered by Accept
		}
		defer c.CloseNow()
		defer h.leave(c)
		if c.Write(ctx, coder.MessageText, established("1.1")) != nil {
			return
		}
		for {
			_, message, err := c.Read(ctx)
			if err != nil {
				return
			}
			if answer := h.handle(c, message); answer != nil &&
				c.Write(ctx, coder.MessageText, answer) != nil {
				return
			}
		}
	}))
}

// gwsHandler serves the connections of gws.
type gwsHandler struct {
	gws.BuiltinEventHandler
	hub *hub[*gws.Conn]
}

func (g *gwsHandler) OnOpen(c *gws.Conn) { c.WriteMessage(gws.OpcodeText, established("1.1")) }

func (g *gwsHandler) OnClose(c *gws.Conn, _ error) { g.hub.leave(c) }

func (g *gwsHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	if answer := g.hub.handle(c, m.Bytes()); answer != nil {
		c.WriteMessage(gws.OpcodeText, answer)
	}
}

// serveGWS: its Broadcaster, which encodes once and writes from goroutines of its own.
func serveGWS(ln net.Listener) error {
	h := newHub(func(members []*gws.Conn, message []byte) {
		b := gws.NewBroadcaster(gws.OpcodeText, message)
		for _, c := range members {
			b.Broadcast(c) // an error closes the connection
		}
		b.Close()
	})
	upgrader := gws.NewUpgrader(&gwsHandler{hub: h}, &gws.ServerOption{})
	return http.Serve(ln, h.handler(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		go c.ReadLoop()
	}))
}

// serveNBIO: its pollers (no goroutine for a connection), and its own HTTP server.
func serveNBIO(ln net.Listener) error {
	logging.SetLevel(logging.LevelError)
	h := newHub(func(members []*nbio.Conn, message []byte) {
		for _, c := range members {
			c.WriteMessage(nbio.TextMessage, message)
		}
	})
	upgrader := nbio.NewUpgrader()
	upgrader.CheckOrigin = func(*http.Request) bool { return true }
	upgrader.OnOpen(func(c *nbio.Conn) { c.WriteMessage(nbio.TextMessage, established("1.1")) })
	upgrader.OnMessage(func(c *nbio.Conn, _ nbio.MessageType, message []byte) {
		if answer := h.handle(c, message); answer != nil {
			c.WriteMessage(nbio.TextMessage, answer)
		}
	})
	upgrader.OnClose(func(c *nbio.Conn, _ error) { h.leave(c) })
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp", Addrs: []string{ln.Addr().String()}, IOMod: nbhttp.IOModNonBlocking,
		MaxLoad: 1 << 20,
		Listen:  func(string, string) (net.Listener, error) { return ln, nil },
		Handler: h.handler(func(w http.ResponseWriter, r *http.Request) {
			if _, err := upgrader.Upgrade(w, r, nil); err != nil &&
				!strings.Contains(err.Error(), "closed") {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		}),
	})
	if err := engine.Start(); err != nil {
		return fmt.Errorf("nbio: %w", err)
	}
	select {}
}
