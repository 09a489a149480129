package commands

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"reverb/internal/config"
	"reverb/internal/lib/terminal"
)

const (
	usualWidth = 80 // columns of a terminal or a file whose width is not known
	// narrowest is the smallest width that text is wrapped to. A smaller one makes columns of
	// single words; with a larger one narrow terminals break the lines within words.
	narrowest = 40
)

// Answer runs the commands that need no configuration: help, version, completion and man. ok is
// false for any other command. environ is the environment; build names program, version and
// platform.
func Answer(w io.Writer, environ []string, l *Line, build string) (ok bool) {
	look := l.look(w, func(name string) (value string) {
		for _, kv := range environ {
			if rest, found := strings.CutPrefix(kv, name+"="); found {
				value = rest
			}
		}
		return value
	})
	p := page{look: look, width: max(look.Width, narrowest)}
	if look.Width == 0 {
		p.width = usualWidth
	}
	switch l.Command {
	case "version":
		p.line(build)
	case "help":
		p.help(l.Words)
	case "completion":
		p.text.WriteString(completion(l.Words[0]))
	case "man":
		p.text.WriteString(man(build))
	default:
		return false
	}
	io.WriteString(w, p.text.String()) // the reader may be gone; nobody is left to be told
	return true
}

// look is the look of w, without colours if the line has --no-ansi.
func (l *Line) look(w io.Writer, getenv func(string) string) terminal.Look {
	look := terminal.Of(w, getenv)
	if l.Plain {
		look.Color, look.Palette = false, false
	}
	return look
}

// page collects text that is wrapped to a width.
type page struct {
	look  terminal.Look
	width int
	text  strings.Builder
}

// line adds a line without wrapping it. It drops spaces at the end.
func (p *page) line(s string) { p.text.WriteString(strings.TrimRight(s, " ") + "\n") }

// title adds a heading after an empty line.
func (p *page) title(s string) { p.line("\n" + bold(p.look, s)) }

// paragraph adds wrapped text.
func (p *page) paragraph(s string) {
	for _, line := range wrap(s, p.width-1) {
		p.line(line)
	}
}

// rows adds pairs in two columns. A left side that is too long gets a line of its own.
func (p *page) rows(all [][2]string) {
	left := 0
	for _, r := range all {
		if n := utf8.RuneCountInString(r[0]); n <= p.width*2/5 {
			left = max(left, n)
		}
	}
	for _, r := range all {
		head := fmt.Sprintf("  %-*s  ", left, r[0])
		if utf8.RuneCountInString(r[0]) > left {
			p.line("  " + r[0])
			head = strings.Repeat(" ", left+4)
		}
		for _, line := range wrap(r[1], p.width-left-5) {
			p.line(head + line)
			head = strings.Repeat(" ", left+4)
		}
	}
}

