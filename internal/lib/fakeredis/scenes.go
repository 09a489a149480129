package fakeredis

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"reverb/internal/lib/conversation"
	"reverb/internal/lib/resp"
)

// Set is the servers of one scene, by name. A server starts when it is first named.
type Set struct {
	t       testing.TB
	servers map[string]*Server
}

// NewSet returns a set without servers.
func NewSet(t testing.TB) *Set { return &Set{t: t, servers: map[string]*Server{}} }

// Server is the server of a name.
func (s *Set) Server(name string) *Server {
	if s.servers[name] == nil {
		s.servers[name] = Start(s.t)
	}
	return s.servers[name]
}

// Named is a text with @NAME for the addresses of servers.
func (s *Set) Named(text string) string {
	for name, server := range s.servers {
		text = strings.ReplaceAll(text, server.Address, "@"+name)
	}
	return text
}

// Addressed is a text with the addresses of servers for @NAME. No server's name may begin with
// another's.
func (s *Set) Addressed(text string) string {
	for name, server := range s.servers {
		text = strings.ReplaceAll(text, "@"+name, server.Address)
	}
	return text
}

// Verbs are what a scene can say of its servers:
//
//	redis a REPLY      the reply of a to one command more: what RESP has, or what reply knows
//	redis a forgets    its replies: what comes next are the first ones of new connections
//	pushes a           a says something on every connection, unasked
//	said a TEXT        the commands that a got
//	quiet a            no connection to a is open any more
func (s *Set) Verbs() conversation.Verbs {
	return conversation.Verbs{
		"redis": func(rest string) (got, want string) {
			name, reply, _ := strings.Cut(rest, " ")
			if reply == "forgets" {
				s.Server(name).Forget()
			} else {
				s.Server(name).Reply(s.reply(reply) + "\r\n")
			}
			return "", ""
		},
		"pushes": func(name string) (got, want string) {
			s.Server(name).Say("*1\r\n$4\r\npush\r\n")
			return "", ""
		},
		"said": func(rest string) (got, want string) {
			name, want, _ := strings.Cut(rest, " ")
			server := s.Server(name)
			server.Until(func(commands []string, _ int) bool {
				return strings.Join(commands, "|") == want
			})
			return strings.Join(server.Commands(), "|"), want
		},
		"quiet": func(name string) (got, want string) {
			if !s.Server(name).Until(func(_ []string, open int) bool { return open == 0 }) {
				return "a connection to " + name + " is open", ""
			}
			return "", ""
		},
	}
}

// reply is a reply as its bytes, but for the last newline. Three kinds have a word of their own:
//
//	hello VERSION      the reply to HELLO
//	at b               the address of b, as a sentinel tells it
//	slots 0..99 b|100..16383 c   who has which slots of a Redis Cluster
func (s *Set) reply(text string) string {
	kind, of, _ := strings.Cut(text, " ")
	switch kind {
	case "hello":
		return fmt.Sprintf("%%1\r\n$7\r\nversion\r\n$%d\r\n%s", len(of), of)
	case "at":
		host, port, _ := net.SplitHostPort(s.Server(of).Address)
		return strings.TrimSuffix(string(resp.AppendCommand(nil, host, port)), "\r\n")
	case "slots":
		parts := strings.Split(of, "|")
		b := "*" + strconv.Itoa(len(parts))
		for _, part := range parts {
			slots, name, _ := strings.Cut(part, " ")
			first, last, _ := strings.Cut(slots, "..")
			_, port, _ := net.SplitHostPort(s.Server(name).Address)
			b += "\r\n*3\r\n:" + first + "\r\n:" + last + "\r\n*2\r\n$0\r\n\r\n:" + port
		}
		return b
	}
	return strings.ReplaceAll(text, `\r\n`, "\r\n")
}
