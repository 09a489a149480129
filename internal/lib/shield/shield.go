// Package shield keeps the requests and the errors of an HTTP handler from hurting others: a
// request whose end is in doubt is the last one of its connection, and a panic is in the log as an
// error.
package shield

import (
	"log/slog"
	"net/http"
	"runtime/debug"
)

// Handler returns h with the shield around it. A panic ends the connection, unless h has taken it
// over. log gets the panic, without the query of the request; net/http would log it among the
// mistakes of strangers.
func Handler(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer report(r, log)
		if isInDoubt(r) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// isInDoubt says that another server on the way may have seen another end of a request (RFC 9112
// §6.1). A body in chunks is in doubt, because net/http hides a Content-Length beside
// Transfer-Encoding. HTTP/1.0 is in doubt, because net/http hides Transfer-Encoding there. No
// server library of Pusher sends either.
func isInDoubt(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1)
}

// report is deferred.
func report(r *http.Request, log *slog.Logger) {
	if p := recover(); p == nil {
		return
	} else if p != http.ErrAbortHandler {
		log.Error("a request has met an error in this program; please report it",
			"method", r.Method, "path", r.URL.EscapedPath(), "panic", p, "stack",
			string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}
