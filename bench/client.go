//go:build linux

package main

// The client side, a process of its own: thousands of connections in one epoll loop,
// and the publishers. The benchmark speaks with it over its standard input and output
// (net/rpc).

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxPublishers bounds the publishers of a run. More of them take the processors from the loop.
	maxPublishers = 8
	// sources is how many loopback addresses the connections come from; each has 28,000 ports.
	// Fewer: storms run out of ports.
	sources = 32
)

// runClient is the whole client process.
func runClient() error {
	runtime.GOMAXPROCS(maxPublishers + 2) // a P each for the loop and the publishers
	e, err := newEngine()
	if err != nil {
		return err
	}
	go e.run()
	s := rpc.NewServer()
	if err := s.RegisterName("Client", &Client{e: e}); err != nil {
		return err
	}
	s.ServeConn(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout})
	return nil
}

// Client has the calls of the benchmark.
type Client struct {
	e   *engine
	tls tlsGroup
}

// --- Opening and closing ---

// OpenArgs says what connections to open.
type OpenArgs struct {
	Addr     string
	N        int
	Channel  string // to subscribe to; % stands for the connection's number modulo Channels
	Channels int
	Window   int // how many are being opened at the same time
	Seconds  float64
	PID      int // whose processor time is measured

	TLS      bool
	Compress bool
	Stalled  bool  // do not read once subscribed
	Close    bool  // close each once it is subscribed; open more until Seconds are over
	Joins    int64 // Subscribe: how many member_added must arrive; -1: it does not matter

	// Users is how many users there are; 0: no connection signs in. Otherwise a connection signs in
	// as the user of its number plus First, and watches Watched others, instead of subscribing.
	Users, First, Watched int
}

// OpenReply says what became of the connections.
type OpenReply struct {
	Opened  int
	Failed  int
	Reasons map[string]int
	Seconds float64
	CPU     time.Duration
	Setup   histogram // from connect to the answer to the subscription
}

func (r *OpenReply) fail(reason string) {
	r.Failed++
	if r.Reasons == nil {
		r.Reasons = map[string]int{}
	}
	r.Reasons[reason]++
}

// err returns an error if a connection has failed.
func (r *OpenReply) err() error {
	if r.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d connections failed: %v", r.Failed, r.Failed+r.Opened, r.Reasons)
}

// Open opens connections and waits until all are open or have failed.
func (c *Client) Open(args OpenArgs, reply *OpenReply) error {
	if args.TLS {
		return c.tls.open(args, reply)
	}
	addr, err := sockaddr(args.Addr)
	if err != nil {
		return err
	}
	b := &batch{args: args, addr: addr, todo: args.N, done: make(chan struct{}), began: time.Now(),
		request: upgradeRequest(args.Addr, args.Compress)}
	if args.Close {
		b.todo = 1 << 30
	}
	cpu, err := cpuTime(args.PID)
	if err != nil {
		return err
	}
	limit := time.Duration(args.Seconds * float64(time.Second))
	if limit == 0 {
		limit = 60 * time.Second
	}
	if args.Close {
		b.until = b.began.Add(limit)
		limit += 20 * time.Second
	}
	c.e.do(func() { c.e.fill(b) })
	select {
	case <-b.done:
	case <-time.After(limit):
		c.e.do(func() { c.e.abandon(b) })
		<-b.done
	}
	*reply = b.reply
	reply.Seconds = b.ended.Sub(b.began).Seconds()
	after, err := cpuTime(args.PID)
	reply.CPU = after - cpu
	return err
}

// Subscribe subscribes all connections that have no subscription.
func (c *Client) Subscribe(args OpenArgs, reply *OpenReply) error {
	b := &batch{args: args, done: make(chan struct{}), began: time.Now()}
	cpu, err := cpuTime(args.PID)
	if err != nil {
		return err
	}
	c.e.do(func() {
		c.e.joined = 0
		for _, m := range c.e.members {
			if m != nil && m.state == ready && m.channel == "" {
				b.idle = append(b.idle, m)
			}
		}
		b.todo = len(b.idle)
		c.e.fill(b)
	})
	select {
	case <-b.done:
	case <-time.After(60 * time.Second):
		c.e.do(func() { c.e.abandon(b) })
		<-b.done
	}
	*reply = b.reply
	reply.Seconds = b.ended.Sub(b.began).Seconds()
	var joined int64
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.e.do(func() { joined = c.e.joined })
		if joined >= args.Joins || time.Now().After(until) {
			break
		}
	}
	if args.Joins >= 0 && joined != args.Joins {
		return fmt.Errorf("%d member_added have arrived, %d should have", joined, args.Joins)
	}
	after, err := cpuTime(args.PID)
	reply.CPU = after - cpu
	return err
}

