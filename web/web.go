// Package web has what pages load from the server.
package web

import (
	_ "embed"
	"net/http"
)

//go:embed resume.js
var resume []byte

// ServeResume answers a request for resume.js, which any page may load. n is how many bytes the
// answer has.
func ServeResume(w http.ResponseWriter) (n int) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=86400")
	h.Set("Access-Control-Allow-Origin", "*") // for crossorigin, which integrity needs
	w.Write(resume)                           // an error is the client's
	return len(resume)
}
