package fakeredis

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"reverb/internal/lib/resp"
)

// Named has the servers of a scene of package conversation, by their names. Verbs has the lines for
// them.
type Named struct {
	t       testing.TB
	servers map[string]*Server
}

// NewNamed makes a Named without servers. A server starts when a line names it for the first time.
func NewNamed(t testing.TB) *Named { return &Named{t, map[string]*Server{}} }

func (n *Named) server(name string) *Server {
	if n.servers[name] == nil {
		n.servers[name] = Start(n.t)
	}
	return n.servers[name]
}

// Addresses replaces @a by the address of a. No name may be the beginning of another name.
func (n *Named) Addresses(text string) string {
	for name, s := range n.servers {
		text = strings.ReplaceAll(text, "@"+name, s.Address)
	}
	return text
}

// Names is the reverse of Addresses.
func (n *Named) Names(text string) string {
	for name, s := range n.servers {
		text = strings.ReplaceAll(text, s.Address, "@"+name)
	}
	return text
}

// Verbs are conversation.Verbs:
//
//	redis a REPLY     the reply of a to one command more; hello VERSION is that to HELLO, at b
//	                  the address of b, as a sentinel tells it; slots 0..99 b|100..16383 c says
//	                  who has which slots of a Redis Cluster, and slots b that b has all
//	redis a forgets   its replies: what comes next are the first ones of new connections
//	pushes a          a says something on every connection, unasked
//	said a TEXT       the commands that a got, with | between them
//	quiet a           no connection to a is open any more
//
// The last two wait until that is true, or for some seconds.
func (n *Named) Verbs() map[string]func(rest string) (got, want string) {
	return map[string]func(rest string) (got, want string){
		"redis": func(rest string) (got, want string) {
			if name, forgets := strings.CutSuffix(rest, " forgets"); forgets {
				n.server(name).Forget()
				return "", ""
			}
			name, reply, _ := strings.Cut(rest, " ")
			n.server(name).Reply(n.reply(reply) + "\r\n")
			return "", ""
		},
		"pushes": func(rest string) (got, want string) {
			n.server(rest).Say("*1\r\n$4\r\npush\r\n")
			return "", ""
		},
		"said": func(rest string) (got, want string) {
			name, want, _ := strings.Cut(rest, " ")
			n.server(name).Until(func(commands []string, _ int) bool {
				return strings.Join(commands,
					"|") == want
			})
			return strings.Join(n.server(name).Commands(), "|"), want
		},
		"quiet": func(rest string) (got, want string) {
			if !n.server(rest).Until(func(_ []string, open int) bool { return open == 0 }) {
				return "a connection to " + rest + " is open", ""
			}
			return "", ""
		},
	}
}

// reply is the bytes of a reply, without the last line end.
func (n *Named) reply(text string) string {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "hello":
		return fmt.Sprintf("%%1\r\n$7\r\nversion\r\n$%d\r\n%s", len(rest), rest)
	case "at":
		host, port, _ := net.SplitHostPort(n.server(rest).Address)
		return strings.TrimSuffix(string(resp.AppendCommand(nil, host, port)), "\r\n")
	case "slots":
		if !strings.Contains(rest, " ") {
			rest = "0..16383 " + rest
		}
		parts := strings.Split(rest, "|")
		b := "*" + strconv.Itoa(len(parts))
		for _, part := range parts {
			slots, name, _ := strings.Cut(part, " ")
			first, last, _ := strings.Cut(slots, "..")
			_, port, _ := net.SplitHostPort(n.server(name).Address)
			b += "\r\n*3\r\n:" + first + "\r\n:" + last + "\r\n*2\r\n$0\r\n\r\n:" + port
		}
		return b
	}
	return strings.ReplaceAll(text, `\r\n`, "\r\n")
}
