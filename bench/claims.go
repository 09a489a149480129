//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// claims measures how much memory a peer can claim that knows only the public key: with many
// subscriptions to its own channels, and with readers that do not read.
func claims(o *options, r *results) error {
	for _, kind := range []struct {
		name string
		env  []string
		run  func(*options, *server, func(metric, unit string, value float64)) error
	}{
		{fmt.Sprintf("%d connections with %d channels of their own each", o.claimers,
			claimChannels), nil, claimSubscriptions},
		{fmt.Sprintf("%d readers that do not read", 10*o.claimers), nil, claimQueues},
		{fmt.Sprintf("%d readers that do not read, REVERB_MEMORY_LIMIT=%s", 10*o.claimers,
			o.claimLimit), []string{"REVERB_MEMORY_LIMIT=" + o.claimLimit}, claimQueues},
	} {
		o.progress("claims: %s", kind.name)
		err := o.eachRound(o.contestants(), func(name string) error {
			s, err := o.start(name, kind.env...)
			if err != nil {
				return err
			}
			defer s.stop()
			k := key{Scenario: "claims", Case: kind.name, Server: name}
			return kind.run(o, s, func(metric, unit string, value float64) {
				k.Metric, k.Unit = metric, unit
				r.add(k, value)
				o.progress("  %-10s %s: %.0f %s", name, metric, value, unit)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	// claimChannels is how many channels each connection has to itself; the default of
	// REVERB_APP_MAX_SUBSCRIPTIONS bounds it. Fewer: the figure for each is less exact.
	claimChannels = 10_000
	// claimEvents is how many events are published to readers that do not read. Fewer: the queues
	// are not full.
	claimEvents = 40_000
)

// claimer opens a connection that takes as little from the server as it can.
func claimer(addr string) (net.Conn, *bufio.Reader, error) {
	d := net.Dialer{Timeout: 20 * time.Second,
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			c.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET,
					syscall.SO_RCVBUF, 2048)
			})
			return err
		}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write(upgradeRequest(addr, false)); err != nil {
		return nil, nil, err
	}
	br := bufio.NewReaderSize(nc, 512)
	resp, err := http.ReadResponse(br, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("handshake: status %d", resp.StatusCode)
	}
	return nc, br, err
}

// claimSubscriptions measures the memory of a subscription to a channel of its own.
func claimSubscriptions(o *options, s *server, add func(metric, unit string, value float64)) error {
	before, err := settled(s.pid)
	if err != nil {
		return err
	}
	errs := make(chan error, o.claimers)
	var sent atomic.Int64
	var all []net.Conn
	for i := range o.claimers {
		nc, br, err := claimer(s.addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		all = append(all, nc)
		go func() {
			var b []byte
			for j := range claimChannels {
				b = appendClientFrame(b, opText, []byte(`{"event":"pusher:subscribe",`+
					`"data":{"channel":"`+strconv.Itoa(i*claimChannels+j)+`"}}`))
			}
			sent.Add(int64(len(b)))
			nc.Write(b) // an error shows below
			for n := 0; n < claimChannels; {
				line, err := br.ReadSlice('}')
				if err != nil && err != bufio.ErrBufferFull {
					errs <- fmt.Errorf("after %d subscriptions: %w", n, err)
					return
				}
				n += bytes.Count(line, []byte("subscription_succeeded"))
			}
			errs <- nil
		}()
	}
	for range all {
		if err := <-errs; err != nil {
			return err
		}
	}
	after, err := settled(s.pid)
	if err != nil {
		return err
	}
	n := float64(o.claimers * claimChannels)
	add("resident memory", "MB", float64(after)/1e6)
	add("resident, each subscription", "bytes", float64(after-before)/n)
	add("sent by the clients, each subscription", "bytes", float64(sent.Load())/n)
	return nil
}

// claimQueues measures the highest resident memory while small events are published to readers that
// do not read.
func claimQueues(o *options, s *server, add func(metric, unit string, value float64)) error {
	for range 10 * o.claimers {
		nc, br, err := claimer(s.addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		nc.Write(appendClientFrame(nil, opText,
			[]byte(`{"event":"pusher:subscribe","data":{"channel":"slow"}}`)))
		for {
			line, err := br.ReadSlice('}')
			if err != nil && err != bufio.ErrBufferFull {
				return fmt.Errorf("subscribe: %w", err)
			}
			if bytes.Contains(line, []byte("subscription_succeeded")) {
				break
			}
		}
	}
	var published, refused, over atomic.Int64
	var publishing sync.WaitGroup
	errs := make(chan error, maxPublishers)
	end := time.Now().Add(time.Duration(o.claimSeconds * float64(time.Second)))
	for range maxPublishers {
		publishing.Go(func() { errs <- claimPublish(s.addr, end, &published, &refused) })
	}
	go func() { publishing.Wait(); over.Store(1) }()
	most := int64(0)
	for over.Load() == 0 {
		n, err := rss(s.pid)
		if err != nil {
			return err
		}
		most = max(most, n)
		time.Sleep(5 * time.Millisecond)
	}
	for range maxPublishers {
		if err := <-errs; err != nil {
			return err
		}
	}
	add("most resident memory", "MB", float64(most)/1e6)
	add("events published", "events", float64(published.Load()))
	add("events refused", "events", float64(refused.Load()))
	return nil
}

// claimPublish publishes until the end, or until all have published claimEvents.
func claimPublish(addr string, end time.Time, published, refused *atomic.Int64) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	br := bufio.NewReader(nc)
	for published.Load() < claimEvents && time.Now().Before(end) {
		nc.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := nc.Write(publishRequest(nil, addr, "slow", "x", time.Now().Unix(),
			true)); err != nil {
			return err
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			published.Add(1)
		case http.StatusServiceUnavailable:
			refused.Add(1)
		default:
			return fmt.Errorf("publish: status %d", resp.StatusCode)
		}
	}
	return nil
}
