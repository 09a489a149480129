package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseArgs(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "start [] map[]",
		"start --host 1.2.3.4 --port=1": "start [] map[host:1.2.3.4 port:1]",
		"--debug":                       "start [] map[debug:true]",
		"trigger a b {} --dev":          "trigger [a b {}] map[dev:true]",
		"start --nope":                  "error there is no flag --nope",
		"start --port":                  "error --port needs a value",
		"start --host --port 80":        "error --host needs a value",
		"-p 80":                         "error there is no flag -p; flags have two dashes",
		"--dev=no":                      "error --dev takes no value",
		"--dev=true --path= --nope":     "error there is no flag --nope",
		"--dev=true --path= a":          "a [] map[dev:true path:]",
		"--":                            "error there is no flag --",
		"--=x":                          "error there is no flag --",
		"--nope=x --version":            "error there is no flag --nope",
		"start --version --nope":        "version [] map[]",
		"-q -h -x":                      "help [] map[]",
		"start -vvv -q":                 "start [] map[verbosity:quiet]",
		"- -nx":                         "- [-nx] map[]",
		"trigger a b -1":                "trigger [a b -1] map[]",
		"trigger a b -15":               "trigger [a b -15] map[]",
		"listen -1 -news":               "listen [-1 -news] map[]",
		"reverb:start --no-interaction": "start [] map[]",
		"reverb:start -n --ansi":        "start [] map[]",
		"start --no-ansi -v":            "start [] map[]",
		"start --verbose -vv":           "start [] map[]",
		"-n":                            "start [] map[]",
		"start -vvv":                    "start [] map[verbosity:verbose=3]",
		"start --verbose=3":             "start [] map[verbosity:verbose=3]",
		"start -q -vvv":                 "start [] map[verbosity:quiet]",
		"start --quiet":                 "start [] map[verbosity:quiet]",
		"start -nq":                     "start [] map[verbosity:quiet]",
		"reverb:restart -q":             "restart [] map[verbosity:quiet]",
		"reverb:stop":                   "reverb:stop [] map[]",
		"start --env=staging":           "start [] map[env:staging]",
		"start --env staging --debug":   "start [] map[debug:true env:staging]",
		"start --env":                   "error --env needs a value",
		"-v":                            "version [] map[]",
		"-V":                            "version [] map[]",
		"--help":                        "help [] map[]",
	} {
		a, err := ParseArgs(strings.Fields(args))
		got := fmt.Sprint(a.Command, " ", a.Words, " ", a.Flags)
		if err != nil {
			got = "error " + err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", args, got, want)
		}
	}
}

// TestVerbosity holds what artisan's -q and -vvv do here.
func TestVerbosity(t *testing.T) {
	for args, want := range map[string]string{
		"start":      "INFO info default",
		"start -q":   "ERROR error --quiet",
		"start -vvv": "DEBUG debug --verbose=3",
	} {
		a, err := ParseArgs(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		c := load(nil, a.Flags)
		s := c.Setting("REVERB_LOG_LEVEL")
		if got := fmt.Sprint(c.Log.Level, " ", s.Value, " ", s.Origin); got != want {
			t.Errorf("%s: got %s, want %s", args, got, want)
		}
	}
}
