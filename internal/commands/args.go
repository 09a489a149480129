package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"reverb/internal/lib/nearest"
	"reverb/internal/lib/show"
)

// Line has the parts of a command line.
type Line struct {
	Command string            // a command of the table; start if the line names none
	Words   []string          // the arguments of the command
	Flags   map[string]string // the common flags, by name without dashes, as config.Load takes them
	Plain   bool              // --no-ansi: the output has no colours

	own map[string][]string // values of the command's own flags, in the order of the line
}

// Has says whether the line has one of the command's own flags.
func (l *Line) Has(flag string) bool { return len(l.own[flag]) > 0 }

// Get returns the value of one of the command's own flags; empty: the line does not have the flag.
// Of several values it returns the last.
func (l *Line) Get(flag string) string {
	if all := l.own[flag]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// All returns the values of one of the command's own flags that may be given several times.
func (l *Line) All(flag string) []string { return l.own[flag] }

// Parse takes the command line apart and compares it with the table of commands. Flags may stand
// anywhere; --name value and --name=value mean the same; after -- there are no flags.
// reverb:start and reverb:restart, the names in artisan, are start and restart. A line with -h or
// --help is the command help, a line with -V or --version is the command version. The error says
// what is wrong and which help to read.
func Parse(args []string) (Line, error) {
	if len(args) == 1 && args[0] == "-v" { // with a command, -v is artisan's flag
		return Line{Command: "version"}, nil
	}
	l := Line{Command: "start", Flags: map[string]string{}, own: map[string][]string{}}
	p := parser{Line: &l}
	err := p.parse(args)
	if p.version {
		return Line{Command: "version"}, nil
	}
	named := len(l.Words) > 0
	if named {
		l.Command, l.Words = l.Words[0], l.Words[1:]
	}
	if l.Command == "reverb:start" || l.Command == "reverb:restart" {
		l.Command = strings.TrimPrefix(l.Command, "reverb:")
	}
	c, known := find(l.Command)
	if p.help && known && named && c.Name != "help" {
		l.Words = []string{c.Name}
	}
	switch {
	case p.help && known:
		c, _ = find("help")
		l, err = Line{Command: c.Name, Words: l.Words, Plain: l.Plain}, nil
	case err != nil: // there may be words that were not read
	case !known:
		err = fmt.Errorf("there is no command %q%s", l.Command, didYouMean(l.Command))
	}
	if err == nil {
		err = l.judge(&c)
	}
	if err != nil && known && named {
		return Line{}, fmt.Errorf("%w; see reverb help %s", err, c.Name)
	} else if err != nil {
		return Line{}, fmt.Errorf("%w; see reverb help", err)
	}
	return l, nil
}

// didYouMean is the end of a sentence about a command that does not exist: a command with a
// similar name or the same purpose, in brackets, or nothing.
func didYouMean(name string) string {
	guess := nearest.Guess(name, names())
	for _, c := range Table() {
		if slices.Contains(c.Also, name) {
			guess = c.Name
		}
	}
	return inBrackets(guess)
}

func inBrackets(guess string) string {
	if guess == "" {
		return ""
	}
	return " (did you mean " + guess + "?)"
}

// judge says which arguments and flags do not fit the command.
func (l *Line) judge(c *Command) error {
	for name := range l.own {
		if !slices.ContainsFunc(c.Flags, func(f Flag) bool { return f.Name == name }) {
			return fmt.Errorf("%s has no flag --%s", c.Name, name)
		}
	}
	n := len(l.Words)
	switch {
	case c.Max == 0 && n > 0:
		return fmt.Errorf("%s takes no arguments; got %s", c.Name, show.Quoted(l.Words[0]))
	case n < c.Min && !(c.Instead != "" && l.Has(c.Instead)) || c.Max >= 0 && n > c.Max:
		return fmt.Errorf("%s takes %s, like: %s", c.Name, c.Takes, c.Examples[0].Line)
	case n == 0:
		return nil
	case c.Name == "help":
		if topic := l.Words[0]; !slices.Contains(topics(), topic) && variable(topic).Name == "" {
			return unknown(c, topic, didYouMean(topic))
		}
	case c.Choices != nil && !slices.Contains(c.Choices, l.Words[0]):
		return unknown(c, l.Words[0], inBrackets(nearest.Guess(l.Words[0], c.Choices)))
	}
	return nil
}

// unknown says that a command does not know its argument. guess is the end of the sentence about
// the argument; it may be empty.
func unknown(c *Command, word, guess string) error {
	return fmt.Errorf("%s does not know %s%s; it takes %s", c.Name, show.Quoted(word), guess,
		c.Takes)
}

// parser reads a line from left to right.
type parser struct {
	*Line
	help, version bool // -h, -V
}

func (p *parser) parse(left []string) error {
	for len(left) > 0 {
		arg := left[0]
		left = left[1:]
		name, dashed := strings.CutPrefix(arg, "--")
		switch {
		case arg == "-h" || arg == "--help":
			p.help = true
		case arg == "-V" || arg == "--version":
			p.version = true
			return nil
		case arg == "--":
			p.Words = append(p.Words, left...)
			return nil
		case p.takeArtisan(arg):
		case dashed:
			rest, err := p.takeFlag(name, left)
			if err != nil {
				return err
			}
			left = rest
		case len(arg) == 2 && arg[0] == '-' && (arg[1] < '0' || arg[1] > '9'):
			// -1 may be the data of trigger
			return fmt.Errorf("there is no flag %s; flags have two dashes", show.Text(arg))
		default:
			p.Words = append(p.Words, arg)
		}
	}
	return nil
}

// anyFlag finds a flag of any command. Flags of the same name take the same kind of value in all
// commands. own says that it is not a common flag.
func anyFlag(name string) (f Flag, own, ok bool) {
	is := func(f Flag) bool { return f.Name == name }
	all := common()
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], false, true
	}
	for _, c := range Table() {
		if i := slices.IndexFunc(c.Flags, is); i >= 0 {
			return c.Flags[i], true, true
		}
	}
	return f, false, false
}

