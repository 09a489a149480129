package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/apps"
	"reverb/internal/hooks"
	"reverb/internal/laravelqueue"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/names"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/proxies"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// Masked is the value of a variable as texts show it: in quotes, without what redact takes out.
func Masked(value string) string { return show.Quoted(redact.URL(value)) }

// Variable is a row of the table of variables. read takes the text of a value, which is not empty.
// Its error says what is wrong and what would be right.
type Variable struct {
	Name     string
	Group    string // the subject, one of Groups
	fallback string // Laravel's variable that counts if this one is not set
	Default  string
	Flag     string
	Secret   bool
	late     bool // a wrong value is an error only where it is needed
	Live     bool // takes effect at SIGHUP, without a restart
	Help     string
	read     func(c *Config, s string) error
}

// What variables are about.
const (
	groupListen    = "Listening"
	groupPublic    = "Public address"
	groupApps      = "Apps"
	groupLimits    = "Limits of the server"
	groupResume    = "Resuming"
	groupRedis     = "Scaling and Redis"
	groupTLS       = "TLS"
	groupHooks     = "Webhooks"
	groupOperating = "Operating"
)

// Groups are what variables are about, in the order in which help shows them.
func Groups() []string {
	return []string{groupListen, groupPublic, groupApps, groupLimits, groupResume, groupTLS,
		groupRedis, groupHooks, groupOperating}
}

func text(p func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error { *p(c) = s; return nil }
}

// fileName takes the name of a file. It refuses what was meant to stand in the file.
func fileName(p func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if err := redact.NoName(s); err != nil {
			return err
		}
		*p(c) = s
		return nil
	}
}

func number(lo, hi int, p func(*Config) *int) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("not a whole number from %d to %d", lo, hi)
		}
		*p(c) = n
		return nil
	}
}

func duration(lo, hi int, p func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("not a whole number of seconds from %d to %d", lo, hi)
		}
		*p(c) = time.Duration(n) * time.Second
		return nil
	}
}

func milliseconds(lo, hi int, p func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("not a whole number of milliseconds from %d to %d", lo, hi)
		}
		*p(c) = time.Duration(n) * time.Millisecond
		return nil
	}
}

// decimalSeconds reads seconds that may have decimals, as PHP's floats. 0 means no limit for
// Laravel's own connections; here it means the default, because waiting events need a bound.
func decimalSeconds(
	hi int, def time.Duration, p func(*Config) *time.Duration,
) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= 0 && n <= float64(hi)) {
			return fmt.Errorf("not a number of seconds from 0 to %d", hi)
		}
		if *p(c) = max(time.Duration(n*float64(time.Second)), time.Millisecond); n == 0 {
			*p(c) = def
		}
		return nil
	}
}

func boolean(p func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, s string) error {
		switch strings.ToLower(s) {
		case "true", "1", "on", "yes":
			*p(c) = true
		case "false", "0", "off", "no":
			*p(c) = false
		default:
			return errors.New("neither true nor false")
		}
		return nil
	}
}

