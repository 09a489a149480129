package admin

import (
	"maps"
	"net/http"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/limits"
	"reverb/internal/lib/metrics"
	"reverb/internal/protocol"
)

// metrics answers with the text that Prometheus reads.
func (h *handler) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	now := h.Now()
	snap := h.source.Snapshot(now)
	m := metrics.NewWriter(w, h.Prefix)
	writeApps(m, snap.Apps, strconv.Itoa(h.Port))
	writeHooks(m, snap.Apps, now)
	if snap.Spool != nil {
		writeSpool(m, snap.Spool)
	}
	writeServer(m, &snap)
	writeUpgrades(m, &snap.Upgrades)
	writeResumed(m, &snap.Resumed)
	if snap.TLS != nil {
		m.Family("tls_certificate_not_after_seconds", "gauge",
			"When the certificate in force expires, in Unix time.")
		m.Sample(float64(snap.TLS.NotAfter.Unix()))
		m.Family("tls_buffers_shared", "gauge", "Whether idle TLS connections keep no buffers; "+
			"0 where crypto/tls is of a version that this was not tested with.")
		m.Sample(number(snap.TLS.BuffersShared))
	}
	if snap.Cluster != nil {
		writeCluster(m, snap.Cluster)
	}
	m.Family("build_info", "gauge", "1, with the version.")
	m.Sample(1, "version", h.Build.Version, "revision", h.Build.Revision, "goversion", h.Build.Go)
	writeProcess(m, h.Started)
	if err := m.Flush(); err != nil {
		h.Log.Debug("metrics were not taken", "why", err)
	}
}

// number is 1 for true and 0 for false, as metrics have it.
func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// family is a family of metrics with one value for each T.
type family[T any] struct {
	name, kind, help string
	value            func(*T) uint64
}

// appFamilies have one value for each app. Their names are those of soketi and sockudo. A counter
// without _total in its name has no type here, because Prometheus wants that ending.
func appFamilies() []family[AppFigures] {
	return []family[AppFigures]{
		{"connected", "gauge", "Open connections.",
			func(a *AppFigures) uint64 { return uint64(max(a.Connections, 0)) }},
		{"new_connections_total", "counter", "Connections that were accepted.",
			func(a *AppFigures) uint64 { return a.Connected }},
		{"new_disconnections_total", "counter", "Accepted connections that have ended.",
			func(a *AppFigures) uint64 { return a.Disconnected }},
		{"ws_messages_received_total", "counter", "Messages that came over WebSockets.",
			func(a *AppFigures) uint64 { return a.Received }},
		{"socket_received_bytes", "untyped", "Bytes of these messages, a counter.",
			func(a *AppFigures) uint64 { return a.ReceivedBytes }},
		{"ws_messages_sent_total", "counter",
			"Messages that went out over WebSockets, each receiver counted.",
			func(a *AppFigures) uint64 { return a.Sent }},
		{"socket_transmitted_bytes", "untyped", "Bytes of these messages, a counter.",
			func(a *AppFigures) uint64 { return a.SentBytes }},
		{"client_events_total", "counter", "Client events that were relayed.",
			func(a *AppFigures) uint64 { return a.ClientEvents }},
		{"rate_limit_triggered_total", "counter", "Messages over the rate limit.",
			func(a *AppFigures) uint64 { return a.Limited }},
		{"http_calls_received_total", "counter", "Signed requests.",
			func(a *AppFigures) uint64 { return a.Requests }},
		{"http_received_bytes", "untyped", "Bytes of their bodies, a counter.",
			func(a *AppFigures) uint64 { return a.RequestBytes }},
		{"http_transmitted_bytes", "untyped", "Bytes of the answers' bodies, a counter.",
			func(a *AppFigures) uint64 { return a.ResponseBytes }},
		{"published_events_total", "counter", "Events that were published through the HTTP API.",
			func(a *AppFigures) uint64 { return a.Published }},
		{"idempotency_keys", "gauge", "Keys of requests that are held.",
			func(a *AppFigures) uint64 { return uint64(a.Keys) }},
		{"idempotency_repeated_total", "counter",
			"Requests that got the answer of an earlier one with their key.",
			func(a *AppFigures) uint64 { return a.Repeated }},
		{"idempotency_dropped_total", "counter", "Keys that went before their time, for new ones.",
			func(a *AppFigures) uint64 { return a.KeysDropped }},
		{"undelivered_bytes", "gauge", "Bytes that events still have to be delivered, " +
			"each delivery counted with 128 more; publishers wait above 16 MiB.",
			func(a *AppFigures) uint64 { return uint64(max(a.Undelivered, 0)) }},
	}
}