// Watched says how many messages about watched users have arrived.
func (c *Client) Watched(_ struct{}, reply *int64) error {
	c.e.do(func() { *reply = c.e.watched })
	return nil
}

// Stop ends a Run before its time.
func (c *Client) Stop(struct{}, *struct{}) error {
	c.e.gate.stopped.Store(true)
	return nil
}

// CloseAll closes all connections, without a word.
func (c *Client) CloseAll(struct{}, *struct{}) error {
	c.tls.close()
	return c.e.closeAll()
}

// Lost says how many connections have been closed by the server, and why.
func (c *Client) Lost(_ struct{}, reply *OpenReply) error {
	c.e.do(func() { *reply = c.e.lost; c.e.lost = OpenReply{} })
	return nil
}

// --- The loop ---

type state uint8

const (
	connecting  state = iota
	upgrading         // waits for 101 and connection_established
	subscribing       // waits for subscription_succeeded
	ready
	closing // has sent a close frame, waits for the end
)

// member is one connection. Owned by the loop.
type member struct {
	fd       int
	slot     int
	index    int // number in its batch
	state    state
	upgraded bool // 101 has been read
	compress bool
	batch    *batch
	began    time.Time
	channel  string
	socketID string
	pending  []byte // bytes of a frame that is not complete
	last     [maxPublishers]uint32
}

// batch is a group of connections that are opened together. Owned by the loop.
type batch struct {
	args    OpenArgs
	addr    unix.Sockaddr
	request []byte
	idle    []*member // Subscribe: those that have no subscription
	next    int
	todo    int // to be started
	active  int // started, not open yet
	began   time.Time
	ended   time.Time
	until   time.Time // Close: when to start no more
	reply   OpenReply
	over    bool
	done    chan struct{}
}

type engine struct {
	epfd, wakefd int
	set          *waiter // owns epfd

	mu    sync.Mutex
	tasks []func()

	// owned by the loop
	members  []*member
	free     []int
	buf      []byte
	inflater io.ReadCloser
	inflated bytes.Buffer
	lost     OpenReply // connections that the server closed after they were open
	other    map[string]int
	current  *measurement // of the run that goes on
	joined   int64        // member_added that have arrived
	watched  int64        // messages about watched users that have arrived

	gate gate
}

func newEngine() (*engine, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	e := &engine{epfd: epfd, wakefd: wakefd, buf: make([]byte, 256<<10), other: map[string]int{}}
	if e.set, err = newWaiter(epfd); err != nil {
		return nil, err
	}
	e.gate.cond.L = &e.gate.mu
	return e, e.watch(unix.EPOLL_CTL_ADD, wakefd, -1, unix.EPOLLIN)
}

