package cluster

import (
	"reverb/internal/envelopes/known"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/retries"
)

// PerChannel says that a claim of a request for one channel counts for this channel alone: it lies
// in the channel's bucket.
func (n *Node) PerChannel() bool { return len(n.buckets) > 1 }

// Claim takes a step of a request, in the bucket of a topic. done gets an error while Redis is
// away, and what Step.Heard makes of the answer.
func (n *Node) Claim(topic string, s *retries.Step, done func(error)) {
	n.post(func() {
		n.evalClaim(call{bucket: n.bucketOf(topic), done: func(r resp.Reply, err error) {
			if err == nil {
				err = s.Heard(r.Text)
			}
			done(err)
		}}, s)
	})
}

// evalClaim runs the script of a step. event are the script's arguments about an event.
func (n *Node) evalClaim(c call, s *retries.Step, event ...string) {
	keys := []string{n.key(c.bucket, "claim", s.Key())}
	if len(event) > 0 {
		keys = append(keys, event[0]+":cached")
	}
	n.eval(c, &n.scripts.Claim, keys, append(s.Args(), event...)...)
}

// takenBy notes that another request has the claim of an event. Nobody gets the event then, except
// the members here that got it while Redis was away.
func (n *Node) takenBy(o *known.Event) {
	if t := n.topics[o.Topic]; t != nil && t.Kept == o && t.State == known.Active {
		n.sync(t, true) // its last event is another one
	}
	n.unkeep(o)
	o.Echoes, o.Delivered, o.Taken = false, true, true
}
