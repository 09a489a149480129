// Package commands is what a person types and reads: the command line, help in every form,
// the greeting of a server on a terminal, and the lines that listen prints.
//
// One table of commands, Table, and the table of variables of package config drive all of
// it: parsing, "did you mean", help, the completion of three shells and the page of the
// manual. Parse takes a command line apart and judges it; Answer serves the commands that
// need no configuration. What the others do is the program's business: the table does not
// know how a command runs.
//
// The package opens no socket and reads no file but the one that Data is told to read. It
// writes to what it is given, as wide and as colourful as the terminal.Look says. What came
// from a server or from a file is made fit for a terminal before it is written.
package commands

import (
	"slices"

	"reverb/internal/config"
)

// Command is a row of the table of commands.
type Command struct {
	Name  string
	Group string   // under which title help lists it
	Args  string   // what follows the name, as help shows it: CHANNEL...
	Help  string   // what it does, in a line
	About []string // paragraphs of reverb help NAME

	Takes    string   // the arguments in words, for an error; empty: it takes none
	Min, Max int      // how many arguments; Max is -1 where any number will do
	Choices  []string // what the argument may be; nil: anything
	Also     []string // names that others use for it; they are suggested, not taken

	Flags     []Flag   // its own
	Shared    []string // those of the common flags that matter to it
	Artisan   bool     // it takes the place of one of artisan's, whose flags it takes too
	Variables []string // those that matter most to it

	Examples []Example // at least one; an error shows the first
	Exits    [3]string // what the exit codes 0, 1 and 2 mean; empty: what they usually mean
}

// Flag is one flag of a command line.
type Flag struct {
	Name     string // without dashes
	Value    string // what it takes, as help shows it: PORT; empty: nothing
	Help     string // what it does; empty where the variable says it
	Many     bool   // it may be given several times; of any other the last one counts
	Variable string // what the flag is short for; empty: it is no variable's
}

// Example is a line to type, and what it does.
type Example struct{ Line, Help string }

// What the exit codes usually mean.
const (
	exitFine  = "it worked"
	exitFail  = "something went wrong while it ran"
	exitUsage = "the command line or the configuration is wrong"
)

// exits are the exit codes' meanings.
func (c *Command) exits() [3]string {
	all := c.Exits
	for i, usual := range []string{exitFine, exitFail, exitUsage} {
		if all[i] == "" {
			all[i] = usual
		}
	}
	return all
}

// synopsis is the name and what follows it.
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

// names are the names of all commands, in the order of the table.
func names() (all []string) {
	for _, c := range Table() {
		all = append(all, c.Name)
	}
	return all
}

// common are the flags that every command accepts.
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

// flags are the flags that help shows for a command: its own, then the common ones.
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

// variable finds a row of the table of variables; without a name where there is none.
func variable(name string) config.Variable {
	for _, v := range config.Variables() {
		if v.Name == name {
			return v
		}
	}
	return config.Variable{}
}
