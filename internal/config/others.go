package config

import (
	"slices"

	"reverb/internal/aliases"
	"reverb/internal/lib/show"
)

// chooseAliases chooses the other server whose variables count if ours are not set. If an app of
// ours is set, it chooses none: an app that is made of parts of two would be wrong. A list of apps
// in soketi's form is soketi's app.
func (c *Config) chooseAliases(src *source) {
	set := func(name string) bool {
		_, _, set := src.lookup(name)
		_, inFile := c.application.settings[name]
		return set || inFile
	}
	app := append(aliases.Credentials(), "REVERB_APP_SECRET_FILE")
	if slices.ContainsFunc(app, set) || c.application.apps != nil {
		return
	}
	lists := slices.ContainsFunc([]string{"REVERB_APPS", "REVERB_APPS_FILE"}, set)
	switch {
	case lists && !c.soketiLists(src):
		return
	case !lists && !set("SOKETI_DEFAULT_APP_KEY"):
		src.others = aliases.Of("pusher")
		return
	}
	src.others = aliases.Of("soketi")
	for _, name := range src.others.Unknown(c.Names, src.lookup) {
		_, origin, _ := src.lookup(name)
		c.Warn("%s (%s) has no counterpart here and changes nothing", show.Text(name), origin)
	}
}

// soketiLists says whether a list of apps that a variable has or names is in soketi's form.
func (c *Config) soketiLists(src *source) bool {
	list, _, _ := src.lookup("REVERB_APPS")
	b, where := []byte(list), "REVERB_APPS"
	_, _, soketi := aliases.SoketiApps(b)
	if name, _, ok := src.lookup("REVERB_APPS_FILE"); ok && !soketi {
		b, _ = c.files.Read(c.at(name)) // an error is told when the apps are read
		_, _, soketi = aliases.SoketiApps(b)
		where = "REVERB_APPS_FILE"
	}
	if soketi {
		src.settings, src.settingsOf = aliases.SoketiSettings(b), where
	}
	return soketi
}

// theirs is lookup for the variables of another server. What stands in soketi's file beside the
// apps counts first.
func (s *source) theirs(name string) (value, origin string, ok bool) {
	if value, ok = s.settings[name]; ok {
		return value, s.settingsOf, true
	}
	return s.lookup(name)
}

// names are the variables of the environment and of .env.
func (s *source) names() (all []string) {
	for name := range s.env {
		all = append(all, name)
	}
	for name := range s.file {
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// findAlias finds the value of a variable under Laravel's name of it, or under that of another
// server.
func (c *Config) findAlias(v *Variable, s Setting, src *source) (Setting, bool) {
	if v.fallback != "" {
		c.noteLink(v, v.fallback, src)
		if value, origin, ok := src.lookup(v.fallback); ok {
			s.Value, s.Origin, s.given = value, origin+", "+v.fallback, v.fallback
			return s, true
		}
	}
	if src.others == nil {
		return s, false
	}
	other, ok := src.others.Find(v.Name, src.theirs)
	if !ok {
		return s, false
	}
	s.Value, s.Origin = other.Value, other.Origin
	if other.Theirs != "" {
		s.given = other.Theirs
	}
	if other.Err != nil {
		value, _, _ := src.theirs(other.Theirs)
		c.Problem(other.Theirs+"="+Masked(value)+" ("+other.Origin+")", other.Err.Error())
		return s, false
	}
	if v.Name == "REVERB_ADMIN_LISTEN" {
		c.Notes = append(c.Notes, "metrics are at "+show.Line(s.Value)+" alone, where soketi "+
			"serves them on every address: the status page is there too; REVERB_ADMIN_LISTEN "+
			"names another address")
	}
	return s, true
}
