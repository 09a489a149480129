package admin

import (
	"encoding/json"
	"net/http"
	"runtime"

	"reverb/internal/lib/limits"
)

// appStatus is a row of the status page.
type appStatus struct {
	ID            string `json:"id"`
	Connections   int64  `json:"connections"`
	Channels      uint64 `json:"channels"`
	Subscriptions uint64 `json:"subscriptions"`
	MessagesIn    uint64 `json:"messages_in"`
	MessagesOut   uint64 `json:"messages_out"`
	BytesIn       uint64 `json:"bytes_in"`
	BytesOut      uint64 `json:"bytes_out"`
	Publishes     uint64 `json:"publishes"`
}

// serverStatus has the figures of the status page.
type serverStatus struct {
	Version       string      `json:"version"`
	UptimeSeconds float64     `json:"uptime_seconds"`
	Draining      bool        `json:"draining"`
	Ready         bool        `json:"ready"`
	NotReady      []string    `json:"not_ready"` // null: the server is ready
	Limit         int64       `json:"connection_limit"`
	Refused       uint64      `json:"refused"`
	Memory        uint64      `json:"memory_bytes"`
	Goroutines    int         `json:"goroutines"`
	LoopLag       float64     `json:"loop_lag_seconds"`
	SendQueue     int64       `json:"send_queue_bytes"`
	Webhooks      string      `json:"webhooks,omitempty"` // in words
	Resumed       string      `json:"resumed,omitempty"`  // in words
	Upgrades      string      `json:"upgrades,omitempty"` // in words
	appStatus                 // of all apps together; the ID is empty
	Apps          []appStatus `json:"apps"`
}

func statusOf(a *AppFigures) appStatus {
	st := appStatus{ID: a.ID, Connections: a.Connections, MessagesIn: a.Received,
		MessagesOut: a.Sent,
		BytesIn:     a.ReceivedBytes, BytesOut: a.SentBytes, Publishes: a.Published}
	for i := range a.Kinds {
		st.Channels += a.Kinds[i].occupied()
		st.Subscriptions += a.Kinds[i].active()
	}
	return st
}

func (st *appStatus) add(one appStatus) {
	st.Connections += one.Connections
	st.Channels += one.Channels
	st.Subscriptions += one.Subscriptions
	st.MessagesIn += one.MessagesIn
	st.MessagesOut += one.MessagesOut
	st.BytesIn += one.BytesIn
	st.BytesOut += one.BytesOut
	st.Publishes += one.Publishes
}

// status answers with the figures of the status page.
func (h *handler) status(w http.ResponseWriter, _ *http.Request) {
	now := h.Now()
	snap := h.source.Snapshot(now)
	resident, _ := limits.Memory()
	why := snap.NotReady()
	st := serverStatus{Version: h.Build.String(), UptimeSeconds: now.Sub(h.Started).Seconds(),
		Draining: snap.Draining, Ready: len(why) == 0, NotReady: why, Limit: snap.Limit,
		Memory:     resident,
		Goroutines: runtime.NumGoroutine(), LoopLag: snap.lag().Seconds(), SendQueue: snap.queued(),
		Webhooks: snap.Webhooks(now), Resumed: snap.Resumed.String(),
		Upgrades: snap.Upgrades.String(), Apps: []appStatus{}}
	for _, n := range snap.Refused {
		st.Refused += n
	}
	for i := range snap.Apps {
		one := statusOf(&snap.Apps[i])
		st.Apps = append(st.Apps, one)
		st.add(one)
	}
	answer(w, http.StatusOK, st)
}

// answer answers with v as JSON. v must have a JSON form.
func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // an error means that the page has gone
}

// refuse answers with an error, for the page to show.
func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}