// kindFamilies have one value for each app and kind of channels.
func kindFamilies() []family[KindFigures] {
	return []family[KindFigures]{
		{"active_channels", "gauge", "Occupied channels.", (*KindFigures).occupied},
		{"active_subscriptions", "gauge", "Subscriptions that are in force.",
			(*KindFigures).active},
		{"channel_subscriptions_total", "counter", "Subscriptions that were made.",
			func(k *KindFigures) uint64 { return k.Subscribed }},
		{"channel_unsubscriptions_total", "counter", "Subscriptions that have ended.",
			func(k *KindFigures) uint64 { return k.Unsubscribed }},
	}
}

func writeApps(m *metrics.Writer, apps []AppFigures, port string) {
	for _, f := range appFamilies() {
		m.Family(f.name, f.kind, f.help)
		for i := range apps {
			m.Count(f.value(&apps[i]), "app_id", apps[i].ID, "port", port)
		}
	}
	for _, f := range kindFamilies() {
		m.Family(f.name, f.kind, f.help)
		for i := range apps {
			for k, name := range protocol.KindNames() {
				m.Count(f.value(&apps[i].Kinds[k]), "app_id", apps[i].ID, "channel_type", name)
			}
		}
	}
}

func writeServer(m *metrics.Writer, s *Snapshot) {
	writeWords(m, "connections_closed_total", "WebSocket connections that ended, by how.", s.Closed)
	writeWords(m, "refused_total",
		"Handshakes, subscriptions, messages and requests that were refused.", s.Refused)
	writeLoops(m, s.Loops)
	m.Family("http_request_seconds", "histogram",
		"How long requests of the HTTP API took, by route.")
	for _, r := range s.API {
		m.Histograms([]*metrics.Histogram{r.Took}, "route", r.Name)
	}
	writeAll(m, []figure{
		{"send_queue_bytes", "gauge", "Bytes that wait for peers to read.", float64(s.queued())},
		{"memory_used_bytes", "gauge", "Live memory, as it counts against memory_limit_bytes; " +
			"0 without a limit.", float64(s.Memory.Used)},
		{"memory_limit_bytes", "gauge",
			"REVERB_MEMORY_LIMIT, or what stands in for it; 0: no limit.", float64(s.Memory.Limit)},
		{"connection_limit", "gauge", "Connections that the descriptors allow.", float64(s.Limit)},
		{"connections_closed_for_room_total", "counter",
			"Connections without a request that were closed at the limit, for new ones.",
			float64(s.ClosedForRoom)},
		{"draining", "gauge", "Whether the server is stopping.", number(s.Draining)},
	})
}

// writeWords writes a counter for each word.
func writeWords(m *metrics.Writer, name, help string, counted map[string]uint64) {
	m.Family(name, "counter", help)
	for _, word := range slices.Sorted(maps.Keys(counted)) {
		m.Count(counted[word], "reason", word)
	}
}

