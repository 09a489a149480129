package protocol

import (
	"fmt"
	"net/http"
	"slices"

	"reverb/internal/jsonraw"
)

// --- Answers of the HTTP API other than 200 ---

// Problem is an answer of the HTTP API other than 200. Laravel shows Text as
// "Pusher error: …". A Problem never changes once it is made.
type Problem struct {
	Status int
	Text   string         // one line
	Allow  string         // the header Allow, for 405
	Fields []FieldProblem // for 422, in place of Text
}

// FieldProblem is a complaint about one field of a body, worded as Laravel's validator
// words it.
type FieldProblem struct{ Field, Text string }

// BadRequest is a Problem with status 400. The format has no full stop at its end.
func BadRequest(format string, args ...any) *Problem {
	return &Problem{Status: http.StatusBadRequest, Text: "Bad request: " + fmt.Sprintf(format, args...) + "."}
}

// ProblemWords are all results of Word.
func ProblemWords() (words []string) {
	for status := 400; status < 600; status++ {
		if word := (&Problem{Status: status}).Word(); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// Word names the problem for logs and the labels of metrics.
func (p *Problem) Word() string {
	switch p.Status {
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusRequestEntityTooLarge:
		return "payload_too_large"
	case http.StatusUnprocessableEntity:
		return "unprocessable"
	case http.StatusServiceUnavailable, http.StatusInternalServerError:
		return "unavailable"
	}
	return "bad_request"
}

// Line is the problem in one line, for the log.
func (p *Problem) Line() string {
	if len(p.Fields) > 0 {
		return p.Fields[0].Text
	}
	return p.Text
}

// Body is the body of the answer: Text, or a JSON object of lists, by field, where
// isJSON is true.
func (p *Problem) Body() (body []byte, isJSON bool) {
	if p.Fields == nil {
		return []byte(p.Text), false
	}
	b := []byte{'{'}
	for i := 0; i < len(p.Fields); {
		if i > 0 {
			b = append(b, ',')
		}
		field := p.Fields[i].Field
		b = append(jsonraw.AppendString(b, field), ":["...)
		for n := 0; i < len(p.Fields) && p.Fields[i].Field == field; i, n = i+1, n+1 {
			if n > 0 {
				b = append(b, ',')
			}
			b = jsonraw.AppendString(b, p.Fields[i].Text)
		}
		b = append(b, ']')
	}
	return append(b, '}'), true
}
