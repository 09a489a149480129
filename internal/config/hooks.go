package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"reverb/internal/hookevents"
	"reverb/internal/hooks"
	"reverb/internal/lib/show"
	"reverb/internal/webhooks"
)

// setHooks gives the hook of the variables to the apps that say nothing of webhooks, gives its app
// the queue, and says what cannot be meant.
func (c *Config) setHooks() {
	c.Warnings = append(c.Warnings, hooks.Idle(func(name string) bool {
		s := c.Setting(name)
		return s.Value != "" && s.Origin != "default"
	}, c.Queue.To.Key != "")...)
	if c.Hooks.Kinds == 0 {
		c.Hooks.Kinds = hookevents.DefaultKinds
	}
	judge := func(given string, u *url.URL) {
		if err := hooks.JudgeAddress(u, c.Hooks.LinkLocal); err != nil {
			c.Problem(given, err.Error())
		}
	}
	judge(c.Setting("REVERB_WEBHOOK_URL").assignment(), c.Hooks.URL)
	judge(c.Setting("REVERB_WEBHOOK_PROXY").assignment(), c.Hooks.Proxy)
	for _, a := range c.Apps {
		c.giveHooks(a)
		for _, h := range a.Webhooks {
			if h.URL != c.Hooks.URL {
				judge("app "+show.Text(a.ID)+": webhooks", h.URL)
			}
			if h.Kinds.Has(webhooks.SubscriptionCount) && !a.SubscriptionCount {
				c.Warn("app %s: subscription_count is asked for in a webhook, but nothing is "+
					"counted; set REVERB_APP_SUBSCRIPTION_COUNT=true, or subscription_count of "+
					"the app", show.Text(a.ID))
			}
		}
	}
	c.judgeSpool()
	if !c.Dev { // see StartDev
		c.noteHooks()
	}
}

// noteHooks says which events of which apps go where.
func (c *Config) noteHooks() {
	c.Notes = append(c.Notes, hooks.Told(func(yield func(string, []*webhooks.Hook) bool) {
		for _, a := range c.Apps {
			if !yield(a.ID, a.Webhooks) {
				return
			}
		}
	}, c.onto)...)
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

func readHookKinds(c *Config, s string) (err error) {
	c.Hooks.Kinds, err = hooks.ParseKinds(strings.Split(s, ","))
	return err
}

func readHookHeaders(c *Config, s string) (err error) {
	c.Hooks.Headers, err = hooks.ParseHeaders([]byte(s))
	return err
}

// Telling says that an app has webhooks.
func (c *Config) Telling() bool {
	return slices.ContainsFunc(c.Apps, func(a *App) bool { return len(a.Webhooks) > 0 })
}
