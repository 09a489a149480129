package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"reverb/internal/lib/show"
)

// Args has the parts of the command line.
type Args struct {
	Command string            // start if the line names none
	Words   []string          // the words after the command
	Flags   map[string]string // by name without dashes, as Load takes them
}

// ParseArgs takes the command line apart. Flags may stand anywhere; --name value and --name=value
// mean the same. reverb:start and reverb:restart, the names in artisan, are start and restart.
// Other commands are not judged. The error names a flag that does not exist or a value that is
// missing.
func ParseArgs(line []string) (Args, error) {
	a := Args{Command: "start", Flags: map[string]string{}}
	if len(line) == 1 && line[0] == "-v" { // with a command, -v is artisan's flag
		a.Command = "version"
		return a, nil
	}
	for len(line) > 0 {
		arg := line[0]
		line = line[1:]
		name, dashed := strings.CutPrefix(arg, "--")
		switch {
		case arg == "-h" || arg == "--help":
			return Args{Command: "help"}, nil
		case arg == "-V" || arg == "--version":
			return Args{Command: "version"}, nil
		case a.takeArtisan(arg):
		case dashed:
			rest, err := a.takeFlag(name, line)
			if err != nil {
				return Args{}, err
			}
			line = rest
		case len(arg) == 2 && arg[0] == '-' && (arg[1] < '0' || arg[1] > '9'):
			// -1 may be the data of trigger
			return Args{}, fmt.Errorf("there is no flag %s; flags have two dashes", show.Text(arg))
		default:
			a.Words = append(a.Words, arg)
		}
	}
	if len(a.Words) > 0 {
		a.Command, a.Words = a.Words[0], a.Words[1:]
	}
	switch a.Command {
	case "reverb:start":
		a.Command = "start"
	case "reverb:restart":
		a.Command = "restart"
	}
	return a, nil
}

// takeFlag takes the flag arg, which stands here without its dashes. Its value may be the first of
// next; rest is the remainder of next.
func (a *Args) takeFlag(arg string, next []string) (rest []string, err error) {
	name, value, given := strings.Cut(arg, "=")
	isOurs := func(v Variable) bool { return v.Flag == name && name != "" }
	switch {
	case name != "dev" && name != "env" && !slices.ContainsFunc(Variables(), isOurs):
		return nil, fmt.Errorf("there is no flag --%s", show.Text(name))
	case name == "dev" && given && value != "true":
		return nil, errors.New("--dev takes no value")
	case given:
	case name == "dev" || name == "debug":
		value = "true"
	case len(next) == 0 || strings.HasPrefix(next[0], "--"):
		return nil, fmt.Errorf("--%s needs a value", name)
	default:
		value, next = next[0], next[1:]
	}
	a.Flags[name] = value
	return next, nil
}

// takeArtisan takes a flag that every artisan command has (Symfony: Console\Application,
// configureIO). Files of Supervisor have such flags. -q logs only errors, and -vvv is the debug
// level; Flags has both as verbosity. The others change nothing. Short flags may stand together, as
// in -nq. ok is false for any other argument.
func (a *Args) takeArtisan(arg string) (ok bool) {
	quiet, verbose := false, false
	switch arg {
	case "--no-interaction", "--ansi", "--no-ansi", "--verbose", "--verbose=1", "--verbose=2":
	case "--quiet", "--silent":
		quiet = true
	case "--verbose=3":
		verbose = true
	default:
		short, dashed := strings.CutPrefix(arg, "-")
		if !dashed || short == "" || strings.Trim(short, "nqv") != "" {
			return false
		}
		quiet, verbose = strings.Contains(short, "q"), strings.Contains(short, "vvv")
	}
	if quiet {
		a.Flags["verbosity"] = "quiet"
	} else if verbose && a.Flags["verbosity"] == "" { // -q wins, as in Symfony
		a.Flags["verbosity"] = "verbose=3"
	}
	return true
}
