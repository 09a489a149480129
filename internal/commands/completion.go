package commands

import (
	"fmt"
	"strings"

	"reverb/internal/config"
)

// shells has the shells that completion knows.
func shells() []string { return []string{"bash", "zsh", "fish"} }

// completion is a script for a shell. The script has the contents of the tables, so that the shell
// does not run the program.
func completion(shell string) string {
	switch shell {
	case "bash":
		return bashCompletion()
	case "zsh":
		return zshCompletion()
	}
	return fishCompletion()
}

// candidates has the values that the first argument of a command may have; nil: any.
func (c *Command) candidates() []string {
	if c.Name != "help" {
		return c.Choices
	}
	all := topics()
	for _, v := range config.Variables() {
		all = append(all, v.Name)
	}
	return all
}

// file says whether a flag takes the name of a file.
func (f *Flag) file() bool { return f.Value == "FILE" }

// bashCases has the parts of the script for bash that come from the table: patterns of the flags
// that take a file and of those that take any value, the cases of those that take one of some
// words, and the cases of the commands.
func bashCases() (files, values, chosen, commands string) {
	seen := map[string]bool{}
	for _, c := range Table() {
		words := c.candidates()
		for _, f := range c.flags() {
			words = append(words, "--"+f.Name)
			if f.Value == "" || seen[f.Name] {
				continue
			}
			switch seen[f.Name] = true; {
			case f.file():
				files += "|--" + f.Name
			case f.Choices != nil:
				chosen += fmt.Sprintf("    --%s)\n        COMPREPLY=($(compgen -W '%s' -- "+
					"\"$cur\"))\n        return ;;\n", f.Name, strings.Join(f.Choices, " "))
			default:
				values += "|--" + f.Name
			}
		}
		commands += fmt.Sprintf("    %s) words='%s' ;;\n", c.Name,
			strings.Join(append(words, "--help"), " "))
	}
	return strings.TrimPrefix(files, "|"), strings.TrimPrefix(values, "|"), chosen, commands
}

// bashCompletion is the script for bash. COMP_WORDBREAKS has =, so that --port=80 is three words
// in COMP_WORDS.
func bashCompletion() string {
	files, values, chosen, cases := bashCases()
	return fmt.Sprintf(`# Completion of reverb for bash, made by: reverb completion bash
_reverb() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= i
    COMPREPLY=()
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = && COMP_CWORD -gt 1 ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case $prev in
    %s)
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$cur"))
        return ;;
%s    %s)
        return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        %s)
            command=${COMP_WORDS[i]}
            break ;;
        esac
    done
    if [[ $command == trigger && ($cur == @* || $prev == @) ]]; then # @ may be a word of its own
        [[ $cur == @ ]] && cur=
        compopt -o filenames
        if [[ $cur == @* ]]; then
            COMPREPLY=($(compgen -f -P @ -- "${cur#@}"))
        else
            COMPREPLY=($(compgen -f -- "$cur"))
        fi
        return
    fi
    case $command in
%s    *) words='%s --help --version' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _reverb reverb
`, files, chosen, values,
		strings.Join(names(), "|"), cases, strings.Join(names(), " "))
}

// zshText escapes text for single quotes of zsh in which [, ] and : have a meaning.
var zshText = strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`)

// zshCompletion is the script for zsh. It works in a folder of fpath, and when it is sourced.
func zshCompletion() string {
	var list, cases strings.Builder
	for _, c := range Table() {
		fmt.Fprintf(&list, "    '%s:%s'\n", c.Name, zshText.Replace(c.Help))
		fmt.Fprintf(&cases, "    %s)\n      _arguments \\\n", c.Name)
		for _, f := range c.flags() {
			many, takes := "", ""
			if f.Many {
				many = "*"
			}
			if f.Value != "" {
				takes = ":" + f.Value + ":"
			}
			name := f.Name
			if f.Value != "" {
				name += "="
			}
			if f.file() {
				takes += "_files"
			} else if f.Choices != nil {
				takes += "(" + strings.Join(f.Choices, " ") + ")"
			}
			fmt.Fprintf(&cases, "        '%s--%s[%s]%s' \\\n", many, name, zshText.Replace(f.Help),
				takes)
		}
		rest := "'*: :'"
		if words := c.candidates(); words != nil {
			rest = fmt.Sprintf("'1: :(%s)'", strings.Join(words, " "))
		}
		fmt.Fprintf(&cases, "        '(-h --help)'{-h,--help}'[print help]' \\\n        %s ;;\n",
			rest)
	}
	return fmt.Sprintf(`#compdef reverb
# Completion of reverb for zsh, made by: reverb completion zsh
_reverb() {
  local curcontext=$curcontext state line
  local -a commands
  commands=(
%s  )
  _arguments -C \
    '(-h --help)'{-h,--help}'[print help]' \
    '(-V --version)'{-V,--version}'[print the version]' \
    '1: :->command' '*:: :->rest'
  case $state in
  command)
    _describe -t commands command commands ;;
  rest)
    case $line[1] in
%s    esac ;;
  esac
}
if [[ $funcstack[1] == _reverb ]]; then
  _reverb "$@"
else
  compdef _reverb reverb
fi
`, list.String(), cases.String())
}

// fishText escapes text for single quotes of fish.
var fishText = strings.NewReplacer(`\`, `\\`, "'", `\'`)

// fishCompletion is the script for fish.
func fishCompletion() string {
	var b strings.Builder
	b.WriteString("# Completion of reverb for fish, made by: reverb completion fish\n" +
		"complete -c reverb -f\n" +
		"complete -c reverb -s h -l help -d 'print help'\n" +
		"complete -c reverb -n __fish_use_subcommand -s V -l version -d 'print the version'\n")
	for _, c := range Table() {
		fmt.Fprintf(&b, "complete -c reverb -n __fish_use_subcommand -a %s -d '%s'\n", c.Name,
			fishText.Replace(c.Help))
	}
	for _, c := range Table() {
		when := "complete -c reverb -n '__fish_seen_subcommand_from " + c.Name + "'"
		if words := c.candidates(); words != nil {
			fmt.Fprintf(&b, "%s -a '%s'\n", when, strings.Join(words, " "))
		}
		for _, f := range c.flags() {
			takes := ""
			if f.file() {
				takes = " -r -F"
			} else if f.Choices != nil {
				takes = " -x -a '" + strings.Join(f.Choices, " ") + "'"
			} else if f.Value != "" {
				takes = " -x"
			}
			fmt.Fprintf(&b, "%s -l %s%s -d '%s'\n", when, f.Name, takes, fishText.Replace(f.Help))
		}
	}
	return b.String()
}