// Variables is the table of variables. Parsing, the error texts, reverb help and the table in the
// README come from it.
func Variables() []Variable {
	seconds := func(lo int, p func(*Config) *time.Duration) func(*Config, string) error {
		return duration(lo, 86_400, p)
	}
	return []Variable{
		{Name: "REVERB_SERVER_HOST", Group: groupListen, Default: "0.0.0.0", Flag: "host",
			Help: "address to listen on; unix:/path for a socket",
			read: readHost},
		{Name: "REVERB_SERVER_PORT", Group: groupListen, Default: "8080", Flag: "port",
			Help: "port to listen on; 0 takes any that is free",
			read: number(0, 65535, func(c *Config) *int { return &c.Listen.Port })},
		{Name: "REVERB_SERVER_SOCKET_MODE", Group: groupListen, Default: "0660",
			Help: "permissions of the Unix sockets that are listened on",
			read: readMode},
		{Name: "REVERB_SERVER_SOCKET_OWNER", Group: groupListen,
			Help: "their owner, user:group; either may be left out",
			read: text(func(c *Config) *string { return &c.Listen.SocketOwner })},
		{Name: "REVERB_PLAIN_LISTEN", Group: groupListen,
			Help: "a second address, without TLS, such as 127.0.0.1:8081",
			read: readAddress("", func(c *Config) *string { return &c.Listen.Plain })},
		{Name: "REVERB_TRUSTED_PROXIES", Group: groupListen,
			Help: "proxies whose X-Forwarded-For is believed: addresses, networks, unix, or * " +
				"for all; comma-separated",
			read: parsed(proxies.Parse,
				func(c *Config) *proxies.Trusted { return &c.Listen.Trusted })},
		{Name: "REVERB_PROXY_PROTOCOL", Group: groupListen, Default: "false",
			Help: "whether connections (of trusted proxies, if any are named) begin with a " +
				"PROXY header",
			read: boolean(func(c *Config) *bool { return &c.Listen.ProxyProtocol })},
		{Name: "REVERB_SERVER_PATH", Group: groupListen, Flag: "path",
			Help: "prefix of every path, such as /ws",
			read: readPath},
		{Name: "REVERB_HOST", Group: groupPublic, Flag: "hostname",
			Help: "public host name, as browsers use it; never listened on",
			read: text(func(c *Config) *string { return &c.Public.Host })},
		{Name: "REVERB_PORT", Group: groupPublic,
			Help: "public port, as browsers use it; never listened on",
			read: number(1, 65535, func(c *Config) *int { return &c.Public.Port })},
		{Name: "REVERB_SCHEME", Group: groupPublic,
			Help: "public scheme, http or https",
			read: readScheme},
		{Name: "REVERB_APP_ID", Group: groupApps, Live: true,
			Help: "the app's ID",
			read: text(func(c *Config) *string { return &c.app.ID })},
		{Name: "REVERB_APP_KEY", Group: groupApps, Live: true,
			Help: "the app's key; browsers know it",
			read: text(func(c *Config) *string { return &c.app.Key })},
		{Name: "REVERB_APP_SECRET", Group: groupApps, Live: true, Secret: true,
			Help: "the app's secret",
			read: text(func(c *Config) *string { return &c.app.Secret })},
		{Name: "REVERB_APPS", Group: groupApps, Live: true, Secret: true,
			Help: "several apps: a JSON array with the keys of config/reverb.php",
			read: text(func(c *Config) *string { return &c.appsJSON })},
		{Name: "REVERB_APPS_FILE", Group: groupApps, Live: true,
			Help: "the same in a file; a dump of config('reverb') will do",
			read: fileName(func(c *Config) *string { return &c.appsFile })},
		{Name: "REVERB_ALLOWED_ORIGINS", Group: groupApps, Live: true, Default: "*",
			Help: "hosts that may connect, comma-separated; * stands for anything",
			read: readOrigins},
		{Name: "REVERB_APP_PING_INTERVAL", Group: groupApps, Live: true, Default: "60",
			Help: "seconds of silence after which a connection is pinged",
			read: seconds(1, func(c *Config) *time.Duration { return &c.app.PingInterval })},
		{Name: "REVERB_APP_ACTIVITY_TIMEOUT", Group: groupApps, Live: true, Default: "30",
			Help: "seconds that a client has to answer a ping",
			read: seconds(1, func(c *Config) *time.Duration { return &c.app.ActivityTimeout })},
		{Name: "REVERB_APP_MAX_CONNECTIONS", Group: groupApps, Live: true,
			Help: "connections of an app; no limit when empty",
			read: number(1, math.MaxInt32, func(c *Config) *int { return &c.app.MaxConnections })},
		{Name: "REVERB_APP_PRESENCE_MAX_MEMBERS", Group: groupApps, Live: true,
			Help: "members of a presence channel, as the node knows them; no limit when empty",
			read: number(1, math.MaxInt32, func(c *Config) *int { return &c.app.MaxMembers })},
		{Name: "REVERB_APP_PRESENCE_MAX_MEMBER_SIZE", Group: groupApps, Live: true,
			Help: "bytes of the channel_data of a member; no limit but the message's when empty",
			read: number(1, 64<<20, func(c *Config) *int { return &c.app.MaxMemberSize })},
		{Name: "REVERB_APP_DISCONNECT_GRACE_MS", Group: groupApps, Live: true, Default: "3000",
			fallback: "REVERB_WEBHOOK_DISCONNECT_SMOOTHING_MS",
			Help: "milliseconds for which a user whose last connection is gone still counts as " +
				"online",
			read: milliseconds(0, apps.MaxGrace,
				func(c *Config) *time.Duration { return &c.app.DisconnectGrace })},
		{Name: "REVERB_APP_MAX_MESSAGE_SIZE", Group: groupApps, Live: true, Default: "10000",
			Help: "bytes of one message of a client",
			read: number(1, 64<<20, func(c *Config) *int { return &c.app.MaxMessageSize })},
		{Name: "REVERB_APP_MAX_SUBSCRIPTIONS", Group: groupApps, Live: true, Default: "10000",
			Help: "subscriptions of one connection",
			read: number(1, math.MaxInt32,
				func(c *Config) *int { return &c.app.MaxSubscriptions })},
		{Name: "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", Group: groupApps,
			Live: true, Default: "members",
			Help: "members, all, none, or private: members of private and presence channels",
			read: parsed(apps.ParsePolicy,
				func(c *Config) *apps.Policy { return &c.app.ClientEvents })},
		{Name: "REVERB_APP_AUTHORIZATION_TIMEOUT", Group: groupApps, Live: true,
			Help: "seconds within which a connection must sign in, or join a private or " +
				"presence channel; no limit when empty",
			read: seconds(1,
				func(c *Config) *time.Duration { return &c.app.AuthorizationTimeout })},
		{Name: "REVERB_APP_SUBSCRIPTION_COUNT", Group: groupApps, Live: true, Default: "false",
			Help: "whether subscribers are told how many they are, except on presence channels",
			read: boolean(func(c *Config) *bool { return &c.app.SubscriptionCount })},
		{Name: "REVERB_APP_RATE_LIMITING_ENABLED", Group: groupApps, Live: true, Default: "false",
			Help: "whether messages of a connection are limited",
			read: boolean(func(c *Config) *bool { return &c.app.RateLimit.Enabled })},
		{Name: "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", Group: groupApps, Live: true, Default: "60",
			Help: "messages in one window",
			read: number(1, math.MaxInt32,
				func(c *Config) *int { return &c.app.RateLimit.MaxAttempts })},
		{Name: "REVERB_APP_RATE_LIMIT_DECAY_SECONDS", Group: groupApps, Live: true, Default: "60",
			Help: "seconds of a window",
			read: seconds(1, func(c *Config) *time.Duration { return &c.app.RateLimit.Decay })},
		{Name: "REVERB_APP_RATE_LIMIT_TERMINATE", Group: groupApps, Live: true, Default: "false",
			Help: "whether a connection over the limit is closed",
			read: boolean(func(c *Config) *bool { return &c.app.RateLimit.Terminate })},
		{Name: "REVERB_MAX_CONNECTIONS_PER_ADDRESS", Group: groupLimits, Live: true, Default: "0",
			Help: "connections of one address, or of one IPv6 network /64; 0 is no limit",
			read: number(0, math.MaxInt32, func(c *Config) *int { return &c.Limits.PerAddress })},
		{Name: "REVERB_MEMORY_LIMIT", Group: groupLimits,
			Help: "memory of the process, such as 512MiB, or off; when empty GOMEMLIMIT, the " +
				"control group's, or the machine's",
			read: parsed(memory.ParseSize, func(c *Config) *uint64 { return &c.Limits.Memory })},
		{Name: "REVERB_MAX_REQUEST_SIZE", Group: groupLimits, Live: true, Default: "10000",
			Help: "bytes of the body of a request",
			read: number(1, 64<<20, func(c *Config) *int { return &c.Limits.RequestSize })},
		{Name: "REVERB_AUTH_WINDOW", Group: groupLimits, Live: true, Default: "600",
			Help: "seconds that a signed request may differ from the clock; 0 allows any",
			read: seconds(0, func(c *Config) *time.Duration { return &c.Limits.AuthWindow })},
		{Name: "REVERB_IDEMPOTENCY_SECONDS", Group: groupLimits, Live: true, Default: "120",
			Help: "seconds that the Idempotency-Key of a request counts; 0 ignores keys",
			read: seconds(0, func(c *Config) *time.Duration { return &c.Limits.KeepKeys })},
		{Name: "REVERB_COMPRESSION", Group: groupLimits, Live: true, Default: "false",
			Help: "whether permessage-deflate is taken when a client offers it",
			read: boolean(func(c *Config) *bool { return &c.Limits.Compression })},
		{Name: "REVERB_RESUME_SECONDS", Group: groupResume, Live: true, Default: "0",
			Help: "seconds for which a channel keeps an event for clients that come back, " +
				"such as 120; 0 keeps none",
			read: seconds(0, func(c *Config) *time.Duration { return &c.app.ResumeLife })},
		{Name: "REVERB_RESUME_EVENTS", Group: groupResume, Default: "100",
			Help: "events that a channel keeps",
			read: number(1, 100_000, func(c *Config) *int { return &c.Resume.Events })},
		{Name: "REVERB_RESUME_BYTES", Group: groupResume, Default: "64MiB",
			Help: "memory of the events that all channels keep, such as 64MiB",
			read: parsed(memory.ParseRoom, func(c *Config) *int64 { return &c.Resume.Bytes })},
		{Name: "REVERB_RESUME_CHANNELS", Group: groupResume,
			Help: "channels that keep events: names, comma-separated, such as news,chat-*; " +
				"all when empty",
			read: parsed(names.Parse, func(c *Config) *names.List { return &c.Resume.Channels })},
		{Name: "REVERB_SHUTDOWN_GRACE", Group: groupOperating, Live: true, Default: "5",
			Help: "seconds over which connections are told of a stop; webhooks get the rest",
			read: duration(0, 3600, func(c *Config) *time.Duration { return &c.Limits.Grace })},
		{Name: "REVERB_UPGRADE_DRAIN", Group: groupOperating, Default: "3600",
			Help: "seconds for which an old process relays TLS connections after an upgrade",
			read: duration(0, 604800,
				func(c *Config) *time.Duration { return &c.Limits.UpgradeDrain })},
		{Name: "REVERB_RESTART", Group: groupOperating, Default: "auto",
			Help: "what a restart is: upgrade, drain, or an upgrade where that is possible (auto)",
			read: readRestart},
		{Name: "REVERB_CONTROL_SOCKET", Group: groupOperating,
			Help: "Unix socket over which commands find the running server, in a folder where " +
				"nobody else can write; a usual place when empty",
			read: text(func(c *Config) *string { return &c.Listen.Control })},
		{Name: "REVERB_SCALING_ENABLED", Group: groupRedis, Default: "false",
			Help: "several nodes on one Redis",
			read: boolean(func(c *Config) *bool { return &c.Scaling.Enabled })},
		{Name: "REVERB_SCALING_CHANNEL", Group: groupRedis, Default: "reverb",
			Help: "prefix of everything in Redis",
			read: text(func(c *Config) *string { return &c.Scaling.Channel })},
		{Name: "REVERB_REDIS_URL", Group: groupRedis, fallback: "REDIS_URL", Secret: true,
			Help: "redis://user:password@host:6379/0; wins over the parts",
			read: text(func(c *Config) *string { return &c.redis.url })},
		{Name: "REVERB_REDIS_SCHEME", Group: groupRedis, fallback: "REDIS_SCHEME", late: true,
			Help: "tls or rediss for TLS, unix for a socket; tcp or redis when empty",
			read: readRedisScheme},
		{Name: "REVERB_REDIS_HOST", Group: groupRedis, fallback: "REDIS_HOST", Default: "127.0.0.1",
			Help: "host of Redis, or the path of its Unix socket",
			read: text(func(c *Config) *string { return &c.redis.Host })},
		{Name: "REVERB_REDIS_PORT", Group: groupRedis,
			fallback: "REDIS_PORT", late: true, Default: "6379",
			Help: "port of Redis; 0 beside a path",
			read: number(0, 65535, func(c *Config) *int { return &c.redis.Port })},
		{Name: "REVERB_REDIS_PATH", Group: groupRedis, fallback: "REDIS_PATH",
			Help: "path of its Unix socket, with the scheme unix",
			read: text(func(c *Config) *string { return &c.redis.Path })},
		{Name: "REVERB_REDIS_USERNAME", Group: groupRedis, fallback: "REDIS_USERNAME",
			Help: "user in Redis",
			read: text(func(c *Config) *string { return &c.redis.Username })},
		{Name: "REVERB_REDIS_PASSWORD", Group: groupRedis, fallback: "REDIS_PASSWORD", Secret: true,
			Help: "password in Redis",
			read: text(func(c *Config) *string { return &c.redis.Password })},
		{Name: "REVERB_REDIS_DB", Group: groupRedis, fallback: "REDIS_DB", late: true, Default: "0",
			Help: "database in Redis",
			read: number(0, 65535, func(c *Config) *int { return &c.redis.DB })},
		{Name: "REVERB_REDIS_TIMEOUT", Group: groupRedis,
			fallback: "REDIS_TIMEOUT", late: true, Default: "60",
			Help: "seconds that events wait for Redis to come back, decimals allowed, 0 for the " +
				"default; then they are dropped and counted",
			read: decimalSeconds(86_400, time.Minute,
				func(c *Config) *time.Duration { return &c.Scaling.Patience })},
		{Name: "REVERB_REDIS_CA", Group: groupRedis,
			Help: "file of certificates that Redis must be signed with, PEM; the system's when " +
				"empty",
			read: fileName(func(c *Config) *string { return &c.Redis.CA })},
		{Name: "REVERB_REDIS_CERT", Group: groupRedis,
			Help: "file of our certificate for Redis, PEM; may hold the key too",
			read: fileName(func(c *Config) *string { return &c.Redis.Cert })},
		{Name: "REVERB_REDIS_KEY", Group: groupRedis,
			Help: "file of its private key, PEM",
			read: fileName(func(c *Config) *string { return &c.Redis.Key })},
		{Name: "REVERB_REDIS_SERVER_NAME", Group: groupRedis,
			Help: "name in the certificate of Redis; its host when empty",
			read: text(func(c *Config) *string { return &c.Redis.ServerName })},
		{Name: "REVERB_REDIS_SENTINELS", Group: groupRedis,
			Help: "sentinels that know the master: host:port, comma-separated",
			read: text(func(c *Config) *string { return &c.redis.sentinels })},
		{Name: "REVERB_REDIS_CLUSTER", Group: groupRedis,
			Help: "some nodes of a Redis Cluster: host:port, comma-separated",
			read: text(func(c *Config) *string { return &c.redis.cluster })},
		{Name: "REVERB_REDIS_SERVICE", Group: groupRedis, Default: "mymaster",
			Help: "name under which the sentinels know the master",
			read: text(func(c *Config) *string { return &c.Redis.Service })},
		{Name: "REVERB_TLS_CERT", Group: groupTLS, Live: true,
			Help: "file of the certificate chain, PEM; may hold the key too",
			read: fileName(func(c *Config) *string { return &c.TLS.CertFile })},
		{Name: "REVERB_TLS_KEY", Group: groupTLS, Live: true,
			Help: "file of the private key, PEM",
			read: fileName(func(c *Config) *string { return &c.TLS.KeyFile })},
		{Name: "REVERB_TLS_PASSPHRASE", Group: groupTLS, Live: true, Secret: true,
			Help: "passphrase of the private key",
			read: text(func(c *Config) *string { return &c.TLS.Passphrase })},
		{Name: "REVERB_TLS_CA", Group: groupTLS, Live: true,
			Help: "file of certificates that clients must be signed with, PEM",
			read: fileName(func(c *Config) *string { return &c.TLS.CAFile })},
		{Name: "REVERB_TLS_MIN_VERSION", Group: groupTLS, Live: true, Default: "1.2",
			Help: "1.2 or 1.3",
			read: text(func(c *Config) *string { return &c.TLS.MinVersion })},
		{Name: "REVERB_TLS_CIPHERS", Group: groupTLS, Live: true,
			Help: "cipher suites of TLS 1.2, comma-separated",
			read: text(func(c *Config) *string { return &c.TLS.Ciphers })},
		{Name: "REVERB_WEBHOOK_URL", Group: groupHooks, Live: true,
			Help: "where the events of apps without webhooks of their own are posted to",
			read: parsed(hooks.ParseURL, func(c *Config) **url.URL { return &c.Hooks.URL })},
		{Name: "REVERB_WEBHOOK_EVENTS", Group: groupHooks, Live: true,
			Help: "names of events, comma-separated; all but client_event and " +
				"subscription_count when empty",
			read: readHookKinds},
		{Name: "REVERB_WEBHOOK_CHANNEL_PREFIX", Group: groupHooks, Live: true,
			Help: "what the names of the channels that are told begin with; any when empty",
			read: text(func(c *Config) *string { return &c.Hooks.Prefix })},
		{Name: "REVERB_WEBHOOK_CHANNEL_SUFFIX", Group: groupHooks, Live: true,
			Help: "what the names of the channels that are told end with; any when empty",
			read: text(func(c *Config) *string { return &c.Hooks.Suffix })},
		{Name: "REVERB_WEBHOOK_TIMEOUT", Group: groupHooks, Live: true, Default: "5",
			Help: "seconds that a request may take, with its answer",
			read: duration(1, int(hooks.MaxTimeout/time.Second),
				func(c *Config) *time.Duration { return &c.Hooks.Timeout })},
		{Name: "REVERB_WEBHOOK_HEADERS", Group: groupHooks, Live: true, Secret: true,
			Help: `headers of each request: a JSON object, such as {"Authorization":"Bearer …"}`,
			read: readHookHeaders},
		{Name: "REVERB_WEBHOOK_CA", Group: groupHooks,
			Help: "file of certificates that the receiver may be signed with, PEM; the " +
				"system's when empty",
			read: fileName(func(c *Config) *string { return &c.Hooks.CAFile })},
		{Name: "REVERB_WEBHOOK_PROXY", Group: groupHooks, Secret: true,
			Help: "proxy for the requests, such as http://proxy.example:3128; HTTP_PROXY is " +
				"not read",
			read: parsed(hooks.ParseProxy, func(c *Config) **url.URL { return &c.Hooks.Proxy })},
		{Name: "REVERB_WEBHOOK_QUEUE_BYTES", Group: groupHooks, Default: "64MiB",
			Help: "memory of the events that wait, such as 64MiB",
			read: parsed(memory.ParseRoom, func(c *Config) *int64 { return &c.Hooks.QueueBytes })},
		{Name: "REVERB_WEBHOOK_CLIENT_EVENTS_PER_SECOND", Group: groupHooks, Default: "100",
			Help: "client events of an app that webhooks tell in a second; more are dropped",
			read: number(1, 1_000_000, func(c *Config) *int { return &c.Hooks.ClientEvents })},
		{Name: "REVERB_WEBHOOK_SPOOL", Group: groupHooks,
			Help: "folder that keeps what a crash or a stop would lose, of this server alone",
			read: fileName(func(c *Config) *string { return &c.Hooks.Spool })},
		{Name: "REVERB_WEBHOOK_ALLOW_LINK_LOCAL", Group: groupHooks, Default: "false",
			Help: "whether webhooks may go to link-local addresses and metadata services",
			read: boolean(func(c *Config) *bool { return &c.Hooks.LinkLocal })},
		{Name: "REVERB_LARAVEL_QUEUE", Group: groupHooks, Live: true,
			Help: "queue of the Laravel application, in Redis, onto which the events of its app " +
				"are pushed, such as default; true for the one of its configuration",
			read: readQueue},
		{Name: "REVERB_LARAVEL_LISTENER", Group: groupHooks, Live: true,
			Help: "class that gets them, Class or Class@method, such as " +
				`App\Listeners\ReverbEvents; Laravel's events reverb.* when empty`,
			read: parsed(laravelqueue.ParseListener,
				func(c *Config) *laravelqueue.Listener { return &c.Queue.To.Listener })},
		{Name: "REVERB_LARAVEL_QUEUE_MAX", Group: groupHooks, Live: true, Default: "100000",
			Help: "jobs that may wait in that queue; above it nothing is pushed",
			read: number(1, 100_000_000, func(c *Config) *int { return &c.Queue.To.Limit })},
		{Name: "REVERB_ADMIN_LISTEN", Group: groupOperating,
			Help: "address for metrics, status and profiling, such as 127.0.0.1:9090",
			read: readAddress("127.0.0.1", func(c *Config) *string { return &c.Admin.Listen })},
		{Name: "REVERB_METRICS_PREFIX", Group: groupOperating, Default: "reverb_",
			Help: "what names of metrics begin with; soketi_ or sockudo_ for their dashboards",
			read: readMetricsPrefix},
		{Name: "REVERB_LOG_LEVEL", Group: groupOperating, Default: "info",
			Help: "debug, info, warn or error",
			read: readLogLevel},
		{Name: "REVERB_LOG_FORMAT", Group: groupOperating, Default: "text",
			Help: "text or json",
			read: readLogFormat},
		{Name: "REVERB_ACCESS_LOG", Group: groupOperating, Default: "false",
			Help: "whether the log has a line for each request of the HTTP API",
			read: boolean(func(c *Config) *bool { return &c.Log.Access })},
		{Name: "REVERB_DEBUG", Group: groupOperating, Default: "false", Flag: "debug",
			Help: "show every message, on standard output",
			read: boolean(func(c *Config) *bool { return &c.Log.Debug })},
		{Name: "REVERB_CONFIG_FILE", Group: groupOperating, Live: true,
			Help: "Laravel's config/reverb.php, which is read without PHP; what is found beside " +
				".env when not set, none when empty",
			read: func(_ *Config, s string) error { return redact.NoName(s) }},
		{Name: "REVERB_ENV_FILE", Group: groupOperating,
			Live: true, Default: ".env", Flag: "env-file",
			Help: "Laravel's file; the real environment wins over it",
			read: func(_ *Config, s string) error { return redact.NoName(s) }},
	}
}