func (e *engine) watch(op, fd, slot int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(slot)}
	if err := unix.EpollCtl(e.epfd, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// do runs f in the loop and waits for it.
func (e *engine) do(f func()) {
	done := make(chan struct{})
	e.mu.Lock()
	e.tasks = append(e.tasks, func() { f(); close(done) })
	e.mu.Unlock()
	one := [8]byte{1}
	unix.Write(e.wakefd, one[:])
	<-done
}

func (e *engine) run() {
	events := make([]unix.EpollEvent, 512)
	look := func(fd int) (int, syscall.Errno) { return collect(fd, events) }
	for {
		n, err := e.set.do(look)
		if err != nil {
			panic("epoll_wait: " + err.Error())
		}
		got := int64(0)
		for _, ev := range events[:n] {
			if ev.Fd == -1 {
				var b [8]byte
				unix.Read(e.wakefd, b[:])
				continue
			}
			if m := e.members[ev.Fd]; m != nil {
				got += e.handle(m, ev.Events)
			}
		}
		if got > 0 {
			e.gate.arrived(got)
		}
		e.mu.Lock()
		tasks := e.tasks
		e.tasks = nil
		e.mu.Unlock()
		for _, f := range tasks {
			f()
		}
	}
}

// fill starts connections of a batch up to its window, and ends it when all are open.
func (e *engine) fill(b *batch) {
	if b.over {
		return
	}
	window := b.args.Window
	if window == 0 {
		window = 256
	}
	for b.todo > 0 && b.active < window {
		if !b.until.IsZero() && time.Now().After(b.until) {
			b.todo = 0
			break
		}
		b.todo--
		if b.idle != nil {
			m := b.idle[b.next]
			m.batch, m.index, m.began = b, b.next, time.Now()
			b.active++
			b.next++
			e.subscribe(m)
		} else if err := e.connect(b); err != nil {
			b.reply.fail(err.Error())
		}
	}
	if b.todo == 0 && b.active == 0 {
		e.finish(b)
	}
}

func (e *engine) finish(b *batch) {
	if !b.over {
		b.over, b.ended = true, time.Now()
		close(b.done)
	}
}

// abandon ends a batch whose time is over.
func (e *engine) abandon(b *batch) {
	for ; b.todo > 0 && b.until.IsZero(); b.todo-- {
		b.reply.fail("not started in time")
	}
	for _, m := range e.members {
		if m != nil && m.batch == b {
			b.reply.fail("not open in time, state " + strconv.Itoa(int(m.state)))
			e.remove(m)
		}
	}
	e.finish(b)
}

func (e *engine) connect(b *batch) error {
	fd, err := socket(b.next, b.args.Stalled)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, b.addr); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return fmt.Errorf("connect: %w", err)
	}
	slot := len(e.members)
	if n := len(e.free); n > 0 {
		slot, e.free = e.free[n-1], e.free[:n-1]
	} else {
		e.members = append(e.members, nil)
	}
	m := &member{fd: fd, slot: slot, index: b.next, batch: b, began: time.Now()}
	e.members[slot] = m
	if err := e.watch(unix.EPOLL_CTL_ADD, fd, slot, unix.EPOLLOUT); err != nil {
		e.remove(m)
		return err
	}
	b.active++
	b.next++
	return nil
}

// socket makes one that will connect from one of the loopback addresses.
func socket(i int, small bool) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if small {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0,
		byte(2 + i%sources)}}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("bind: %w", err)
	}
	return fd, nil
}

func sockaddr(addr string) (unix.Sockaddr, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}, nil
}

func (e *engine) remove(m *member) {
	unix.Close(m.fd)
	e.members[m.slot] = nil
	e.free = append(e.free, m.slot)
}

// gone handles the end of a connection that the client has not closed.
func (e *engine) gone(m *member, reason string) {
	e.remove(m)
	b := m.batch
	if b == nil {
		e.lost.fail(reason)
		return
	}
	if m.state == closing {
		e.opened(m)
	} else {
		b.active--
		b.reply.fail(reason)
	}
	e.fill(b)
}

// opened counts a connection whose batch has nothing more to wait for.
func (e *engine) opened(m *member) {
	b := m.batch
	m.batch = nil
	b.active--
	b.reply.Opened++
	b.reply.Setup.add(int64(time.Since(m.began)))
}

func (e *engine) closeAll() error {
	e.do(func() {
		for _, m := range e.members {
			if m != nil {
				e.remove(m)
			}
		}
		e.members, e.free = nil, nil
	})
	return nil
}

// handle serves one event and returns how many deliveries it brought.
func (e *engine) handle(m *member, events uint32) (got int64) {
	if m.state == connecting {
		if code, err := unix.GetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil ||
			code != 0 {
			e.gone(m, "connect: "+unix.Errno(code).Error())
			return 0
		}
		m.state = upgrading
		if !e.send(m, m.batch.request) {
			return 0
		}
		if err := e.watch(unix.EPOLL_CTL_MOD, m.fd, m.slot,
			unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET); err != nil {
			e.gone(m, err.Error())
		}
		return 0
	}
	// Readiness is reported once (EPOLLET). A read that leaves room has taken all bytes, and later
	// bytes are reported again. The end of the connection may have come with the data, and is not
	// reported again.
	for {
		n, errno := receive(m.fd, e.buf[len(m.pending):])
		more := len(m.pending)+n == len(e.buf) || events&unix.EPOLLRDHUP != 0
		got += e.take(m, n, errno)
		if !more || errno != 0 || e.members[m.slot] != m {
			return got
		}
	}
}

