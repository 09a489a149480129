package conversation

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Client is the client's end of a WebSocket. It reads all the time. It answers neither a ping nor a
// close frame.
type Client struct {
	app    App
	conn   net.Conn
	settle func()

	mu     sync.Mutex
	id     string    // see ID
	change sync.Cond // of paused
	paused bool
	got    []string // a message each; see readFrame
}

// Welcome connects a client of the first app, which must be welcomed.
func (s *Server) Welcome() (*Client, error) {
	c, err := s.Dial("/app/" + s.Apps[0].Key)
	if err == nil && c.ID() == "" {
		err = fmt.Errorf("the client was not welcomed: %s", c.Take())
	} else if err == nil {
		c.Take()
	}
	return c, err
}

// Dial asks for a WebSocket. The line is a path and what may stand behind it, see the
// package's comment.
func (s *Server) Dial(line string) (*Client, error) {
	line, early, hasEarly := strings.Cut(line, " > ")
	words := strings.Fields(line)
	from, head := "", ""
	for _, word := range words[1:] {
		if address, ok := strings.CutPrefix(word, "@"); ok {
			from = address
		} else {
			head += word + "\r\n"
		}
	}
	c := &Client{app: s.Apps[0], conn: s.Connect(from, false), settle: s.Settle}
	c.change.L = &c.mu
	s.open = append(s.open, c)
	for _, a := range s.Apps {
		if strings.HasSuffix(words[0], "/"+a.Key) {
			c.app = a
		}
	}
	request := "GET " + words[0] + " HTTP/1.1\r\nHost: x\r\n" +
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + head + "\r\n"
	if hasEarly {
		request += frame(opText, true, early)
	}
	go io.WriteString(c.conn, request)
	r := bufio.NewReader(reader{c})
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("handshake: %v, %v", resp, err)
	}
	go c.readLoop(r)
	s.Settle()
	return c, nil
}

// reader is the connection of a client; it waits while the client does not read.
type reader struct{ *Client }

func (r reader) Read(b []byte) (int, error) {
	n, err := r.conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.paused {
		r.change.Wait()
	}
	return n, err
}

func (c *Client) pause(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = on
	c.change.Broadcast()
}

// Close closes the socket.
func (c *Client) Close() error {
	defer c.pause(false)
	return c.conn.Close()
}

func (c *Client) readLoop(r *bufio.Reader) {
	for more := true; more; {
		var s string
		s, more = readFrame(r)
		c.mu.Lock()
		c.got = append(c.got, s)
		if _, id, ok := strings.Cut(s, `{\"socket_id\":\"`); ok {
			c.id, _, _ = strings.Cut(id, `\`)
		}
		c.mu.Unlock()
	}
}

// Opcodes (RFC 6455 §5.2).
const (
	opRest   = 0 // continuation
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// deflateEnd completes a compressed message for the decompressor: the end that a sender leaves out
// (RFC 7692), and an empty last block.
const deflateEnd = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// readFrame returns a frame in the form of scenes: the text of a message, "deflated" and the text
// of a compressed one, "close CODE REASON", "frame OPCODE "payload"", or "eof", after which nothing
// comes. It knows no fragments, which a server need not send, and no compression that goes on
// from one message to the next.
func readFrame(r io.Reader) (s string, more bool) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return "eof", false
	}
	length := uint64(head[1])
	switch length {
	case 126:
		var n uint16
		binary.Read(r, binary.BigEndian, &n)
		length = uint64(n)
	case 127:
		binary.Read(r, binary.BigEndian, &length)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return "eof in a frame", false
	}
	switch {
	case head[0] == 0x80|opText:
		return string(payload), true
	case head[0] == 0xc0|opText: // RFC 7692 §7.2.2
		whole := io.MultiReader(bytes.NewReader(payload), strings.NewReader(deflateEnd))
		text, err := io.ReadAll(flate.NewReader(whole))
		if err != nil {
			return fmt.Sprintf("frame %d %q: %v", head[0], payload, err), true
		}
		return "deflated " + string(text), true
	case head[0] == 0x80|opClose && length >= 2:
		return fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(payload), payload[2:]), true
	}
	return fmt.Sprintf("frame %d %q", head[0]&15, payload), true
}

// frame is a masked frame, as a client sends it. first is its opcode and reserved bits; fin
// says that it ends its message.
func frame(first byte, fin bool, payload string) string {
	b := []byte{first}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return string(b)
}

// ID is the socket ID, and is empty until the server has welcomed the client.
func (c *Client) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// Take waits until the server is idle and returns what has come, a message a line.
func (c *Client) Take() string {
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := strings.Join(c.got, "\n")
	c.got = nil
	return got
}

// Send sends a message.
func (c *Client) Send(text string) error { return c.write(frame(opText, true, text)) }

func (c *Client) write(frames string) error {
	_, err := io.WriteString(c.conn, frames)
	return err
}

// Frames returns the bytes of the frames in a line, see the comment of the package. A kind may also
// be the number of an opcode, and /4, /2 or /1 after it sets one of the reserved bits. bytes "…"
// stands for the bytes themselves.
func Frames(line string) (b string, err error) {
	line = strings.ReplaceAll(line, "\xff", `\xff`) // as it stood in the scene
	for line != "" {
		kind, rest, _ := strings.Cut(line, " ")
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", fmt.Errorf("%s is no frame", line)
		}
		payload, _ := strconv.Unquote(quoted) // QuotedPrefix has said that it can be
		one := payload
		if kind != "bytes" {
			m := frameKind.FindStringSubmatch(kind)
			if m == nil {
				return "", fmt.Errorf("%s is no kind of frame", kind)
			}
			opcode, known := opcodes[m[1]]
			if !known {
				opcode, _ = strconv.Atoi(m[1])
			}
			rsv, _ := strconv.Atoi(m[3])
			one = frame(byte(opcode|rsv<<4), m[2] == "", payload)
		}
		line = strings.TrimLeft(rest[len(quoted):], " ")
		often, behind, _ := strings.Cut(line, " ")
		times, err := strconv.Atoi(often)
		if strings.HasPrefix(behind, `"`) || err != nil { // of the next frame, or nothing
			times = 1
		} else {
			line = behind
		}
		b += strings.Repeat(one, times)
	}
	return b, nil
}

var (
	frameKind = regexp.MustCompile(`^(text|binary|rest|close|ping|pong|\d+)(\+?)(?:/([124]))?$`)
	opcodes   = map[string]int{"rest": opRest, "text": opText, "binary": opBinary,
		"close": opClose, "ping": opPing, "pong": opPong}
)

// SignIn signs in as the user of userData, a text of JSON, as the client's app would sign it.
func (c *Client) SignIn(userData string) error {
	b, err := json.Marshal(map[string]any{"event": "pusher:signin", "data": map[string]string{
		"user_data": userData,
		"auth":      c.app.Key + ":" + Sign(c.app.Secret, c.ID()+"::user::"+userData)}})
	if err != nil {
		return err
	}
	return c.Send(string(b))
}

// Subscribe signs as the client's app would. data is the channel_data; it may be empty.
func (c *Client) Subscribe(channel, data string) error {
	message := c.ID() + ":" + channel
	d := map[string]string{"channel": channel}
	if data != "" {
		message += ":" + data
		d["channel_data"] = data
	}
	d["auth"] = c.app.Key + ":" + Sign(c.app.Secret, message)
	b, err := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": d})
	if err != nil {
		return err
	}
	return c.Send(string(b))
}
