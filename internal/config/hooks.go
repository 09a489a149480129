package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"reverb/internal/hooks"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/show"
	"reverb/internal/webhooks"
)

// setHooks gives the hook of the variables to the apps that say nothing of webhooks, gives its app
// the queue, and says what cannot be meant.
func (c *Config) setHooks() {
	if c.Hooks.URL == nil {
		for _, s := range c.inForce {
			if strings.HasPrefix(s.Name, "REVERB_WEBHOOK_") && s.Origin != "default" &&
				c.isPartOfHook(s.Name) {
				c.Warn("%s means nothing without REVERB_WEBHOOK_URL", s.Name)
			}
		}
	}
	if c.Hooks.Kinds == 0 {
		c.Hooks.Kinds = webhooks.DefaultKinds
	}
	defer c.judgeSpool()
	for _, a := range c.Apps {
		c.giveHooks(a)
		for _, h := range a.Webhooks {
			if h.Kinds.Has(webhooks.SubscriptionCount) && !a.SubscriptionCount {
				c.Warn("app %s: subscription_count is asked for in a webhook, but nothing is "+
					"counted; set REVERB_APP_SUBSCRIPTION_COUNT=true, or subscription_count of "+
					"the app", show.Text(a.ID))
			}
		}
	}
}

// giveHooks gives an app the hooks of the variables, unless it has them.
func (c *Config) giveHooks(a *App) {
	h := webhooks.Hook{URL: c.Hooks.URL, Kinds: c.Hooks.Kinds, Prefix: c.Hooks.Prefix,
		Suffix: c.Hooks.Suffix, Timeout: c.Hooks.Timeout, Headers: c.Hooks.Headers}
	if a.Webhooks == nil && h.URL != nil {
		a.Webhooks = []*webhooks.Hook{&h}
	}
	has := func(h *webhooks.Hook) bool { return h.Queue != nil }
	if c.Queue.To.Key != "" && a.ID == c.Queue.App && !slices.ContainsFunc(a.Webhooks, has) {
		push := h
		push.URL, push.Headers, push.Queue = nil, nil, &c.Queue.To
		a.Webhooks = append(slices.Clip(a.Webhooks), &push)
	}
}

// judgeSpool says what the folder does not go together with.
func (c *Config) judgeSpool() {
	switch {
	case c.Hooks.Spool == "":
	case c.Scaling.Enabled:
		c.judge("REVERB_WEBHOOK_SPOOL", errors.New("is for one server alone; with "+
			"REVERB_SCALING_ENABLED=true Redis keeps what was not delivered, so leave it out"))
	case !c.Telling():
		c.Warn("REVERB_WEBHOOK_SPOOL means nothing: no app has webhooks")
		c.Hooks.Spool = ""
	}
}

// isPartOfHook says whether a variable describes the hook of REVERB_WEBHOOK_URL alone.
func (c *Config) isPartOfHook(name string) bool {
	switch strings.TrimPrefix(name, "REVERB_WEBHOOK_") {
	case "EVENTS", "CHANNEL_PREFIX", "CHANNEL_SUFFIX", "TIMEOUT":
		return c.Queue.To.Key == "" // they describe the hook of the queue, too
	case "HEADERS":
		return true
	}
	return false
}

func readHookURL(c *Config, s string) (err error) {
	c.Hooks.URL, err = hooks.ParseURL(s)
	return err
}

func readHookKinds(c *Config, s string) (err error) {
	c.Hooks.Kinds, err = hooks.ParseKinds(strings.Split(s, ","))
	return err
}

func readHookHeaders(c *Config, s string) (err error) {
	c.Hooks.Headers, err = hooks.ParseHeaders([]byte(s))
	return err
}

func readHookProxy(c *Config, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("not the URL of a proxy, such as http://proxy.example:3128")
	}
	c.Hooks.Proxy = u
	return nil
}

func readHookQueue(c *Config, s string) error {
	n, err := memory.ParseSize(s)
	if err != nil || n == memory.Off {
		return errors.New("not a size of at least 16MiB, such as 64MiB")
	}
	c.Hooks.QueueBytes = int64(n)
	return nil
}

// Telling says that an app has webhooks.
func (c *Config) Telling() bool {
	return slices.ContainsFunc(c.Apps, func(a *App) bool { return len(a.Webhooks) > 0 })
}
