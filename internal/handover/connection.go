package handover

// Connection is one WebSocket connection as plain data. Ticks are seconds since the loops of the
// first process were made, see Began. Slices are valid during the call that hands it over.
type Connection struct {
	App     string
	Socket  uint64 // protocol.SocketID.Number
	Library string // what the client calls itself
	Remote  string // the peer's address, where the socket does not tell it
	// Relay is the number of the relay that has the client's socket, see package relay; 0: none.
	// The socket is one end of a pair then.
	Relay uint8

	Deflate    bool // permessage-deflate was negotiated
	Control    bool // the client uses control frames
	Pinged     bool // it was pinged at PingTick, and has not answered
	Authorized bool // or it need not be
	Counted    bool // among those of its address

	MaxMessage uint32 // bytes
	Since      uint32 // tick of the adoption
	Seen       uint32 // tick of the last bytes received
	PingTick   uint32
	LimitEnd   uint32 // tick at which the window of the rate limit ends
	Attempts   uint32 // in this window

	Partial Partial // what has come of a message that is not complete
	Unread  []byte  // read from the socket, but not looked at
	Pieces  []Piece // what waits to be written

	Subscriptions []Subscription
	User          *User // nil: not signed in
}

// flags are the facts that travel as one number, from its lowest bit on. The order never changes;
// more may come at the end.
func (c *Connection) flags() [5]*bool {
	return [...]*bool{&c.Deflate, &c.Control, &c.Pinged, &c.Authorized, &c.Counted}
}

// Partial is the state of reading between two frames, or in one.
type Partial struct {
	Head    []byte // the beginning of a frame header
	InFrame bool
	// of the current frame
	Length, Left uint64
	Mask         uint32
	Op           uint8
	Fin          bool
	// of the message
	Message  uint8 // its opcode; 0: none has begun
	Deflated bool
	UTF8     uint8 // utf8check.Checker.State
	Body     []byte
	Ctl      []byte // the payload of a control frame, as far as it has come
}

// Piece is a slice that waits to be written, or a place for a list of members.
type Piece struct {
	Bytes []byte // shared with others that have the same; it never changes
	Cut   bool   // its beginning has been written
	Pong  bool
	Place int // 1 + the subscription whose list of members comes here; 0: none
	// of a place: what the subscription has said of resuming, as JSON; empty: nothing
	Resume []byte
}

// Subscription is a place on a channel.
type Subscription struct {
	Channel string
	User    string
	Info    []byte // the member's user_info as JSON; nil: none
	Member  bool   // User and Info count
	Listed  bool   // the list of members was given
}

// User is a signed-in user.
type User struct {
	ID        string
	Info      []byte // user_info as JSON; nil: none
	Watchlist []string
}

// The tags of a connection, of its parts, and of theirs. They never get another meaning.
const (
	tagApp = iota + 1
	tagSocket
	tagFlags
	tagLibrary
	tagRemote
	tagMaxMessage
	tagSince
	tagSeen
	tagPingTick
	tagLimitEnd
	tagAttempts
	tagPartial
	tagUnread
	tagPiece
	tagSubscription
	tagUser
	tagRelay
	tagWhole // 1 + the number of a shared slice, which is the record
)

const (
	tagHead = iota + 1
	tagInFrame
	tagLength
	tagLeft
	tagMask
	tagOp
	tagFin
	tagMessage
	tagDeflated
	tagUTF8
	tagBody
	tagCtl
)

const (
	tagBytes = iota + 1
	tagCut
	tagPong
	tagPlace
	tagResume
)

const (
	tagChannel = iota + 1
	tagID
	tagInfo
	tagMember
	tagListed
	tagWatched
)

// sharedFrom is the length from which equal slices travel once. Larger: more bytes. Smaller: more
// frames.
const sharedFrom = 512

func yes(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}

// sharer shares the slices of a record.
type sharer struct {
	share func([]byte) (uint64, error) // returns the number of a slice that has travelled already
	err   error                        // the last one of share
}

