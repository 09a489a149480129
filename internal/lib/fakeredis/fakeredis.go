// Package fakeredis is a Redis of tests. It answers with canned replies, one a command, and
// keeps the commands. What the replies mean, and whether they fit, is the test's business.
package fakeredis

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"reverb/internal/lib/resp"
)

// Server listens on a port of its own until the test ends. Any goroutine may call its methods.
type Server struct {
	Address string // host:port

	mu       sync.Mutex
	replies  []string
	commands []string
}

// Start starts a server that has no reply yet.
func Start(t testing.TB) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: ln.Addr().String()}
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

// Reply adds a reply, as its bytes. Every connection gets all replies, the first for its
// first command; it ends at the command for which there is none.
func (s *Server) Reply(b string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = append(s.replies, b)
}

// Commands returns the commands that came on all connections, words with spaces between.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

func (s *Server) serve(nc net.Conn) {
	defer nc.Close()
	r := resp.NewReader(nc)
	for i := 0; ; i++ {
		c, err := r.Read()
		reply, ok := s.next(c, i)
		if err != nil || !ok {
			return
		}
		io.WriteString(nc, reply)
	}
}

// next notes the command at index i of a connection, and returns its reply.
func (s *Server) next(c resp.Reply, i int) (reply string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= len(s.replies) {
		return "", false
	}
	words := make([]string, len(c.Items))
	for i, w := range c.Items {
		words[i] = w.Text
	}
	s.commands = append(s.commands, strings.Join(words, " "))
	return s.replies[i], true
}
