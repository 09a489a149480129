package commands

import (
	"strings"
	"testing"

	"reverb/internal/config"
)

// Every script knows every command, every flag and every topic. What shells make of them
// stands in test/.
func TestCompletion(t *testing.T) {
	for _, shell := range shells() {
		script := answer(t, "completion "+shell)
		for _, c := range Table() {
			if !strings.Contains(script, c.Name) {
				t.Errorf("%s does not know %s", shell, c.Name)
			}
			for _, f := range c.flags() {
				flag := map[string]string{"bash": "--" + f.Name, "zsh": "--" + f.Name,
					"fish": "-l " + f.Name}[shell]
				if !strings.Contains(script, flag) {
					t.Errorf("%s does not know %s", shell, flag)
				}
			}
		}
		for _, v := range config.Variables() {
			if !strings.Contains(script, v.Name) {
				t.Errorf("%s does not know %s", shell, v.Name)
			}
		}
	}
	if got := zshText.Replace("it's [a: b]"); got != `it'\''s \[a\: b\]` {
		t.Errorf("zsh: got %s", got)
	}
	if got := fishText.Replace(`it's \ `); got != `it\'s \\ ` {
		t.Errorf("fish: got %s", got)
	}
}

// TestManual holds what a formatter of manual pages would take for a request.
func TestManual(t *testing.T) {
	var m manual
	m.text(".env is it's \\ a-b " + strings.Repeat("x", 70) + " .last")
	m.item(`a "b" 'c'`, "text")
	want := `\&.env is it\(aqs \e a\-b` + "\n" + strings.Repeat("x", 70) + "\n" + `\&.last` +
		"\n.TP\n" + `.B "a \(dqb\(dq \(aqc\(aq"` + "\ntext\n"
	if got := m.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	page := answer(t, "man")
	if !strings.HasPrefix(page, `.TH "REVERB" "1" "" "reverb 1.2.3" "reverb"`+"\n") {
		t.Errorf("got %.80s", page)
	}
	for _, c := range Table() {
		if !strings.Contains(page, `.SS "reverb `+roff.Replace(c.synopsis())+`"`) {
			t.Errorf("the page lacks %s", c.Name)
		}
	}
	for _, v := range config.Variables() {
		if !strings.Contains(page, `.B "`+v.Name+`"`) {
			t.Errorf("the page lacks %s", v.Name)
		}
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") &&
			!strings.ContainsAny(line[1:2], "TSBP") {
			t.Errorf("a request that is none: %s", line)
		}
	}
	if strings.Count(man("odd"), "odd") != 1 {
		t.Error("a build of one word is not told once")
	}
}