// append appends the record of c.
func (c *Connection) append(b []byte, long *sharer) []byte {
	b = addText(b, tagApp, c.App)
	b = addNumber(b, tagSocket, c.Socket)
	flags := uint32(0)
	for i, holds := range c.flags() {
		if *holds {
			flags |= 1 << i
		}
	}
	b = addNumber(b, tagFlags, flags)
	b = addText(b, tagLibrary, c.Library)
	b = addText(b, tagRemote, c.Remote)
	b = addNumber(b, tagMaxMessage, c.MaxMessage)
	b = addNumber(b, tagSince, c.Since)
	b = addNumber(b, tagSeen, c.Seen)
	b = addNumber(b, tagPingTick, c.PingTick)
	b = addNumber(b, tagLimitEnd, c.LimitEnd)
	b = addNumber(b, tagAttempts, c.Attempts)
	b = addNumber(b, tagRelay, c.Relay)
	if p := c.Partial.append(nil, long); len(p) > 0 {
		b = addText(b, tagPartial, p)
	}
	b = addBytes(b, tagUnread, c.Unread, long)
	for i := range c.Pieces {
		v := &c.Pieces[i]
		b = addRecord(b, tagPiece, func(b []byte) []byte {
			b = addBytes(b, tagBytes, v.Bytes, long)
			b = addNumber(b, tagCut, yes(v.Cut))
			b = addNumber(b, tagPong, yes(v.Pong))
			b = addNumber(b, tagPlace, v.Place)
			return addBytes(b, tagResume, v.Resume, long)
		})
	}
	for i := range c.Subscriptions {
		s := &c.Subscriptions[i]
		b = addRecord(b, tagSubscription, s.append)
	}
	if u := c.User; u != nil {
		b = addRecord(b, tagUser, func(b []byte) []byte {
			b = addInfo(addText(b, tagID, u.ID), u.Info)
			for _, id := range u.Watchlist {
				b = addText(b, tagWatched, id)
			}
			return b
		})
	}
	return b
}

// addBytes appends a field that is bytes, or, if they are long, 1 + the number of a shared slice.
func addBytes(b []byte, tag byte, s []byte, long *sharer) []byte {
	if len(s) < sharedFrom {
		return addText(b, tag, s)
	}
	n, err := long.share(s)
	if err != nil {
		long.err = err
	}
	return addNumber(b, tag, n+1)
}

func (p *Partial) append(b []byte, long *sharer) []byte {
	b = addText(b, tagHead, p.Head)
	b = addNumber(b, tagInFrame, yes(p.InFrame))
	b = addNumber(b, tagLength, p.Length)
	b = addNumber(b, tagLeft, p.Left)
	b = addNumber(b, tagMask, p.Mask)
	b = addNumber(b, tagOp, p.Op)
	b = addNumber(b, tagFin, yes(p.Fin))
	b = addNumber(b, tagMessage, p.Message)
	b = addNumber(b, tagDeflated, yes(p.Deflated))
	b = addNumber(b, tagUTF8, p.UTF8)
	b = addBytes(b, tagBody, p.Body, long)
	return addText(b, tagCtl, p.Ctl)
}

func (s *Subscription) append(b []byte) []byte {
	b = addText(b, tagChannel, s.Channel)
	b = addInfo(addText(b, tagID, s.User), s.Info)
	b = addNumber(b, tagMember, yes(s.Member))
	return addNumber(b, tagListed, yes(s.Listed))
}

// addInfo appends an info that may be nil; a byte before it tells an empty one from nil.
func addInfo(b, info []byte) []byte {
	if info == nil {
		return b
	}
	return addRecord(b, tagInfo, func(b []byte) []byte { return append(append(b, 1), info...) })
}

// info is a copy of a field of addInfo.
func (r *reader) info(f field) []byte {
	if len(f.bytes) == 0 {
		r.Fail()
		return nil
	}
	return append([]byte{}, f.bytes[1:]...)
}

// appendWhole appends the record of a connection whose record is the shared slice n.
func appendWhole(b []byte, n uint64) []byte { return addNumber(b, tagWhole, n+1) }

// recordIn is the record of a connection that a batch has, or has the number of.
func recordIn(record []byte, shared [][]byte) []byte {
	r := readerOf(record)
	if f, ok := r.next(); ok && f.tag == tagWhole && f.n-1 < uint64(len(shared)) {
		return shared[f.n-1]
	}
	return record
}

// connectionOf reads a record. shared are the slices that have come. ok is false if the record
// makes no sense.
func connectionOf(record []byte, shared [][]byte) (c Connection, ok bool) {
	r := readerOf(record)
	for f, more := r.next(); more; f, more = r.next() {
		switch f.tag {
		case tagApp:
			c.App = f.text()
		case tagSocket:
			c.Socket = f.n
		case tagFlags:
			bits := fits[uint32](&r, f)
			for i, holds := range c.flags() {
				*holds = bits>>i&1 != 0
			}
		case tagLibrary:
			c.Library = f.text()
		case tagRemote:
			c.Remote = f.text()
		case tagMaxMessage:
			c.MaxMessage = fits[uint32](&r, f)
		case tagSince:
			c.Since = fits[uint32](&r, f)
		case tagSeen:
			c.Seen = fits[uint32](&r, f)
		case tagPingTick:
			c.PingTick = fits[uint32](&r, f)
		case tagLimitEnd:
			c.LimitEnd = fits[uint32](&r, f)
		case tagAttempts:
			c.Attempts = fits[uint32](&r, f)
		case tagRelay:
			c.Relay = fits[uint8](&r, f)
		case tagPartial:
			c.Partial = r.partial(f.bytes, shared)
		case tagUnread:
			c.Unread = r.slice(f, shared)
		case tagPiece:
			c.Pieces = append(c.Pieces, r.piece(f.bytes, shared))
		case tagSubscription:
			c.Subscriptions = append(c.Subscriptions, r.subscription(f.bytes))
		case tagUser:
			c.User = r.user(f.bytes)
		}
	}
	return c, !r.Bad && c.sound()
}