// parsed makes a reader of a value that another package parses.
func parsed[T any](parse func(string) (T, error), to func(*Config) *T) func(*Config, string) error {
	return func(c *Config, s string) (err error) {
		*to(c), err = parse(s)
		return err
	}
}

// readHost reads the host to listen on: an address, a name of this machine, or unix:/path.
func readHost(c *Config, s string) error {
	path, unix := strings.CutPrefix(s, "unix:")
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	_, bad := netip.ParseAddr(host)
	switch {
	case unix && path == "":
		return errors.New("the path is missing; give one, such as unix:/run/reverb.sock")
	case unix:
		host = s
	case bad != nil && strings.ContainsAny(s, ":/$@ "):
		return errors.New("not a host; give an address alone, such as 127.0.0.1 " +
			"(REVERB_SERVER_PORT has the port), or unix:/path")
	}
	c.Listen.Host = host
	return nil
}

func readMode(c *Config, s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("not permissions in octal digits")
	}
	c.Listen.SocketMode = os.FileMode(n)
	return nil
}

// readAddress reads host:port, unix:/path, or a port alone, for the given host.
func readAddress(host string, p func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if _, err := strconv.Atoi(s); err == nil {
			s = net.JoinHostPort(host, s)
		}
		host, port, err := net.SplitHostPort(s)
		n, bad := strconv.Atoi(port)
		if path, unix := strings.CutPrefix(s, "unix:"); unix && path != "" {
			*p(c) = s
			return nil
		}
		if err != nil || bad != nil || n < 0 || n > 65535 || strings.ContainsAny(host, "/@") {
			return errors.New("not an address; give host:port, such as 127.0.0.1:9090, or " +
				"unix:/path")
		}
		*p(c) = s
		return nil
	}
}

