// Package journal is what the log tells of clients and requests: who came, who was turned
// away and why, who went, what was published, and every request of the HTTP API.
//
// It owns the words and the fields of these lines, so that a program that reads the log finds
// each fact under one name:
//
//	app      the ID of the app
//	socket   the socket ID
//	remote   the address of the client, or of who has sent the request
//	channel  the channel
//	origin   the Origin that a browser has sent
//	code     the code of pusher:error or of the close frame, or the status of a response
//
// A field that is not known is left out. Texts of strangers are made fit for one line; no
// secret comes here. The package decides nothing and keeps nothing.
package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"reverb/internal/lib/logs"
	"reverb/internal/lib/show"
)

// Journal writes the lines. The zero Journal writes nothing. Everybody may call its methods.
type Journal struct {
	log, access *slog.Logger // nil: nothing is written
	detailed    bool
}

// New is a Journal that writes to log. With requests it has a line for each request, whatever the
// level and the limit of log are.
func New(log *slog.Logger, requests bool) Journal {
	j := Journal{log: log, detailed: log.Enabled(context.Background(), slog.LevelDebug)}
	if requests {
		j.access = slog.New(logs.Whole(log.Handler()))
	}
	return j
}

// About says what a line is about.
type About struct {
	App, Socket, Remote, Channel, Origin string
	Code                                 int
}

// attributes are the fields that are known.
func (a *About) attributes() (all []slog.Attr) {
	for _, f := range [][2]string{{"app", a.App}, {"socket", a.Socket}, {"remote", a.Remote},
		{"channel", a.Channel}, {"origin", a.Origin}} {
		if f[1] != "" {
			all = append(all, slog.String(f[0], show.Text(f[1])))
		}
	}
	if a.Code != 0 {
		all = append(all, slog.Int("code", a.Code))
	}
	return all
}

func (j *Journal) write(level slog.Level, message string, a *About, more ...slog.Attr) {
	if j.log != nil {
		j.log.LogAttrs(context.Background(), level, message, append(a.attributes(), more...)...)
	}
}

// Detailed says whether anybody reads what Connected, Disconnected and Published tell. Who
// would have to compute something for them asks first.
func (j *Journal) Detailed() bool { return j.detailed }

// Refused tells that somebody was turned away. word is the label of the refusal in metrics.
func (j *Journal) Refused(word string, a About, why string) {
	j.write(slog.LevelInfo, "refused: "+word, &a, slog.String("why", show.Line(why)))
}

// Connected tells of an accepted connection. library is what the client calls itself.
func (j *Journal) Connected(a About, library string) {
	var more []slog.Attr
	if library != "" {
		more = append(more, slog.String("library", show.Text(library)))
	}
	j.write(slog.LevelDebug, "connected", &a, more...)
}

// Disconnected tells how a connection has ended that Connected has told of. in and out are
// the bytes that came and went; negative: nobody has counted.
func (j *Journal) Disconnected(a About, reason string, age time.Duration, in, out int64) {
	more := []slog.Attr{slog.String("reason", reason), slog.String("age", age.String())}
	if in >= 0 {
		more = append(more, slog.Int64("in", in), slog.Int64("out", out))
	}
	j.write(slog.LevelDebug, "disconnected", &a, more...)
}

// Published tells of an event that was given to a channel, by the HTTP API, or by a client
// where a names a socket.
func (j *Journal) Published(a About, event []byte, bytes int) {
	j.write(slog.LevelDebug, "published", &a, slog.String("event", show.Text(string(event))),
		slog.Int("bytes", bytes))
}

// maxLibraryBytes bounds what a client calls itself. The usual names have some 20 bytes.
const maxLibraryBytes = 64

// Library is what the client of a handshake calls itself: pusher-js says client=js and
// version=8.4.0. A client may say anything.
func Library(r *http.Request) string {
	q := r.URL.Query()
	library := strings.TrimSpace(q.Get("client") + " " + q.Get("version"))
	return library[:min(len(library), maxLibraryBytes)]
}

// Requests says whether anybody reads what Request tells.
func (j *Journal) Requests() bool { return j.access != nil }

// Request tells of a request that was answered. Its query, which holds a signature, is left
// out.
func (j *Journal) Request(r *http.Request, a About, bytes int, took time.Duration) {
	if j.access == nil {
		return
	}
	request := []slog.Attr{
		slog.String("method", show.Text(r.Method)),
		slog.String("path", show.Text(r.URL.EscapedPath())),
	}
	j.access.LogAttrs(
		r.Context(),
		slog.LevelInfo,
		"request",
		append(
			append(request, a.attributes()...),
			slog.Int("bytes", bytes),
			slog.String("took", took.String()),
		)...)
}

// Tracer shows on w what happens, a line each, and below it the message on a line of its own. It
// may be called by many goroutines at once.
func Tracer(w io.Writer) func(what, who, message string) {
	var showing sync.Mutex
	return func(what, who, message string) {
		showing.Lock()
		defer showing.Unlock()
		fmt.Fprintf(w, "  %s %s %s\n", what, strings.Repeat(".", max(3, 60-len(what)-len(who))),
			show.Text(who))
		if message != "" {
			fmt.Fprintf(w, "    %s\n", show.Line(message))
		}
	}
}