// sound says whether what c says of itself fits together.
func (c *Connection) sound() bool {
	if c.MaxMessage >= 1<<31 || !c.Partial.sound(uint64(c.MaxMessage)) {
		return false
	}
	for _, v := range c.Pieces {
		if v.Place < 0 || v.Place > len(c.Subscriptions) || v.Place > 0 && len(v.Bytes) > 0 ||
			v.Place == 0 && len(v.Resume) > 0 {
			return false
		}
	}
	for _, s := range c.Subscriptions {
		if s.Channel == "" {
			return false
		}
	}
	return true
}

// Opcodes of RFC 6455 §5.2, and what it allows of a control frame.
const (
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opPong     = 10
	maxControl = 125 // bytes
)

// sound says whether a client whose messages have at most max bytes can have sent p.
func (p *Partial) sound(max uint64) bool {
	if whole(p.Head) || p.Message > opBinary || uint64(len(p.Body)) > max ||
		len(p.Ctl) > maxControl || p.Message == 0 && len(p.Body) > 0 {
		return false
	}
	come := p.Length - p.Left // of the frame
	switch {
	case !p.InFrame:
		return true
	case p.Left > p.Length, len(p.Head) > 0, p.Op > opBinary && p.Op < opClose, p.Op > opPong:
		return false
	case p.Op >= opClose:
		return p.Fin && p.Length <= maxControl && uint64(len(p.Ctl)) == come
	}
	// a first frame begins its message: nothing else has come of it
	first, all := p.Op != 0, uint64(len(p.Body))
	return p.Message != 0 && (!first || p.Op == p.Message && all == come) &&
		come <= all && p.Length <= max-(all-come)
}

// whole says whether b has all of a frame header: then the frame has begun, and b is none of it.
func whole(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	n := 2
	switch b[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if b[1]&0x80 != 0 {
		n += 4 // the mask
	}
	return len(b) >= n
}

// slice is a field of addBytes.
func (r *reader) slice(f field, shared [][]byte) []byte {
	if f.bytes != nil || f.n == 0 {
		return f.bytes
	}
	if f.n > uint64(len(shared)) {
		r.Fail()
		return nil
	}
	return shared[f.n-1]
}

func (r *reader) partial(record []byte, shared [][]byte) (p Partial) {
	in := readerOf(record)
	for f, more := in.next(); more; f, more = in.next() {
		switch f.tag {
		case tagHead:
			p.Head = f.bytes
		case tagInFrame:
			p.InFrame = f.n != 0
		case tagLength:
			p.Length = f.n
		case tagLeft:
			p.Left = f.n
		case tagMask:
			p.Mask = fits[uint32](&in, f)
		case tagOp:
			p.Op = fits[uint8](&in, f)
		case tagFin:
			p.Fin = f.n != 0
		case tagMessage:
			p.Message = fits[uint8](&in, f)
		case tagDeflated:
			p.Deflated = f.n != 0
		case tagUTF8:
			p.UTF8 = fits[uint8](&in, f)
		case tagBody:
			p.Body = in.slice(f, shared)
		case tagCtl:
			p.Ctl = f.bytes
		}
	}
	r.inherit(in)
	return p
}

// inherit makes r bad if in is.
func (r *reader) inherit(in reader) {
	if in.Bad {
		r.Fail()
	}
}

func (r *reader) piece(record []byte, shared [][]byte) (v Piece) {
	in := readerOf(record)
	for f, more := in.next(); more; f, more = in.next() {
		switch f.tag {
		case tagBytes:
			v.Bytes = in.slice(f, shared)
		case tagCut:
			v.Cut = f.n != 0
		case tagPong:
			v.Pong = f.n != 0
		case tagPlace:
			v.Place = int(min(f.n, 1<<30))
		case tagResume:
			v.Resume = in.slice(f, shared)
		}
	}
	r.inherit(in)
	return v
}

func (r *reader) subscription(record []byte) (s Subscription) {
	in := readerOf(record)
	for f, more := in.next(); more; f, more = in.next() {
		switch f.tag {
		case tagChannel:
			s.Channel = f.text()
		case tagID:
			s.User = f.text()
		case tagInfo:
			s.Info = in.info(f)
		case tagMember:
			s.Member = f.n != 0
		case tagListed:
			s.Listed = f.n != 0
		}
	}
	r.inherit(in)
	return s
}

func (r *reader) user(record []byte) *User {
	u, in := &User{}, readerOf(record)
	for f, more := in.next(); more; f, more = in.next() {
		switch f.tag {
		case tagID:
			u.ID = f.text()
		case tagInfo:
			u.Info = in.info(f)
		case tagWatched:
			if id := f.text(); id != "" {
				u.Watchlist = append(u.Watchlist, id)
			}
		}
	}
	r.inherit(in)
	return u
}
