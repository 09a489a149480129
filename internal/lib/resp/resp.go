// Package resp reads and writes RESP, the protocol of Redis, in its versions 2 and 3
// (redis.io: Redis serialization protocol specification), and computes the slots of
// Redis Cluster (redis.io: Redis cluster specification, "Key distribution model").
//
// It does not trust the server: a reply is bounded in bytes and in depth, and memory grows with the
// bytes that arrive, not with the announced length.
package resp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxReplyBytes bounds one reply with all of its parts. Larger: a broken server can take more
	// memory. Smaller: a cluster with very many members cannot be read.
	maxReplyBytes = 256 << 20
	// maxDepth bounds arrays in arrays. Larger: a broken server can take more stack. Smaller:
	// replies of new commands may be refused.
	maxDepth = 8
	// maxLineBytes bounds a line, and is the size of the buffer. Larger: more memory for each
	// link. Smaller: long errors are refused, and long strings need more copies.
	maxLineBytes = 64 << 10
	// itemOverhead is how many bytes an element of an array counts besides its own. Larger: long
	// arrays are refused sooner. Smaller: an array of empty elements takes more memory than counts.
	itemOverhead = 64
)

// OlderThan compares versions of Redis, such as 6.2.1, by their numbers.
func OlderThan(version, oldest string) bool {
	v, o := strings.Split(version, "."), strings.Split(oldest, ".")
	for i := range min(len(v), len(o)) {
		a, errA := strconv.Atoi(v[i])
		b, errB := strconv.Atoi(o[i])
		if errA != nil || errB != nil {
			return false
		}
		if a != b {
			return a < b
		}
	}
	return false
}

// AppendCommand appends a command in the form that Redis reads: an array of bulk strings.
func AppendCommand(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), "\r\n"...)
		b = append(append(b, a...), "\r\n"...)
	}
	return b
}

// Kind is the kind of a Reply.
type Kind byte

const (
	Null  Kind = iota
	Text       // simple, bulk and verbatim strings, big numbers, doubles
	Error      // see Reply.Err
	Int        // booleans too: 0 and 1
	Array      // sets and maps too: a map is its keys and values in turn
	Push       // an array that is not the answer to a command
)

// Reply is an answer of Redis. Kind says which fields count.
type Reply struct {
	Kind  Kind
	Text  string
	N     int64
	Items []Reply
}

// Err is the error that a reply stands for, or nil.
func (r Reply) Err() error {
	if r.Kind == Error {
		return ReplyError(r.Text)
	}
	return nil
}

// Outcome is err, which says that there is no reply, or else the error that a reply stands for.
func (r Reply) Outcome(err error) error {
	if err != nil {
		return err
	}
	return r.Err()
}

// ReplyError is the text of an error reply. It begins with a word in capitals, such as ERR or
// MOVED.
type ReplyError string

func (e ReplyError) Error() string { return "Redis answers: " + string(e) }

// Foreign says that a command has failed on a foreign key: something else has written a value of
// another type, or of the same type with another meaning, under the key's name.
func Foreign(err error) bool {
	var e ReplyError
	is := func(text string) bool { return strings.Contains(string(e), text) }
	return errors.As(err, &e) &&
		(is("WRONGTYPE") || is("is not an integer") || is("would overflow"))
}

// WrongServer says that a server has refused a command because it is not, or not any more, the
// right one, or is not ready.
func WrongServer(err error) bool {
	var e ReplyError
	return errors.As(err, &e) && slices.ContainsFunc([]string{"READONLY", "MOVED", "ASK",
		"CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "NOREPLICAS", "NOSCRIPT", "NOAUTH"},
		e.Begins)
}

// Begins says whether the error begins with word.
func (e ReplyError) Begins(word string) bool {
	return string(e) == word || strings.HasPrefix(string(e), word+" ")
}

// Reader reads replies. Its errors are final: the bytes after an error have no meaning.
type Reader struct {
	r    *bufio.Reader
	left int // how many more bytes the current reply may have
}

// NewReader returns a Reader of the replies in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, maxLineBytes)}
}

// Buffered is how many bytes were received and are not read yet.
func (r *Reader) Buffered() int { return r.r.Buffered() }

// Rest is a copy of these bytes.
func (r *Reader) Rest() []byte {
	b, _ := r.r.Peek(r.r.Buffered()) // never fails
	return slices.Clone(b)
}

// Wait returns when there is something to read. Its errors are not final: it takes nothing.
func (r *Reader) Wait() error {
	_, err := r.r.Peek(1)
	return err
}

// Read reads one reply. io.EOF means that the stream ended between two replies.
func (r *Reader) Read() (Reply, error) {
	r.left = maxReplyBytes
	return r.value(0)
}

func problem(format string, args ...any) error {
	return fmt.Errorf("this is not RESP: "+format, args...)
}

// line reads a line. The result is valid until the next read.
func (r *Reader) line() (kind byte, rest []byte, err error) {
	b, err := r.r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return 0, nil, problem("a line of more than %d bytes", maxLineBytes)
	case err == io.EOF && len(b) > 0:
		return 0, nil, io.ErrUnexpectedEOF
	case err != nil:
		return 0, nil, err
	case len(b) < 3 || b[len(b)-2] != '\r':
		return 0, nil, problem("a line without a type or without CR")
	}
	return b[0], b[1 : len(b)-2], nil
}

