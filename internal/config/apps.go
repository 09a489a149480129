package config

import (
	"slices"
	"strconv"
	"strings"

	"reverb/internal/apps"
	"reverb/internal/laravel"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/php"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// App is one application. It is an alias, so that a reader of the configuration needs one package.
type App = apps.App

// loadApps makes the apps from REVERB_APPS, REVERB_APPS_FILE or REVERB_APP_*.
func (c *Config) loadApps() {
	switch {
	case redact.NoName(c.Setting("REVERB_APPS_FILE").Value) != nil: // a problem already
	case c.appsJSON != "" && c.appsFile != "":
		c.Problem("REVERB_APPS_FILE="+Masked(c.appsFile),
			"REVERB_APPS is set too; keep one of the two")
	case c.appsJSON != "":
		c.addApps("REVERB_APPS", []byte(c.appsJSON))
	case strings.HasSuffix(c.appsFile, ".php"):
		c.addPHPApps()
	case c.appsFile != "":
		b, err := c.files.Read(c.at(c.appsFile))
		if err != nil {
			c.Problem("REVERB_APPS_FILE="+Masked(c.appsFile),
				c.fileHint(err, "name a JSON file of apps"))
			return
		}
		c.addApps("REVERB_APPS_FILE="+Masked(c.appsFile), b)
	case c.application.apps != nil:
		c.addApps(c.application.origin, c.application.apps)
	default:
		c.addApp()
	}
}

// addApp adds the app of REVERB_APP_ID, _KEY and _SECRET.
func (c *Config) addApp() {
	a := &c.app
	missing := []string{}
	parts := map[string]string{"REVERB_APP_ID": a.ID, "REVERB_APP_KEY": a.Key,
		"REVERB_APP_SECRET": a.Secret}
	for name, value := range parts {
		if value == "" {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	switch len(missing) {
	case 0:
		c.Apps = append(c.Apps, a)
	case 3: // then there is no app; start says what to do
		if f := c.application.reverb; f.Kind == php.Array && !c.Dev && len(c.Problems) == 0 {
			c.Warn("%s was read, and no app in it has an app_id, a key and a secret", f.File)
		}
	default:
		c.Problem(strings.Join(missing, ", "),
			"not set, while the rest of the app is; an app needs REVERB_APP_ID, REVERB_APP_KEY "+
				"and REVERB_APP_SECRET")
	}
}

// addApps reads a list of apps and says what is wrong with it.
func (c *Config) addApps(given string, b []byte) {
	list, problems, warnings := apps.ParseList(b)
	for _, p := range problems {
		c.Problem(given, p)
	}
	for _, w := range warnings {
		c.Warn("%s: %s", given, w)
	}
	c.Apps = list
	c.readDumpTLS(given, b)
	c.compareDump(given, b)
	ours := func(a *App) bool { return a.ID == c.app.ID }
	if c.app.ID != "" && !slices.ContainsFunc(list, ours) && len(problems) == 0 {
		c.Warn("REVERB_APP_ID=%q is not in the list of apps, so it is not served; %s decides",
			show.Text(c.app.ID), strings.SplitN(given, "=", 2)[0])
	}
	if s := c.Setting("REVERB_RESUME_SECONDS"); c.app.ResumeLife > 0 && len(problems) == 0 {
		c.Warn("%s (%s) does not count: each app of the list has resume_seconds of its own",
			s.assignment(), s.Origin)
	}
}

// compareDump compares a dump of config('reverb') with the variables of the server itself, and
// warns of differences. The variables count.
func (c *Config) compareDump(given string, b []byte) {
	for _, name := range []string{"servers", "reverb"} {
		b = laravel.Member(b, name)
	}
	compare := func(value []byte, name, counts string) {
		s, ok := jsonraw.Scalar(value)
		if ok && s != "" && strings.Trim(s, "/") != strings.Trim(counts, "/") {
			c.Warn("%s says %s, but %s=%s counts; set the variable if the list is right", given,
				show.Text(redact.URL(s)), name, show.Text(redact.URL(counts)))
		}
	}
	compare(laravel.Member(b, "host"), "REVERB_SERVER_HOST", c.Listen.Host)
	compare(laravel.Member(b, "port"), "REVERB_SERVER_PORT", strconv.Itoa(c.Listen.Port))
	compare(laravel.Member(b, "path"), "REVERB_SERVER_PATH", c.Listen.Path)
	compare(laravel.Member(b, "max_request_size"), "REVERB_MAX_REQUEST_SIZE",
		strconv.Itoa(c.Limits.RequestSize))
	enabled := string(laravel.Member(laravel.Member(b, "scaling"), "enabled")) == "true"
	if enabled && !c.Scaling.Enabled {
		c.Warn("%s says that scaling is enabled, but REVERB_SCALING_ENABLED, which counts, is "+
			"not true", given)
	}
}

// judgeResume warns of what means nothing in keeping events for clients that come back.
func (c *Config) judgeResume() {
	s := c.Setting("REVERB_RESUME_SECONDS")
	what := s.assignment() + " (" + s.Origin + ")"
	kept := c.app.ResumeLife > 0
	for _, a := range c.Apps {
		if a.ResumeLife > 0 && !kept {
			kept, what = true, "resume_seconds of app "+show.Text(a.ID)
		}
	}
	switch {
	case kept && c.Scaling.Enabled:
		c.Warn("%s does nothing yet with REVERB_SCALING_ENABLED=true: nodes keep no events for "+
			"clients that come back; leave it out, or run one server without scaling", what)
	case !kept && len(c.Problems) == 0:
		var idle []string
		for _, name := range []string{"REVERB_RESUME_EVENTS", "REVERB_RESUME_BYTES",
			"REVERB_RESUME_CHANNELS"} {
			if s := c.Setting(name); s.Value != "" && s.Origin != "default" {
				idle = append(idle, s.assignment())
			}
		}
		if idle != nil {
			c.Warn("%s: nothing is kept without REVERB_RESUME_SECONDS, such as 120, or "+
				"resume_seconds of an app in a list", strings.Join(idle, ", "))
		}
	}
}
