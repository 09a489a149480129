package commands

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"reverb/internal/config"
	"reverb/internal/lib/terminal"
)

// answer is what Answer prints of a command line. environ may make it wide or colourful.
func answer(t *testing.T, line string, environ ...string) string {
	t.Helper()
	l, err := Parse(strings.Fields(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var out strings.Builder
	if !Answer(&out, environ, &l, "reverb 1.2.3 (go1, os/arch)") {
		t.Fatalf("%s is not answered", line)
	}
	return out.String()
}

// helpOf is help on a topic, as a terminal of some width shows it.
func helpOf(width int, topic ...string) string {
	p := page{width: width}
	p.help(topic)
	return p.text.String()
}

func TestVersion(t *testing.T) {
	for _, line := range []string{"version", "-v", "-V", "--version", "start -V",
		"listen a --version"} {
		if got := answer(t, line); got != "reverb 1.2.3 (go1, os/arch)\n" {
			t.Errorf("%s: got %q", line, got)
		}
	}
	l, _ := Parse([]string{"start"})
	if Answer(&strings.Builder{}, nil, &l, "") {
		t.Error("start is answered")
	}
}

// Every topic of help says what it must, in lines that fit.
func TestHelp(t *testing.T) {
	for _, width := range []int{40, 80, 140} {
		for _, topic := range append([]string{""}, topics()...) {
			text := helpOf(width, strings.Fields(topic)...)
			for line := range strings.Lines(text) {
				n, words := utf8.RuneCountInString(line)-1, len(strings.Fields(line))
				example := strings.HasPrefix(line, "  reverb ") ||
					strings.HasPrefix(line, "Usage: ")
				if n >= width && words > 2 && !example ||
					strings.TrimRight(line, " \n")+"\n" != line {
					t.Errorf("help %s at %d: the line %q has %d columns", topic, width, line, n)
				}
			}
			if strings.Contains(text, "\x1b") || strings.Contains(text, "\n\n\n") ||
				strings.HasPrefix(text, "\n") {
				t.Errorf("help %s at %d:\n%s", topic, width, text)
			}
		}
	}
	all, every := helpOf(80), helpOf(80, "variables")
	for _, c := range Table() {
		if !strings.Contains(all, "\n  "+c.synopsis()) {
			t.Errorf("help lacks %s", c.Name)
		}
		text := helpOf(80, c.Name)
		for _, want := range []string{"Usage: reverb " + c.synopsis(), c.Examples[0].Line,
			"\n  0  ", "\n  1  ", "\n  2  ", "-h, --help"} {
			if !strings.Contains(text, want) {
				t.Errorf("help %s lacks %q", c.Name, want)
			}
		}
		for _, f := range c.flags() {
			if !strings.Contains(text, "--"+f.Name) || f.Help == "" {
				t.Errorf("help %s lacks --%s", c.Name, f.Name)
			}
		}
		if got := answer(t, c.Name+" --help"); c.Name != "help" && got != text {
			t.Errorf("%s --help is not help %s", c.Name, c.Name)
		}
	}
	for _, v := range config.Variables() {
		if !strings.Contains(every, "\n  "+v.Name) {
			t.Errorf("help variables lacks %s", v.Name)
		}
	}
	for _, g := range config.Groups() {
		if !strings.Contains(every, "\n\n"+g+"\n") {
			t.Errorf("help variables lacks the title %s", g)
		}
	}
}

func TestHelpVariable(t *testing.T) {
	for name, want := range map[string]string{
		"REVERB_APP_SECRET": "REVERB_APP_SECRET: the app's secret\n\n  about    Apps\n" +
			"  file     REVERB_APP_SECRET_FILE names a file that holds it\n" +
			"  changes  at SIGHUP, without a restart\n",
		"REVERB_SERVER_PORT": "REVERB_SERVER_PORT: port to listen on; 0 takes any that is free\n" +
			"\n  about    Listening\n  default  8080\n  flag     --port\n" +
			"  changes  at the next start\n",
	} {
		if got := answer(t, "help "+name); got != want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// Titles are bold where there are colours, and the width is that of the terminal.
func TestHelpLook(t *testing.T) {
	got := answer(t, "help", "CLICOLOR_FORCE=1")
	if !strings.Contains(got, "\n\x1b[1mServing\x1b[0m\n") {
		t.Errorf("no bold title in\n%s", got)
	}
	for _, env := range [][]string{nil, {"CLICOLOR_FORCE=1", "NO_COLOR=1"}} {
		if got := answer(t, "help", env...); strings.Contains(got, "\x1b") {
			t.Errorf("%q: colours in\n%q", env, got)
		}
	}
	if got := answer(t, "--help --no-ansi", "CLICOLOR_FORCE=1"); strings.Contains(got, "\x1b") {
		t.Errorf("--no-ansi: colours in\n%q", got)
	}
	l := Line{}
	no := func(string) string { return "" }
	if got := l.look(&strings.Builder{}, no); got != (terminal.Look{}) {
		t.Errorf("got %+v", got)
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, []string{""}}, {"a b c", 3, []string{"a b", "c"}},
		{"  a \n b ", 9, []string{"a b"}},
		{"ää öö", 5, []string{"ää öö"}}, {"abcdef g", 3, []string{"abcdef", "g"}},
	} {
		if got := wrap(tt.text, tt.width); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	p := page{width: 40}
	p.rows([][2]string{{"a", "one two three four five six seven eight nine"},
		{strings.Repeat("b", 17), "two"}, {"c", ""}})
	want := fmt.Sprint("  a  one two three four five six seven\n     eight nine\n  ",
		strings.Repeat("b", 17), "\n     two\n  c\n")
	if got := p.text.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A command that looks for a server does not say that it listens.
func TestHelpHost(t *testing.T) {
	for name, want := range map[string]string{"start": "address to listen on;",
		"check": "address to listen on;", "kick": "the address that the server listens on;",
		"health": "the address that the server listens on;"} {
		c, _ := find(name)
		for _, f := range c.flags() {
			if f.Name == "host" && !strings.HasPrefix(f.Help, want) {
				t.Errorf("%s: --host is %q, want %q", name, f.Help, want)
			}
		}
	}
}
