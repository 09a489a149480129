package commands

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"reverb/internal/config"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "start [] map[]",
		"start --host 1.2.3.4 --port=1": "start [] map[host:1.2.3.4 port:1]",
		"--debug":                       "start [] map[debug:true]",
		"--debug=false --path=":         "start [] map[debug:false path:]",
		"trigger a b {} --dev":          "trigger [a b {}] map[dev:true]",
		"start --nope":                  "error there is no flag --nope; see reverb help start",
		"--prot 80 start": "error there is no flag --prot (did you mean --port?); " +
			"see reverb help",
		"start --port":           "error --port needs a value; see reverb help start",
		"start --host --port 80": "error --host needs a value; see reverb help start",
		"-p 80": "error there is no flag -p; flags have two dashes; " +
			"see reverb help",
		"--dev=no":                      "error --dev takes no value; see reverb help",
		"--dev=true --path= --nope":     "error there is no flag --nope; see reverb help",
		"--dev=true --path= listen a":   "listen [a] map[dev:true path:]",
		"--=x":                          "error there is no flag --; see reverb help",
		"--nope=x --version":            "error there is no flag --nope; see reverb help",
		"start --version --nope":        "version [] map[]",
		"start -V":                      "version [] map[]",
		"-v":                            "version [] map[]",
		"-V":                            "version [] map[]",
		"start -vvv -q":                 "start [] map[verbosity:quiet]",
		"trigger a b -1":                "trigger [a b -1] map[]",
		"trigger a b -15":               "trigger [a b -15] map[]",
		"trigger a b -":                 "trigger [a b -] map[]",
		"listen -1 -news":               "listen [-1 -news] map[]",
		"listen -- -x --dev -h":         "listen [-x --dev -h] map[]",
		"reverb:start --no-interaction": "start [] map[]",
		"reverb:start -n --ansi":        "start [] map[]",
		"start --no-ansi -v":            "start [] map[] plain",
		"start --verbose -vv":           "start [] map[]",
		"-n":                            "start [] map[]",
		"start -vvv":                    "start [] map[verbosity:verbose=3]",
		"start --verbose=3":             "start [] map[verbosity:verbose=3]",
		"start -q -vvv":                 "start [] map[verbosity:quiet]",
		"start --quiet":                 "start [] map[verbosity:quiet]",
		"start -nq":                     "start [] map[verbosity:quiet]",
		"reverb:restart -q":             "restart [] map[verbosity:quiet]",
		"start --env=staging":           "start [] map[env:staging]",
		"start --env staging --debug":   "start [] map[debug:true env:staging]",
		"start --env":                   "error --env needs a value; see reverb help start",

		"--help":               "help [] map[]",
		"-q -h -x":             "help [] map[]",
		"help":                 "help [] map[]",
		"help help":            "help [help] map[]",
		"help start":           "help [start] map[]",
		"help --dev start":     "help [start] map[dev:true]",
		"help start -h":        "help [start] map[]",
		"start --help":         "help [start] map[]",
		"-h listen a b --nope": "help [listen] map[]",
		"trigger -h":           "help [trigger] map[]",
		"reverb:start -h":      "help [start] map[]",
		"help variables":       "help [variables] map[]",
		"help REVERB_HOST":     "help [REVERB_HOST] map[]",
		"help strat": `error help does not know "strat" (did you mean start?); ` +
			`it takes a command, a variable, or the word variables; see reverb help help`,
		"help publish": `error help does not know "publish" (did you mean trigger?); ` +
			`it takes a command, a variable, or the word variables; see reverb help help`,
		"help -h REVERB_NOPE": `error help does not know "REVERB_NOPE"; ` +
			`it takes a command, a variable, or the word variables; see reverb help help`,
		"help start check": "error help takes a command, a variable, or the word " +
			"variables, like: reverb help start; see reverb help help",
		"strat": `error there is no command "strat" (did you mean start?); ` +
			`see reverb help`,
		"restrat": `error there is no command "restrat" (did you mean restart?); ` +
			`see reverb help`,
		"publish -h": `error there is no command "publish" (did you mean trigger?); ` +
			`see reverb help`,
		"reverb:stop": `error there is no command "reverb:stop"; see reverb help`,
		"- -nx":       `error there is no command "-"; see reverb help`,
		"check x":     `error check takes no arguments; got "x"; see reverb help check`,
		"version x": `error version takes no arguments; got "x"; ` +
			`see reverb help version`,
		"listen": "error listen takes one or more channels, or --user, like: reverb listen " +
			"my-channel; see reverb help listen",
		"listen --user 7": "listen [] map[]",
		"trigger a b": `error trigger takes a channel, an event and data, like: ` +
			`reverb trigger my-channel my-event '{"n":1}'; see reverb help trigger`,
		"trigger a b c d --port": "error --port needs a value; see reverb help trigger",
	} {
		l, err := Parse(strings.Fields(args))
		got := fmt.Sprint(l.Command, " ", l.Words, " ", l.Flags)
		if l.Plain {
			got += " plain"
		}
		if err != nil {
			got = "error " + err.Error()
		}
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", args, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("start --port=1 -vq -- x")
	f.Add("help variables -h")
	f.Fuzz(func(t *testing.T, args string) {
		l, err := Parse(strings.Split(args, " "))
		if c, known := find(l.Command); err == nil && (!known || len(l.Words) < c.Min ||
			c.Max >= 0 && len(l.Words) > c.Max) {
			t.Errorf("%q: got %+v", args, l)
		} else if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: got the error %q", args, err)
		}
	})
}