// take handles the bytes of one read.
func (e *engine) take(m *member, n int, errno syscall.Errno) (got int64) {
	switch {
	case errno == unix.EAGAIN:
		return 0
	case errno != 0:
		e.gone(m, "read: "+errno.Error())
		return 0
	case n == 0:
		e.gone(m, "closed by the server")
		return 0
	}
	b := e.buf[:len(m.pending)+n]
	if len(m.pending) > 0 {
		copy(b, m.pending)
		m.pending = nil
	}
	if !m.upgraded {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			m.pending = bytes.Clone(b)
			return 0
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
			line, _, _ := bytes.Cut(b, []byte("\r\n"))
			e.gone(m, "answer: "+string(line))
			return 0
		}
		m.compress = bytes.Contains(b[:end], []byte("permessage-deflate"))
		if m.compress && !bytes.Contains(b[:end], []byte("server_no_context_takeover")) {
			e.gone(m, "the server's compression has a context, which this client does not keep")
			return 0
		}
		if m.batch.args.Compress && !m.compress {
			e.gone(m, "the server has not taken the compression that was offered")
			return 0
		}
		m.upgraded = true
		b = b[end+4:]
	}
	for len(b) > 0 {
		f, n, err := parseFrame(b)
		if err != nil {
			e.gone(m, err.Error())
			return got
		}
		if n == 0 {
			m.pending = bytes.Clone(b)
			return got
		}
		b = b[n:]
		if f.compressed {
			if f.payload, err = e.inflate(f.payload); err != nil {
				e.gone(m, "inflate: "+err.Error())
				return got
			}
		}
		switch f.opcode {
		case opText:
			if m.state == ready && e.delivery(m, f.payload) {
				got++
			} else if !e.message(m, f.payload) {
				return got
			}
		case opPing:
			if !e.send(m, appendClientFrame(nil, opPong, f.payload)) {
				return got
			}
		case opClose:
			reason := "close frame without a code"
			if len(f.payload) >= 2 {
				reason = fmt.Sprintf("close %d %s", int(f.payload[0])<<8|int(f.payload[1]),
					f.payload[2:])
			}
			e.gone(m, reason)
			return got
		}
	}
	return got
}

// inflate decompresses one message of a connection without context.
func (e *engine) inflate(p []byte) ([]byte, error) {
	r := io.MultiReader(bytes.NewReader(p), strings.NewReader("\x00\x00\xff\xff"))
	if e.inflater == nil {
		e.inflater = flate.NewReader(r)
	} else if err := e.inflater.(flate.Resetter).Reset(r, nil); err != nil {
		return nil, err
	}
	e.inflated.Reset()
	if _, err := io.Copy(&e.inflated, e.inflater); err != nil &&
		!errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return e.inflated.Bytes(), nil
}

// send writes a message that must fit into the socket's buffer.
func (e *engine) send(m *member, b []byte) bool {
	if n, errno := send(m.fd, b); errno != 0 {
		e.gone(m, "write: "+errno.Error())
		return false
	} else if n < len(b) {
		e.gone(m, "short write")
		return false
	}
	return true
}

func (e *engine) subscribe(m *member) {
	args := &m.batch.args
	if args.Users > 0 {
		m.channel, m.state = "user", subscribing
		e.send(m, appendClientFrame(nil, opText,
			signIn(m.socketID, m.index+args.First, args.Watched, args.Users)))
		return
	}
	m.channel = channelOf(args.Channel, m.index, args.Channels)
	m.state = subscribing
	e.send(m, appendClientFrame(nil, opText,
		subscribe(m.channel, m.socketID, strconv.Itoa(m.index+args.First))))
}

// channelOf is the channel of the connection or the event number i.
func channelOf(pattern string, i, channels int) string {
	before, after, ok := strings.Cut(pattern, "%")
	if !ok {
		return pattern
	}
	return before + strconv.Itoa(i%max(channels, 1)) + after
}

var (
	wordEstablished = []byte("pusher:connection_established")
	wordSucceeded   = []byte("pusher_internal:subscription_succeeded")
	wordError       = []byte("pusher:error")
	wordSubError    = []byte("pusher:subscription_error")
	wordSignedIn    = []byte("pusher:signin_success")
	wordWatched     = []byte("pusher_internal:watchlist_events")
	wordPing        = []byte("pusher:ping")
	wordJoin        = []byte("pusher_internal:member_added")
	wordLeave       = []byte("pusher_internal:member_removed")
)

