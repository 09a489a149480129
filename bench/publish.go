//go:build linux

package main

// The publishers. They run in the client process, so that they know which events have arrived.

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// RunArgs says what to publish.
type RunArgs struct {
	Addr       string
	PID        int    // the process whose processor time is measured
	Channel    string // % stands for the event's number modulo Channels
	Channels   int
	Members    int // how many connections each event goes to
	Publishers int
	InFlight   int     // most events under way; 0 is no bound
	Rate       float64 // events a second of all publishers; 0 is without pause
	Seconds    float64
	Size       int // bytes of an event's data

	NoKeepAlive bool
	Client      bool // client events of the first connections instead of the HTTP API
}

// RunReply says what happened.
type RunReply struct {
	Published int64
	Delivered int64
	Seconds   float64 // from the first publish until the last delivery
	Sending   float64 // seconds from the first publish until the last answer
	CPU       time.Duration
	Latency   histogram // from publish to receive
	HTTP      histogram // from request to answer
	Twice     int64     // deliveries that came twice or out of order
	Missed    int64     // gaps in the events of a connection
	Lost      OpenReply // connections that the server closed
	Other     map[string]int
}

// err is an error if the run is worthless: an event was lost, doubled or out of order.
func (r *RunReply) err(members int) error {
	switch {
	case r.Lost.Failed > 0:
		return fmt.Errorf("%d connections were closed: %v", r.Lost.Failed, r.Lost.Reasons)
	case len(r.Other) > 0:
		return fmt.Errorf("unexpected messages: %v", r.Other)
	case r.Twice > 0 || r.Missed > 0:
		return fmt.Errorf("%d deliveries twice or out of order, %d gaps", r.Twice, r.Missed)
	case r.Delivered != r.Published*int64(members):
		return fmt.Errorf("%d deliveries of %d events to %d members each", r.Delivered, r.Published,
			members)
	}
	return nil
}