// wrap breaks text at spaces into lines of at most width columns. A longer word gets a line of its
// own. Empty text is one empty line.
func wrap(s string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

func bold(look terminal.Look, s string) string {
	if !look.Color {
		return s
	}
	return "\x1b[1m" + s + "\x1b[0m"
}

// help adds help on a topic: a command, a variable, or all variables. Without a topic it adds the
// list of commands.
func (p *page) help(topic []string) {
	if len(topic) == 0 {
		p.helpAll()
		return
	}
	if c, ok := find(topic[0]); ok {
		p.helpCommand(&c)
	} else if topic[0] == overview {
		p.helpVariables()
	} else {
		p.helpVariable(variable(topic[0]))
	}
}

func (p *page) helpAll() {
	p.paragraph("reverb serves the Pusher protocol in place of php artisan reverb:start.")
	p.line("\nUsage: reverb [COMMAND] [FLAGS]")
	for _, g := range groups() {
		p.title(g)
		var rows [][2]string
		for _, c := range Table() {
			if c.Group == g {
				rows = append(rows, [2]string{c.synopsis(), c.Help})
			}
		}
		p.rows(rows)
	}
	p.title("Flags of most commands")
	start, _ := find("start") // start has all common flags
	p.rows(append(flagRows(start.flags()), everywhere()...))
	p.line("")
	p.paragraph("reverb help COMMAND shows its flags, examples and exit codes; " +
		"reverb help variables lists everything that can be set.")
}

// flagRows has the rows of flags in help.
func flagRows(flags []Flag) (rows [][2]string) {
	for _, f := range flags {
		text := f.Help
		if f.Many {
			text += "; may be given several times"
		}
		rows = append(rows, [2]string{strings.TrimSpace("--" + f.Name + " " + f.Value), text})
	}
	return rows
}

func (p *page) helpCommand(c *Command) {
	p.paragraph("reverb " + c.Name + ": " + c.Help)
	p.line("\nUsage: reverb " + strings.TrimSpace(c.synopsis()+" "+c.usageFlags()))
	for _, text := range c.About {
		p.line("")
		p.paragraph(text)
	}
	p.title("Flags")
	rows := flagRows(c.flags())
	if c.Artisan {
		rows = append(rows, artisan()...)
	}
	p.rows(append(rows, everywhere()...))
	if len(c.Variables) > 0 {
		p.title("Variables that matter most")
		p.rows(variableRows(c.Variables))
	}
	p.title("Examples")
	for _, e := range c.Examples {
		p.line("  " + e.Line)
		for _, line := range wrap(e.Help, p.width-7) {
			p.line("      " + line)
		}
	}
	p.title("Exit codes")
	rows = nil
	for code, text := range c.exits() {
		rows = append(rows, [2]string{fmt.Sprint(code), text})
	}
	p.rows(rows)
}

// usageFlags is the word for flags in the usage of a command; empty: it has no flags.
func (c *Command) usageFlags() string {
	if len(c.Flags)+len(c.Shared) == 0 {
		return ""
	}
	return "[FLAGS]"
}

// variableRows has the rows of variables in help.
func variableRows(names []string) (rows [][2]string) {
	for _, name := range names {
		rows = append(rows, variableRow(variable(name)))
	}
	return rows
}

func variableRow(v config.Variable) [2]string {
	text := v.Help
	if v.Default != "" {
		text += " (" + v.Default + ")"
	}
	return [2]string{v.Name, text}
}

// howVariables is the sentence about all variables in help and in the manual.
const howVariables = "Variables are read from the environment and from .env, Laravel's file. " +
	precedence + " A default stands in brackets. Any secret may be given as NAME_FILE, the name " +
	"of a file that holds it."

// precedence says which of several values counts.
const precedence = "Flags count before the environment, the environment before the " +
	"application's configuration (bootstrap/cache/config.php, or else config/reverb.php), that " +
	"before .env, and .env before the defaults. Variables that Laravel's file does not know, " +
	"such as REVERB_ALLOWED_ORIGINS, count in .env before it."

func (p *page) helpVariables() {
	p.paragraph(howVariables)
	for _, g := range config.Groups() {
		p.title(g)
		var rows [][2]string
		for _, v := range config.Variables() {
			if v.Group == g {
				rows = append(rows, variableRow(v))
			}
		}
		p.rows(rows)
	}
	p.line("")
	p.paragraph("reverb check shows what is in force, and where each value stands.")
}

func (p *page) helpVariable(v config.Variable) {
	p.paragraph(v.Name + ": " + v.Help)
	rows := [][2]string{{"about", v.Group}}
	if v.Default != "" {
		rows = append(rows, [2]string{"default", v.Default})
	}
	if v.Flag != "" {
		rows = append(rows, [2]string{"flag", "--" + v.Flag})
	}
	if v.Secret && v.Name != "REVERB_APPS" { // REVERB_APPS_FILE is a variable of its own
		rows = append(rows, [2]string{"file", v.Name + "_FILE names a file that holds it"})
	}
	takes := "at the next start"
	if v.Live {
		takes = "at SIGHUP, without a restart"
	}
	p.line("")
	p.rows(append(rows, [2]string{"changes", takes}))
}