func writeLoops(m *metrics.Writer, loops []Loop) {
	var latencies []*metrics.Histogram
	for i := range loops {
		latencies = append(latencies, loops[i].Latency)
	}
	m.Family("publish_to_socket_seconds", "histogram",
		"From an event's arrival to its being handed to the sockets of one loop.")
	m.Histograms(latencies)
	m.Family("loop_lag_seconds", "gauge",
		"Longest turn of an event loop in the last second or two, the running turn included.")
	for i := range loops {
		m.Sample(loops[i].Lag.Seconds(), "loop", strconv.Itoa(i))
	}
	m.Family("loop_backlog_bytes", "gauge", "Bytes of events that wait for an event loop.")
	for i := range loops {
		m.Sample(float64(loops[i].Backlog), "loop", strconv.Itoa(i))
	}
}

// figure is a family with one value.
type figure struct {
	name, kind, help string
	value            float64
}

func writeAll(m *metrics.Writer, all []figure) {
	for _, f := range all {
		m.Family(f.name, f.kind, f.help)
		m.Sample(f.value)
	}
}

// writeCluster writes how this node gets on with Redis and the other nodes.
func writeCluster(m *metrics.Writer, c *Cluster) {
	writeAll(m, []figure{
		{"redis_up", "gauge", "Whether both links to Redis are up.", number(c.Up)},
		{"redis_live", "gauge", "Whether events go through Redis; " +
			"else they are delivered here alone and queued.", number(c.Live)},
		{"horizontal_transport_reconnections_total", "counter",
			"Sessions with Redis, the first included.", float64(c.Reconnects)},
		{"horizontal_transport_messages_dropped_total", "counter",
			"Events that other nodes never got, because Redis was away for too long or " +
				"refused them.", float64(c.Lost)},
		{"horizontal_transport_messages_uncertain_total", "counter",
			"Events that were on their way when Redis went away, " +
				"and that it was away too long to send again: other nodes got them, or not.",
			float64(c.Uncertain)},
		{"horizontal_transport_queue_bytes", "gauge",
			"Bytes of events that wait for Redis to come back.", float64(c.Backlog)},
		{"horizontal_adapter_sent_requests_total", "counter",
			"Events that this node published to the cluster.", float64(c.Published)},
		{"horizontal_adapter_received_requests_total", "counter",
			"Envelopes that came from the cluster.", float64(c.Received)},
		{"redis_foreign_channels", "gauge",
			"Channels served without the other nodes' members, " +
				"because Redis holds a key under their name that this program has not written.",
			float64(c.Troubled)},
		{"redis_malformed_total", "counter",
			"Messages on the cluster's channels that are not envelopes.", float64(c.Malformed)},
		{"redis_unknown_total", "counter", "Envelopes of another version.", float64(c.Unknown)},
		{"redis_duplicates_total", "counter",
			"Events that were sent again although they had arrived.", float64(c.Duplicates)},
	})
}

// writeProcess writes the metrics that Prometheus' own libraries write for every program.
func writeProcess(m *metrics.Writer, started time.Time) {
	resident, limit := limits.Memory()
	soft, _ := limits.Files()
	for _, f := range []figure{
		{"process_resident_memory_bytes", "gauge", "Resident memory.", float64(resident)},
		{"process_memory_limit_bytes", "gauge",
			"Memory that the control group allows; 0 if it does not say.", float64(limit)},
		{"process_cpu_seconds_total", "counter", "Processor time.", limits.CPU()},
		{"process_open_fds", "gauge", "Open descriptors.", float64(limits.OpenFiles())},
		{"process_max_fds", "gauge", "Descriptors that may be open.", float64(soft)},
		{"process_start_time_seconds", "gauge", "When the process started.",
			float64(started.UnixMilli()) / 1000},
		{"go_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine())},
	} {
		m.Process(f.name, f.kind, f.help)
		m.Sample(f.value)
	}
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	runtimemetrics.Read(samples)
	for i, name := range []string{"go_heap_objects_bytes", "go_memory_bytes",
		"go_heap_allocated_bytes_total", "go_gc_cycles_total"} {
		kind := "gauge"
		if strings.HasSuffix(name, "_total") {
			kind = "counter"
		}
		m.Process(name, kind, "runtime/metrics "+samples[i].Name)
		m.Count(samples[i].Value.Uint64())
	}
}