// message handles a message that is not a delivery. It returns false if the connection has gone.
func (e *engine) message(m *member, text []byte) bool {
	switch {
	case bytes.Contains(text, wordError), bytes.Contains(text, wordSubError):
		e.gone(m, string(text))
		return false
	case bytes.Contains(text, wordEstablished) && m.state == upgrading:
		m.socketID = socketIDIn(text)
		if m.batch.args.Channel != "" || m.batch.args.Users > 0 {
			e.subscribe(m)
			return true
		}
		e.becomeReady(m)
	case bytes.Contains(text, wordSucceeded) && m.state == subscribing,
		bytes.Contains(text, wordSignedIn) && m.state == subscribing:
		e.becomeReady(m)
	case bytes.Contains(text, wordWatched):
		e.watched++
	case bytes.Contains(text, wordPing):
		return e.send(m, appendClientFrame(nil, opText, []byte(`{"event":"pusher:pong"}`)))
	case bytes.Contains(text, wordJoin):
		e.joined++
	case bytes.Contains(text, wordLeave):
	default:
		if m.state != ready && e.delivery(m, text) {
			break // published between the subscription and its answer
		}
		e.other[string(text)]++
	}
	return true
}

func (e *engine) becomeReady(m *member) {
	m.state = ready
	b := m.batch
	if b.args.Close {
		m.state = closing
		e.send(m, appendClientFrame(nil, opClose, []byte{0x03, 0xe8}))
		return
	}
	if b.args.Stalled {
		if err := e.watch(unix.EPOLL_CTL_DEL, m.fd, m.slot, 0); err != nil {
			e.gone(m, err.Error())
			return
		}
	}
	e.opened(m)
	e.fill(b)
}

// --- What arrives ---

// measurement counts the deliveries of a run. Owned by the loop.
type measurement struct {
	latency histogram
	sparse  bool // a connection gets only some of a publisher's events
	twice   int64
	missed  int64
}

// delivery takes an event of a run. It returns false for any other message.
func (e *engine) delivery(m *member, text []byte) bool {
	p, seq, sent, ok := parseEvent(text)
	if !ok || p >= maxPublishers {
		return false
	}
	r := e.current
	if r == nil {
		return true // of a run that was given up
	}
	r.latency.add(time.Now().UnixNano() - sent)
	switch last := m.last[p]; {
	case seq <= last:
		r.twice++ // or too late
	case seq != last+1 && !r.sparse:
		r.missed++
	}
	m.last[p] = seq
	return true
}

// gate holds the publishers back, so that at most limit deliveries are under way.
type gate struct {
	received atomic.Int64
	wakeAt   atomic.Int64 // the lowest number for which a publisher waits
	stopped  atomic.Bool  // the publishers are to end

	mu        sync.Mutex
	cond      sync.Cond
	published int64 // deliveries of all published events
	broken    bool
}

func (g *gate) arrived(n int64) {
	if g.received.Add(n) >= g.wakeAt.Load() {
		g.mu.Lock()
		g.wakeAt.Store(1 << 62)
		g.cond.Broadcast()
		g.mu.Unlock()
	}
}

// enter waits until one more event of so many deliveries may be published.
func (g *gate) enter(members, limit int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for limit > 0 && !g.broken {
		need := g.published + members - limit*members
		if g.wait(need) {
			break
		}
	}
	g.published += members
	return !g.broken
}

// wait returns true if need deliveries have arrived, or false after a while. The
// caller holds mu.
func (g *gate) wait(need int64) bool {
	g.wakeAt.Store(min(g.wakeAt.Load(), need))
	if g.received.Load() >= need {
		return true
	}
	g.cond.Wait()
	return false
}

// drained waits until everything has arrived. It gives up when nothing arrives any more.
func (g *gate) drained() {
	timer := time.NewTicker(100 * time.Millisecond)
	defer timer.Stop()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		last, quiet := int64(-1), 0
		for {
			select {
			case <-stop:
				return
			case <-timer.C:
			}
			if got := g.received.Load(); got != last {
				last, quiet = got, 0
			} else if quiet++; quiet > 100 { // ten seconds
				g.mu.Lock()
				g.broken = true
				g.cond.Broadcast()
				g.mu.Unlock()
			}
		}
	}()
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.broken && !g.wait(g.published) {
	}
}

func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.published, g.broken = 0, false
	g.received.Store(0)
	g.wakeAt.Store(1 << 62)
	g.stopped.Store(false)
}