// takeFlag takes the flag arg, which stands here without its dashes. Its value may be the first of
// next; rest is the remainder of next.
func (p *parser) takeFlag(arg string, next []string) (rest []string, err error) {
	name, value, given := strings.Cut(arg, "=")
	f, own, ok := anyFlag(name)
	switch {
	case !ok:
		return nil, noFlag(name)
	case f.Value == "" && f.Variable == "" && given && value != "true":
		return nil, fmt.Errorf("--%s takes no value", name)
	case given && (value != "" || !own): // an empty value unsets a variable
	case f.Value == "":
		value = "true"
	case given || len(next) == 0 || strings.HasPrefix(next[0], "--"):
		return nil, fmt.Errorf("--%s needs a value", name)
	default:
		value, next = next[0], next[1:]
	}
	if own {
		p.own[name] = append(p.own[name], value)
	} else {
		p.Flags[name] = value
	}
	return next, nil
}

// noFlag says that a flag does not exist, and names a similar one.
func noFlag(name string) error {
	var known []string
	for _, f := range common() {
		known = append(known, f.Name)
	}
	for _, c := range Table() {
		for _, f := range c.Flags {
			known = append(known, f.Name)
		}
	}
	guess := nearest.Guess(name, known)
	if guess != "" {
		guess = "--" + guess
	}
	return errors.New("there is no flag --" + show.Text(name) + inBrackets(guess))
}

// takeArtisan takes a flag that every artisan command has (Symfony: Console\Application,
// configureIO). Files of Supervisor have such flags. -q logs only errors, and -vvv is the debug
// level; Flags has both as verbosity. --no-ansi turns colours off. The others change nothing. Short
// flags may stand together, as in -nq. ok is false for any other argument.
func (p *parser) takeArtisan(arg string) (ok bool) {
	quiet, verbose := false, false
	switch arg {
	case "--no-interaction", "--ansi", "--verbose", "--verbose=1", "--verbose=2":
	case "--no-ansi":
		p.Plain = true
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
		p.Flags["verbosity"] = "quiet"
	} else if verbose && p.Flags["verbosity"] == "" { // -q wins, as in Symfony
		p.Flags["verbosity"] = "verbose=3"
	}
	return true
}

// artisan are the flags that takeArtisan takes, as help shows them.
func artisan() [][2]string {
	return [][2]string{
		{"-q, --quiet", "errors alone in the log"},
		{"-vvv", "the debug level; -v and -vv change nothing"},
		{"--no-ansi", "no colours"},
		{"-n, --no-interaction, --ansi", "change nothing; artisan has them"},
	}
}

// everywhere are the flags of every command, as help shows them.
func everywhere() [][2]string {
	return [][2]string{
		{"-h, --help", "print help"},
		{"-V, --version", "print the version; so does -v without a command"},
	}
}
