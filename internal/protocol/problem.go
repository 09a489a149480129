package protocol

import (
	"fmt"
	"net/http"

	"reverb/internal/lib/jsonraw"
)

// --- Answers of the HTTP API other than 200 ---

// Problem is an answer of the HTTP API other than 200. Laravel shows Text as
// "Pusher error: …". A Problem never changes once it is made.
type Problem struct {
	Status int
	Text   string         // one line
	Allow  string         // the header Allow, for 405
	Again  int            // the header Retry-After, in seconds; 0: there is none
	fields []fieldProblem // for 422, in place of Text
}

// fieldProblem is a complaint about one field of a body, worded as Laravel's validator
// words it.
type fieldProblem struct{ field, text string }

// BadRequest is a Problem with status 400. The format has no full stop at its end.
func BadRequest(format string, args ...any) *Problem {
	return &Problem{Status: http.StatusBadRequest,
		Text: "Bad request: " + fmt.Sprintf(format, args...) + "."}
}

// Line is the problem in one line, for the log.
func (p *Problem) Line() string {
	if len(p.fields) > 0 {
		return p.fields[0].text
	}
	return p.Text
}

// Body is the body of the answer: Text, or, with isJSON, a JSON object that has a list of
// complaints for each field.
func (p *Problem) Body() (body []byte, isJSON bool) {
	if p.fields == nil {
		return []byte(p.Text), false
	}
	b := []byte{'{'}
	for i := 0; i < len(p.fields); {
		if i > 0 {
			b = append(b, ',')
		}
		field := p.fields[i].field
		b = append(jsonraw.AppendString(b, field), ":["...)
		for n := 0; i < len(p.fields) && p.fields[i].field == field; i, n = i+1, n+1 {
			if n > 0 {
				b = append(b, ',')
			}
			b = jsonraw.AppendString(b, p.fields[i].text)
		}
		b = append(b, ']')
	}
	return append(b, '}'), true
}
