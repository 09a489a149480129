//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// tlsGroup holds connections over TLS. One goroutine each opens them. Then they are left alone,
// because only the server's memory matters.
type tlsGroup struct {
	mu    sync.Mutex
	conns []*tls.Conn
}

func (g *tlsGroup) open(args OpenArgs, reply *OpenReply) error {
	began := time.Now()
	slots := make(chan struct{}, max(args.Window, 32))
	var wg sync.WaitGroup
	for i := range args.N {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := openTLS(args, i)
			g.mu.Lock()
			defer g.mu.Unlock()
			if err != nil {
				reply.fail(err.Error())
				return
			}
			reply.Opened++
			g.conns = append(g.conns, c)
		})
	}
	wg.Wait()
	reply.Seconds = time.Since(began).Seconds()
	return nil
}

func (g *tlsGroup) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.NetConn().Close()
	}
	g.conns = nil
}

func openTLS(args OpenArgs, i int) (c *tls.Conn, err error) {
	d := net.Dialer{Timeout: 30 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%sources))}}
	nc, err := d.Dial("tcp4", args.Addr)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			nc.Close()
		}
	}()
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	c = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	if _, err := c.Write(upgradeRequest(args.Addr, false)); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(c, 2048)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
	}
	message, err := readMessage(r)
	if err != nil {
		return nil, err
	}
	if args.Channel != "" {
		text := subscribe(channelOf(args.Channel, i, args.Channels), socketIDIn(message),
			strconv.Itoa(i))
		if _, err := c.Write(appendClientFrame(nil, opText, text)); err != nil {
			return nil, err
		}
		if message, err = readMessage(r); err != nil {
			return nil, err
		}
		if !bytes.Contains(message, wordSucceeded) {
			return nil, fmt.Errorf("subscription: %s", message)
		}
	}
	return c, nc.SetDeadline(time.Time{})
}

// readMessage reads one text message.
func readMessage(r *bufio.Reader) ([]byte, error) {
	for size := 2; ; size++ {
		b, err := r.Peek(size)
		if err != nil {
			return nil, err
		}
		f, n, err := parseFrame(b)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		message := bytes.Clone(f.payload)
		if _, err := r.Discard(n); err != nil {
			return nil, err
		}
		if f.opcode == opClose {
			return nil, fmt.Errorf("close frame: %q", message)
		}
		return message, nil
	}
}
