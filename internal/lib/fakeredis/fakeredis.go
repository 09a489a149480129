// Package fakeredis has a Redis for tests. It answers with canned replies, one a command, sends
// what the test tells it to send, and keeps the commands. It does not check whether a reply fits
// its command.
package fakeredis

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reverb/internal/lib/resp"
)

// Server listens on a port of its own until the test ends. Any goroutine may call its methods.
type Server struct {
	Address string // host:port

	mu       sync.Mutex
	changed  sync.Cond // commands or open
	replies  []string
	commands []string
	open     map[net.Conn]bool
}

// Start starts a server that has no reply yet.
func Start(t testing.TB) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: ln.Addr().String(), open: map[net.Conn]bool{}}
	s.changed.L = &s.mu
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer context.AfterFunc(t.Context(), func() { nc.Close() })()
				s.serve(nc)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return s
}

// Reply adds a reply, as bytes. Every connection gets all replies, the first one for its first
// command. It ends at the first command without a reply.
func (s *Server) Reply(b string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = append(s.replies, b)
}

// Forget forgets all replies. Replies that are added later are for the first commands of new
// connections; open connections stay where they are.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = nil
}

// Say writes b to every connection, unasked.
func (s *Server) Say(b string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.open {
		io.WriteString(nc, b)
	}
}

// Commands returns the commands that came on all connections, words with spaces between.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

// Until waits until holds is true of the commands and the number of open connections. After some
// seconds it gives up and returns false.
func (s *Server) Until(holds func(commands []string, open int) bool) bool {
	const patience = 10 * time.Second
	begun := time.Now()
	defer time.AfterFunc(patience, s.changed.Broadcast).Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !holds(s.commands, len(s.open)) {
		if time.Since(begun) >= patience {
			return false
		}
		s.changed.Wait()
	}
	return true
}

func (s *Server) serve(nc net.Conn) {
	s.mark(nc, true)
	defer s.mark(nc, false)
	r := resp.NewReader(nc)
	for i := 0; ; i++ {
		if c, err := r.Read(); err != nil || !s.answer(nc, c, i) {
			return
		}
	}
}

// mark notes that a connection is open, or closes it.
func (s *Server) mark(nc net.Conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[nc] = open; !open {
		delete(s.open, nc)
		nc.Close()
	}
	s.changed.Broadcast()
}

// answer notes the command at index i of a connection, and writes its reply. It does both under the
// lock: what Say writes once the command is noted comes after the reply.
func (s *Server) answer(nc net.Conn, c resp.Reply, i int) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.replies) {
		return false
	}
	words := make([]string, len(c.Items))
	for i, w := range c.Items {
		words[i] = w.Text
	}
	s.commands = append(s.commands, strings.Join(words, " "))
	s.changed.Broadcast()
	_, err := io.WriteString(nc, s.replies[i])
	return err == nil
}
