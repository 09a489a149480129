package commands

import (
	"fmt"
	"strings"

	"reverb/internal/config"
)

// roff escapes text for a formatter of manual pages.
var roff = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`)

// manual collects text in the macros of man(7).
type manual struct{ strings.Builder }

// text adds text in short lines. A line that begins with a point or an apostrophe is a request, so
// text escapes both.
func (m *manual) text(s string) {
	for _, line := range wrap(s, 72) {
		if line = roff.Replace(line); strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		m.WriteString(line + "\n")
	}
}

// request adds a macro with quoted arguments.
func (m *manual) request(name string, args ...string) {
	m.WriteString("." + name)
	for _, a := range args {
		m.WriteString(` "` + strings.ReplaceAll(roff.Replace(a), `"`, `\(dq`) + `"`)
	}
	m.WriteString("\n")
}

// item adds an indented paragraph below its bold name.
func (m *manual) item(name, text string) {
	m.request("TP")
	m.request("B", name)
	m.text(text)
}

// man is the page of the manual, reverb(1). The first two words of build, the program and its
// version, stand at the foot. The page has no date, so that equal builds print equal pages.
func man(build string) string {
	var m manual
	foot := strings.Join(strings.Fields(build)[:min(2, len(strings.Fields(build)))], " ")
	m.request("TH", "REVERB", "1", "", foot, "reverb")
	m.request("SH", "NAME")
	m.text("reverb - a server for the Pusher protocol, in place of php artisan reverb:start")
	m.request("SH", "SYNOPSIS")
	m.request("B", "reverb")
	m.text("[COMMAND] [FLAGS]")
	m.request("SH", "DESCRIPTION")
	m.text("reverb serves the Pusher protocol. Laravel, Laravel Echo, pusher-js and every Pusher " +
		"server library work with it unchanged. In the folder of a Laravel application it reads " +
		"what it needs from the application's configuration and .env.")
	m.request("SH", "COMMANDS")
	for _, c := range Table() {
		m.command(&c)
	}
	m.request("SH", "FLAGS")
	m.text("Flags may stand anywhere; --name value and --name=value mean the same, and after -- " +
		"nothing is a flag.")
	start, _ := find("start") // start has all common flags
	for _, r := range append(flagRows(start.flags()), everywhere()...) {
		m.item(r[0], r[1])
	}
	m.text("Of artisan's:")
	for _, r := range artisan() {
		m.item(r[0], r[1])
	}
	m.request("SH", "ENVIRONMENT")
	m.text(howVariables)
	for _, g := range config.Groups() {
		m.request("SS", g)
		for _, v := range config.Variables() {
			if v.Group == g {
				r := variableRow(v)
				m.item(r[0], r[1])
			}
		}
	}
	m.request("SH", "EXIT STATUS")
	for code, text := range (&Command{}).exits() {
		m.item(fmt.Sprint(code), text)
	}
	m.request("SH", "EXAMPLES")
	for _, c := range Table() {
		for _, e := range c.Examples {
			m.item(e.Line, e.Help)
		}
	}
	return m.String()
}

// command adds the text about a command, without its examples.
func (m *manual) command(c *Command) {
	m.request("SS", "reverb "+c.synopsis())
	m.text(strings.ToUpper(c.Help[:1]) + c.Help[1:] + ".")
	for _, about := range c.About {
		m.request("PP")
		m.text(about)
	}
	for _, r := range flagRows(c.Flags) {
		m.item(r[0], r[1])
	}
	if c.Exits == [3]string{} {
		return
	}
	m.request("PP")
	exits := c.exits()
	m.text(fmt.Sprintf("Exit codes: 0, %s; 1, %s; 2, %s.", exits[0], exits[1], exits[2]))
}
