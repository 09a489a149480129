// Package apps is what is configured of each application, and what is wrong with it.
//
// It reads lists of apps as JSON: with the keys of config/reverb.php, as a dump of
// config('reverb'), or in soketi's form. It returns the apps, problems and warnings; no text shows
// a secret. Where a list stands, and which list counts, the caller decides. The package opens no
// file and has no state.
//
// Files:
//
//	apps.go   an app
//	parse.go  lists of apps
package apps

import (
	"errors"
	"strings"
	"time"

	"reverb/internal/hooks"
	"reverb/internal/webhooks"
)

// Policy says whose client events are relayed, and on which channels.
type Policy uint8

const (
	FromMembers Policy = iota // of subscribers, on any channel
	FromAll                   // of every client, on any channel
	FromNone
	FromPrivate // of subscribers, on private and presence channels
)

// RateLimit bounds the messages of one connection: at most MaxAttempts in Decay, counted from the
// first message. Pings, pongs and control frames are free.
type RateLimit struct {
	Enabled     bool
	MaxAttempts int
	Decay       time.Duration
	Terminate   bool // close instead of answering with an error
}

// MaxGrace bounds DisconnectGrace in milliseconds.
const MaxGrace = int(hooks.MaxGrace / time.Millisecond)

// App is the configuration of one application. It never changes.
type App struct {
	ID, Key, Secret  string
	AllowedOrigins   []string // as origin.Parse returns them; "*" allows every origin and none
	PingInterval     time.Duration
	ActivityTimeout  time.Duration
	MaxConnections   int // 0: no limit
	MaxMessageSize   int // bytes
	MaxSubscriptions int // of one connection
	MaxMembers       int // of a presence channel; 0: no limit
	MaxMemberSize    int // bytes of channel_data; 0: only MaxMessageSize counts
	// DisconnectGrace is how long a user whose last socket has vanished still counts as online.
	DisconnectGrace time.Duration
	// ResumeLife is how long a channel keeps an event for clients that come back; 0: not at all.
	ResumeLife   time.Duration
	ClientEvents Policy
	// AuthorizationTimeout is how long a connection may be neither signed in nor subscribed to a
	// channel that needs a signature; 0: for ever.
	AuthorizationTimeout time.Duration
	SubscriptionCount    bool // subscribers are told how many they are
	// Webhooks are where events are told to; nil: nothing is said of them; empty: nowhere.
	Webhooks  []*webhooks.Hook
	RateLimit RateLimit
}

// AnyOrigin returns one host that may connect.
func (a *App) AnyOrigin() string {
	if len(a.AllowedOrigins) == 0 {
		return "localhost"
	}
	return strings.ReplaceAll(a.AllowedOrigins[0], "*", "localhost")
}

// Account is the app as its webhooks know it.
func (a *App) Account() webhooks.Account {
	return webhooks.Account{ID: a.ID, Key: a.Key, Secret: a.Secret, Hooks: a.Webhooks,
		Grace: a.DisconnectGrace}
}

// ParsePolicy reads a Policy: members, all, none or private.
func ParsePolicy(s string) (Policy, error) {
	switch s {
	case "members":
		return FromMembers, nil
	case "all":
		return FromAll, nil
	case "none":
		return FromNone, nil
	case "private":
		return FromPrivate, nil
	}
	return 0, errors.New("not one of members, all, none and private")
}