func (r *Reader) value(depth int) (Reply, error) {
	kind, rest, err := r.line()
	if err != nil {
		return Reply{}, err
	}
	switch kind {
	case '+', ',', '(':
		return Reply{Kind: Text, Text: string(rest)}, nil
	case '-':
		return Reply{Kind: Error, Text: string(rest)}, nil
	case ':':
		n, ok := parseInt(rest)
		if !ok {
			return Reply{}, problem("the number %q", rest)
		}
		return Reply{Kind: Int, N: n}, nil
	case '#':
		i := strings.Index("ft", string(rest))
		if len(rest) != 1 || i < 0 {
			return Reply{}, problem("the boolean %q", rest)
		}
		return Reply{Kind: Int, N: int64(i)}, nil
	case '_':
		if len(rest) != 0 {
			return Reply{}, problem("the null %q", rest)
		}
		return Reply{}, nil
	case '$', '=', '!':
		return r.bulk(kind, rest)
	case '*', '~', '>', '%', '|':
		return r.array(kind, rest, depth)
	}
	return Reply{}, problem("the type %q", kind)
}

// parseInt is strconv.ParseInt, without an allocation for short numbers, such as lengths and
// counts.
func parseInt(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '-' || b[0] == '+' {
		n, err := strconv.ParseInt(string(b), 10, 64)
		return n, err == nil
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// size reads a length; -1 stands for null.
func (r *Reader) size(b []byte, each int) (int, error) {
	n, ok := parseInt(b)
	if !ok || n < -1 || b[0] == '+' {
		return 0, problem("the length %q", b)
	}
	if n > int64(r.left/each) {
		return 0, problem("a reply of more than %d bytes", maxReplyBytes)
	}
	r.left -= int(max(n, 0)) * each
	return int(n), nil
}

func (r *Reader) bulk(kind byte, rest []byte) (Reply, error) {
	n, err := r.size(rest, 1)
	if err != nil || n < 0 {
		return Reply{}, err
	}
	text, err := r.text(n)
	if err != nil {
		return Reply{}, err
	}
	reply := Reply{Kind: Text, Text: text}
	switch {
	case kind == '!':
		reply.Kind = Error
	case kind == '=' && n >= 4: // txt: or mkd: stands in front
		reply.Text = text[4:]
	}
	return reply, nil
}

// text reads n bytes and the end of the line.
func (r *Reader) text(n int) (string, error) {
	if n+2 <= maxLineBytes { // it fits into the buffer: one copy
		b, err := r.r.Peek(n + 2)
		if err != nil {
			return "", unexpected(err)
		}
		if b[n] != '\r' || b[n+1] != '\n' {
			return "", problem("a string whose length is wrong")
		}
		s := string(b[:n])
		r.r.Discard(n + 2) // cannot fail: Peek has returned these bytes
		return s, nil
	}
	var b []byte
	for len(b) < n+2 { // the memory grows with what comes, up to twice as much
		step := min(n+2-len(b), max(len(b), maxLineBytes))
		b = slices.Grow(b, step)
		k, err := io.ReadFull(r.r, b[len(b):len(b)+step])
		if b = b[:len(b)+k]; err != nil {
			return "", unexpected(err)
		}
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return "", problem("a string whose length is wrong")
	}
	return string(b[:n]), nil
}

// unexpected is the error of a stream that ends inside a reply.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) array(kind byte, rest []byte, depth int) (Reply, error) {
	each := itemOverhead
	if kind == '%' || kind == '|' {
		each *= 2
	}
	n, err := r.size(rest, each)
	if err != nil || n < 0 {
		return Reply{}, err
	}
	if depth == maxDepth {
		return Reply{}, problem("arrays in arrays, more than %d deep", maxDepth)
	}
	reply := Reply{Kind: Array}
	if kind == '>' {
		reply.Kind = Push
	}
	n *= each / itemOverhead
	reply.Items = make([]Reply, 0, min(n, 16))
	for range n {
		item, err := r.value(depth + 1)
		if err != nil {
			return Reply{}, unexpected(err)
		}
		reply.Items = append(reply.Items, item)
	}
	if kind == '|' { // attributes of the next value
		after, err := r.value(depth + 1)
		return after, unexpected(err)
	}
	return reply, nil
}

// Slots is the number of slots of a cluster.
const Slots = 16384

// Slot is the slot of a key or of a sharded channel. If the name holds a part in braces that is not
// empty, only that part counts.
func Slot(name string) int {
	if i := strings.IndexByte(name, '{'); i >= 0 {
		if n := strings.IndexByte(name[i+1:], '}'); n > 0 {
			name = name[i+1 : i+1+n]
		}
	}
	return int(CRC16(name)) % Slots
}

// CRC16 is the checksum of the cluster specification (XMODEM: polynomial 0x1021).
func CRC16(s string) (crc uint16) {
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
