package conversation

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// Again is one signed request that can be sent again and again, without a network and almost
// without allocations. It is an http.ResponseWriter, too.
type Again struct {
	Status int    // of the last answer
	Body   []byte // of the last answer

	request *http.Request
	reader  *strings.Reader
	sent    string
	header  http.Header
}

// NewAgain makes a request of app, signed at now.
func NewAgain(app App, method, path, body string, now time.Time) *Again {
	a := &Again{reader: strings.NewReader(""), sent: body, header: http.Header{}}
	values := SignedQuery(app, method, path, body, now, nil)
	a.request = httptest.NewRequest(method, path+"?"+values.Encode(), nil)
	a.request.Body, a.request.ContentLength = io.NopCloser(a.reader), int64(len(body))
	return a
}

// Send has h answer the request. Status stays 0 if h writes none.
func (a *Again) Send(h http.Handler) {
	a.reader.Reset(a.sent)
	clear(a.header)
	a.Status, a.Body = 0, a.Body[:0]
	h.ServeHTTP(a, a.request)
}

// Header is part of http.ResponseWriter.
func (a *Again) Header() http.Header { return a.header }

// WriteHeader is part of http.ResponseWriter.
func (a *Again) WriteHeader(status int) { a.Status = status }

// Write is part of http.ResponseWriter.
func (a *Again) Write(b []byte) (int, error) {
	a.Body = append(a.Body, b...)
	return len(b), nil
}