// Run publishes, waits until everything has arrived, and returns the figures.
func (c *Client) Run(args RunArgs, reply *RunReply) error {
	e := c.e
	e.gate.reset()
	m := &measurement{sparse: args.Channels > 1}
	var senders []int
	e.do(func() {
		e.current = m
		for _, c := range e.members {
			if c != nil {
				clear(c.last[:])
				if args.Client && len(senders) < args.Publishers {
					senders = append(senders, c.fd)
				}
			}
		}
	})
	if args.Client && len(senders) < args.Publishers {
		return errors.New("there are fewer connections than publishers")
	}
	var publishers []*publisher
	defer func() {
		for _, p := range publishers {
			p.close()
		}
	}()
	for i := range args.Publishers {
		p := &publisher{args: &args, id: i}
		if args.Client {
			p.member = senders[i]
		} else if !args.NoKeepAlive {
			if err := p.dial(); err != nil {
				return err
			}
		}
		publishers = append(publishers, p)
	}
	cpu, err := cpuTime(args.PID)
	if err != nil {
		return err
	}
	began := time.Now()
	until := began.Add(time.Duration(args.Seconds * float64(time.Second)))
	var wg sync.WaitGroup
	var events atomic.Int64
	errs := make(chan error, len(publishers))
	for _, p := range publishers {
		wg.Go(func() {
			if err := p.run(e, began, until, &events); err != nil {
				errs <- err
				e.gate.mu.Lock()
				e.gate.broken = true
				e.gate.cond.Broadcast()
				e.gate.mu.Unlock()
			}
		})
	}
	wg.Wait()
	reply.Sending = time.Since(began).Seconds()
	if args.Members > 0 && len(errs) == 0 {
		e.gate.drained()
	}
	reply.Seconds = time.Since(began).Seconds()
	after, err := cpuTime(args.PID)
	if err != nil {
		return err
	}
	reply.CPU = after - cpu
	for _, p := range publishers {
		reply.HTTP.merge(&p.took)
	}
	e.do(func() {
		reply.Latency, reply.Twice, reply.Missed = m.latency, m.twice, m.missed
		reply.Lost, e.lost = e.lost, OpenReply{}
		if len(e.other) > 0 {
			reply.Other, e.other = e.other, map[string]int{}
		}
		e.current = nil
	})
	reply.Published = events.Load()
	reply.Delivered = e.gate.received.Load()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// publisher publishes one event after the other, over HTTP or as a member.
type publisher struct {
	args    *RunArgs
	id      int
	conn    *waiter   // nil when it has none
	fd      int       // of conn
	set     time.Time // when conn's deadline was
	member  int       // descriptor of the connection that sends client events
	sources int
	buf     []byte     // request
	in      [4096]byte // answer
	took    histogram
}

func (p *publisher) run(e *engine, began, until time.Time, events *atomic.Int64) error {
	interval := time.Duration(0)
	if p.args.Rate > 0 {
		interval = time.Duration(float64(p.args.Publishers) / p.args.Rate * float64(time.Second))
	}
	for seq := uint32(1); !e.gate.stopped.Load(); seq++ {
		if interval > 0 {
			at := began.Add(time.Duration(int64(seq)-1)*interval +
				interval*time.Duration(p.id)/time.Duration(p.args.Publishers))
			if at.After(until) {
				return nil
			}
			time.Sleep(time.Until(at))
		} else if time.Now().After(until) {
			return nil
		}
		if !e.gate.enter(int64(p.args.Members), int64(p.args.InFlight)) {
			return nil
		}
		channel := channelOf(p.args.Channel, int(seq-1)*p.args.Publishers+p.id, p.args.Channels)
		if err := p.publish(channel, seq); err != nil {
			return fmt.Errorf("publisher %d, event %d: %w", p.id, seq, err)
		}
		events.Add(1)
	}
	return nil
}

func (p *publisher) publish(channel string, seq uint32) error {
	now := time.Now()
	data := eventData(p.id, seq, now.UnixNano(), p.args.Size)
	if p.args.Client {
		text := `{"event":"client-` + eventName + `","channel":"` + channel + `","data":"` + data +
			`"}`
		p.buf = appendClientFrame(p.buf[:0], opText, []byte(text))
		return writeAll(p.member, p.buf)
	}
	if p.conn == nil {
		if err := p.dial(); err != nil {
			return err
		}
	}
	p.buf = publishRequest(p.buf[:0], p.args.Addr, channel, data, now.Unix(), !p.args.NoKeepAlive)
	if err := writeAll(p.fd, p.buf); err != nil {
		return err
	}
	if err := p.answer(); err != nil {
		return err
	}
	p.took.add(int64(time.Since(now)))
	if p.args.NoKeepAlive {
		p.close()
	}
	return nil
}

func (p *publisher) dial() error {
	addr, err := sockaddr(p.args.Addr)
	if err != nil {
		return err
	}
	p.sources++
	fd, err := socket(p.id+p.sources, false)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.SetNonblock(fd, false), unix.Connect(fd, addr)); err != nil {
		unix.Close(fd)
		return fmt.Errorf("connect to publish: %w", err)
	}
	p.fd, p.set = fd, time.Time{}
	p.conn, err = newWaiter(fd)
	return err
}

func (p *publisher) close() {
	if p.conn != nil {
		p.conn.file.Close()
		p.conn = nil
	}
}

// answer reads one answer, which must be a 200.
func (p *publisher) answer() error {
	if now := time.Now(); now.Sub(p.set) > time.Second {
		if err := p.conn.file.SetReadDeadline(now.Add(20 * time.Second)); err != nil {
			return err
		}
		p.set = now
	}
	b := p.in[:]
	for n := 0; ; {
		got, err := p.conn.read(b[n:])
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if got == 0 {
			return fmt.Errorf("answer: closed after %q", b[:n])
		}
		n += got
		end := bytes.Index(b[:n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		size := contentLength(b[:end])
		if size < 0 {
			return fmt.Errorf("answer without Content-Length: %q", b[:n])
		}
		if n < end+4+size && n < len(b) {
			continue
		}
		if !bytes.HasPrefix(b[:n], []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answer: %q", b[:n])
		}
		return nil
	}
}

// contentLength is the value of that header, or -1.
func contentLength(head []byte) int {
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(name, []byte("Content-Length")) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil {
				return -1
			}
			return n
		}
	}
	return -1
}

// writeAll writes to a socket that will soon take everything.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, errno := send(fd, b)
		switch {
		case errno == unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if _, err := unix.Poll(fds, 1000); err != nil && err != unix.EINTR {
				return fmt.Errorf("poll: %w", err)
			}
		case errno != 0:
			return fmt.Errorf("write: %w", errno)
		default:
			b = b[n:]
		}
	}
	return nil
}
