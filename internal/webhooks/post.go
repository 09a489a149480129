package webhooks

import "reverb/internal/posts"

// answer is what has become of an attempt.
type answer struct {
	posts.Answer
	pushed bool // onto a Queue
	full   bool // a Queue has had no room
}

func (a *answer) ok() bool { return a.pushed || a.OK() }

// post makes one attempt to deliver a batch to a URL.
func (s *Sender) post(q *queue, id string, events []byte) answer {
	h, set := q.hook.Load(), q.app.set.Load()
	p := posts.Post{URL: h.URL, Headers: h.Headers, Timeout: h.Timeout, Key: set.Key,
		Secret: set.Secret, ID: id, Events: events}
	return answer{Answer: p.Send(q.ctx, s.Transport, s.Now)}
}