func readMetricsPrefix(c *Config, s string) error {
	for i, r := range s {
		letter := r == '_' || r == ':' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return errors.New("not the beginning of a metric's name: letters, digits and _")
		}
	}
	c.Admin.MetricsPrefix = s
	return nil
}

func readPath(c *Config, s string) error {
	s = strings.Trim(s, "/")
	up := strings.Contains("/"+s+"/", "/../") || strings.Contains(s, "//")
	if up || (&url.URL{Path: s}).EscapedPath() != s {
		return errors.New("not a plain path, such as /ws")
	}
	if c.Listen.Path = ""; s != "" {
		c.Listen.Path = "/" + s
	}
	return nil
}

func readScheme(c *Config, s string) error {
	if s != "http" && s != "https" {
		return errors.New("neither http nor https")
	}
	c.Public.Scheme = s
	return nil
}

func readOrigins(c *Config, s string) error {
	c.app.AllowedOrigins = nil // those of config/reverb.php
	for entry := range strings.SplitSeq(s, ",") {
		pattern, warning, err := origin.Parse(strings.TrimSpace(entry))
		if err != nil {
			return fmt.Errorf("%s: %w", Masked(strings.TrimSpace(entry)), err)
		}
		if warning != "" {
			c.Warn("REVERB_ALLOWED_ORIGINS: %s: %s", Masked(strings.TrimSpace(entry)), warning)
		}
		c.app.AllowedOrigins = append(c.app.AllowedOrigins, pattern)
	}
	return nil
}

func readRedisScheme(c *Config, s string) error {
	s = strings.ToLower(s)
	if !slices.Contains([]string{"tcp", "redis", "tls", "rediss", "unix"}, s) {
		return errors.New("not one of tcp, redis, tls, rediss and unix")
	}
	c.redis.Scheme = s
	return nil
}

func readRestart(c *Config, s string) error {
	if c.Limits.Restart = s; s != "auto" && s != "upgrade" && s != "drain" {
		return errors.New("not one of auto, upgrade and drain")
	}
	return nil
}

func readLogLevel(c *Config, s string) error {
	if c.Log.Level.UnmarshalText([]byte(s)) != nil {
		return errors.New("not one of debug, info, warn and error")
	}
	return nil
}

func readLogFormat(c *Config, s string) error {
	if c.Log.Format = s; s != "text" && s != "json" {
		return errors.New("neither text nor json")
	}
	return nil
}
