package config

import (
	"slices"

	"reverb/internal/aliases"
	"reverb/internal/lib/show"
)

// chooseAliases chooses the other server whose variables count if ours are not set. If an app of
// ours is set, it chooses none: an app that is made of parts of two would be wrong.
func (c *Config) chooseAliases(src *source) {
	names := append(aliases.Credentials(), "REVERB_APP_SECRET_FILE", "REVERB_APPS",
		"REVERB_APPS_FILE")
	ours := func(name string) bool {
		_, _, set := src.lookup(name)
		_, inFile := c.application.settings[name]
		return set || inFile
	}
	if slices.ContainsFunc(names, ours) || c.application.apps != nil {
		return
	}
	src.others = aliases.Of("pusher")
	if _, _, ok := src.lookup("SOKETI_DEFAULT_APP_KEY"); !ok {
		return
	}
	src.others = aliases.Of("soketi")
	for _, name := range src.others.Unknown(c.Names, src.lookup) {
		_, origin, _ := src.lookup(name)
		c.Warn("%s (%s) has no counterpart here and changes nothing", show.Text(name), origin)
	}
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
	other, ok := src.others.Find(v.Name, src.lookup)
	if !ok {
		return s, false
	}
	s.Value, s.Origin = other.Value, other.Origin
	if other.Theirs != "" {
		s.given = other.Theirs
	}
	if other.Err != nil {
		value, _, _ := src.lookup(other.Theirs)
		c.Problem(other.Theirs+"="+Masked(value)+" ("+other.Origin+")", other.Err.Error())
		return s, false
	}
	return s, true
}