// words takes a line of a shell apart: at spaces, but not inside single quotes.
func words(line string) (all []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

// TestTable holds what the table promises: names that exist, examples that can be typed.
func TestTable(t *testing.T) {
	taken, kinds := map[string]string{}, map[string]Flag{}
	for _, f := range common() {
		v := variable(f.Variable)
		if f.Variable != "" && v.Flag != f.Name || f.Variable == "" && f.Help == "" {
			t.Errorf("--%s is short for %q, which has the flag %q", f.Name, f.Variable, v.Flag)
		}
		kinds[f.Name] = f
	}
	for _, v := range config.Variables() {
		if v.Flag != "" && kinds[v.Flag].Variable != v.Name {
			t.Errorf("no common flag is called --%s", v.Flag)
		}
	}
	for _, c := range Table() {
		for _, name := range append([]string{c.Name}, c.Also...) {
			if taken[name] != "" {
				t.Errorf("%s and %s are both called %s", c.Name, taken[name], name)
			}
			taken[name] = c.Name
		}
		if !slices.Contains(groups(), c.Group) {
			t.Errorf("%s: help does not show the group %q", c.Name, c.Group)
		}
		if (c.Args == "") != (c.Max == 0) || (c.Takes == "") != (c.Max == 0) {
			t.Errorf("%s takes %d arguments, called %q and %q", c.Name, c.Max, c.Args, c.Takes)
		}
		for _, f := range c.Flags {
			if one, known := kinds[f.Name]; known && (one.Value != f.Value || one.Many != f.Many ||
				one.Variable != "") {
				t.Errorf("%s: another command knows another --%s", c.Name, f.Name)
			}
			kinds[f.Name] = f
		}
		for _, name := range c.Shared {
			if !slices.ContainsFunc(common(), func(f Flag) bool { return f.Name == name }) {
				t.Errorf("%s: there is no common flag --%s", c.Name, name)
			}
		}
		for _, name := range c.Variables {
			if variable(name).Name == "" {
				t.Errorf("%s: there is no variable %s", c.Name, name)
			}
		}
		if len(c.Examples) < 1 || c.Help == "" {
			t.Errorf("%s has no examples or no help", c.Name)
		}
		for _, e := range c.Examples {
			typed, _, _ := strings.Cut(e.Line, " |")
			typed, _, _ = strings.Cut(typed, " >")
			typed, _, _ = strings.Cut(typed, " <")
			args := words(typed)
			if l, err := Parse(args[1:]); args[0] != "reverb" || err != nil ||
				l.Command != c.Name || e.Help == "" {
				t.Errorf("%s: the example %s gives %+v, %v", c.Name, e.Line, l, err)
			}
		}
	}
}
