// Package commands is the text between the program and a person: the command line, help in every
// form, the greeting of a server on a terminal, and the lines that listen prints.
//
// Two tables drive it: Table, with the commands, and the table of variables in package config.
// Parsing, "did you mean", help, the completion of three shells and the page of the manual derive
// from them. Parse takes a command line apart and says what is wrong with it. Answer runs the
// commands that need no configuration. The program runs the other commands.
//
// The package opens no socket and reads no file except the one that is given to Data. It writes to
// the writers that it is given; terminal.Look decides about width and colours. Text from a server
// or from a file is made fit for a terminal before it is written.
//
// Files:
//
//	commands.go    what a command and a flag are
//	table.go       the table of commands
//	args.go        the command line, and what is wrong with it
//	help.go        Answer; help and its layout
//	completion.go  scripts for shells
//	man.go         the page of the manual
//	env.go         the lines for .env; the text of a start without an app
//	greeting.go    what start prints on a terminal, or logs, once it serves
//	listening.go   what listen prints
//	data.go        the data of trigger
package commands

import (
	"slices"

	"reverb/internal/config"
)

// Command is a row of the table of commands.
type Command struct {
	Name  string
	Group string   // the title above it in help, one of groups
	Args  string   // the arguments, as help shows them: CHANNEL...
	Help  string   // its purpose, in a line
	About []string // paragraphs of reverb help NAME

	Takes    string   // the arguments in words, for an error; empty: it takes no arguments
	Min, Max int      // the number of arguments; Max -1: no limit
	Instead  string   // a flag of its own that takes the place of the arguments; empty: none
	Choices  []string // the values that the argument may have; nil: any
	Also     []string // names of other programs for it; they are suggested, not accepted

	Flags     []Flag   // its own flags
	Shared    []string // the common flags that matter to it
	Artisan   bool     // it replaces a command of artisan, and help shows artisan's flags
	Variables []string // the variables that matter most to it

	Examples []Example // at least one; an error shows the first
	Exits    [3]string // the meanings of the exit codes 0, 1 and 2; empty: the usual one
}

// Flag is one flag of a command line.
type Flag struct {
	Name     string // without dashes
	Value    string // the name of its value in help, such as PORT; empty: it takes no value
	Help     string // its purpose; empty: that of the variable
	Many     bool   // it may be given several times; of another flag the last value counts
	Variable string // the variable that it sets; empty: it sets no variable
}

// Example is a line to type, and its purpose.
type Example struct{ Line, Help string }

// The usual meanings of the exit codes.
const (
	exitFine  = "it worked"
	exitFail  = "something went wrong while it ran"
	exitUsage = "the command line or the configuration is wrong"
)

// exits has the meanings of the exit codes.
func (c *Command) exits() [3]string {
	all := c.Exits
	for i, usual := range []string{exitFine, exitFail, exitUsage} {
		if all[i] == "" {
			all[i] = usual
		}
	}
	return all
}

// synopsis is the name with the arguments.
func (c *Command) synopsis() string {
	if c.Args == "" {
		return c.Name
	}
	return c.Name + " " + c.Args
}

// find finds a command by its name.
func find(name string) (Command, bool) {
	all := Table()
	if i := slices.IndexFunc(all, func(c Command) bool { return c.Name == name }); i >= 0 {
		return all[i], true
	}
	return Command{}, false
}

// names has the names of all commands, in the order of the table.
func names() (all []string) {
	for _, c := range Table() {
		all = append(all, c.Name)
	}
	return all
}

// common has the flags that every command accepts.
func common() []Flag {
	return []Flag{
		{Name: "host", Value: "ADDRESS", Variable: "REVERB_SERVER_HOST"},
		{Name: "port", Value: "PORT", Variable: "REVERB_SERVER_PORT"},
		{Name: "path", Value: "PATH", Variable: "REVERB_SERVER_PATH"},
		{Name: "hostname", Value: "NAME", Variable: "REVERB_HOST"},
		{Name: "debug", Variable: "REVERB_DEBUG"},
		{Name: "env-file", Value: "FILE", Variable: "REVERB_ENV_FILE"},
		{Name: "env", Value: "NAME", Help: "read .env.NAME instead of .env if there is such a " +
			"file, as APP_ENV in the environment does"},
		{Name: "dev", Help: "the app of start --dev: a fresh one on 127.0.0.1, for trying " +
			"things out"},
	}
}

// flags has the flags that help shows for a command: its own, then the common ones.
func (c *Command) flags() []Flag {
	all := slices.Clone(c.Flags)
	for _, f := range common() {
		if !slices.Contains(c.Shared, f.Name) {
			continue
		}
		if f.Help == "" {
			f.Help = variable(f.Variable).Help + " (" + f.Variable + ")"
		}
		all = append(all, f)
	}
	return all
}

// variable finds a row of the table of variables. If there is no such row, the result has no name.
func variable(name string) config.Variable {
	for _, v := range config.Variables() {
		if v.Name == name {
			return v
		}
	}
	return config.Variable{}
}
