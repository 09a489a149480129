package successor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a user without any right, who need not exist.
const stranger = 12002

const elf = "\x7fELF, more or less"

// place is a folder of a test, with a file that is accepted.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) place {
	t.Helper()
	p := place{t, t.TempDir()}
	p.file("reverb", elf, 0o755)
	return p
}

func (p place) at(name string) string { return filepath.Join(p.dir, name) }

func (p place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p place) file(name, text string, mode fs.FileMode) {
	p.t.Helper()
	p.must(os.WriteFile(p.at(name), []byte(text), 0o600))
	p.must(os.Chmod(p.at(name), mode))
}

func (p place) folder(name string, mode fs.FileMode) {
	p.t.Helper()
	p.must(os.MkdirAll(p.at(name), 0o755))
	p.must(os.Chmod(p.at(name), mode))
}

// give gives a file to another user, which needs root.
func (p place) give(name string) {
	p.t.Helper()
	if os.Geteuid() != 0 {
		p.t.Skip("needs root, for two users")
	}
	p.must(os.Lchown(p.at(name), stranger, stranger))
}

// TestOpenRefuses lists what is refused. An error says what is wrong, and what to do after the last
// colon.
func TestOpenRefuses(t *testing.T) {
	sticky := fs.ModeSticky | 0o777
	for name, c := range map[string]struct {
		make func(p place) (path string)
		want string // DIR is the folder
	}{
		"missing": {func(p place) string { return p.at("none") },
			"DIR/none is not there: put the new version at DIR/none"},
		"missing folder": {func(p place) string { return p.at("none/reverb") },
			"DIR/none is not there, and DIR/none/reverb leads there: " +
				"put the new version at DIR/none/reverb"},
		"link to nothing": {func(p place) string {
			p.must(os.Symlink("none", p.at("link")))
			return p.at("link")
		}, "DIR/none is not there, and DIR/link leads there: put the new version at DIR/link"},
		"links in a circle": {func(p place) string {
			p.must(os.Symlink("link", p.at("link")))
			return p.at("link")
		}, "the link DIR/link cannot be followed: let DIR/link lead to the new version"},
		"folder": {func(p place) string { return p.dir },
			"DIR is a folder: put the new version there, as a file"},
		"below a file": {func(p place) string { return p.at("reverb/reverb") },
			"DIR/reverb is not a folder, so DIR/reverb/reverb leads nowhere: " +
				"put the new version there"},
		"pipe": {func(p place) string {
			p.must(unix.Mkfifo(p.at("pipe"), 0o755))
			return p.at("pipe")
		}, "DIR/pipe is not a regular file: put the new version there"},
		"empty": {func(p place) string {
			p.file("reverb", "", 0o755)
			return p.at("reverb")
		}, "DIR/reverb is empty: put the new version there once more"},
		"not executable": {func(p place) string {
			p.file("reverb", elf, 0o644)
			return p.at("reverb")
		}, "DIR/reverb is not executable (mode 0644): chmod a+x DIR/reverb"},
		"script": {func(p place) string {
			p.file("reverb", "#!/bin/sh\nexec reverb\n", 0o755)
			return p.at("reverb")
		}, "DIR/reverb is a script, and a program of its own is needed: " +
			"put the program that it starts there"},
		"text": {func(p place) string {
			p.file("reverb", "EL", 0o755)
			return p.at("reverb")
		}, "DIR/reverb is not a program for Linux (it does not begin with ELF): " +
			"put the new version there"},
		"group may write": {func(p place) string {
			p.file("reverb", elf, 0o775)
			return p.at("reverb")
		}, "other users may write to DIR/reverb (mode 0775): chmod go-w DIR/reverb"},
		"everybody may write": {func(p place) string {
			p.file("reverb", elf, 0o757)
			return p.at("reverb")
		}, "other users may write to DIR/reverb (mode 0757): chmod go-w DIR/reverb"},
		"folder of everybody": {func(p place) string {
			p.folder("", 0o757)
			return p.at("reverb")
		}, "other users may write to the folder DIR (mode 0757) and so replace DIR/reverb: " +
			"chmod go-w DIR"},
		"folder of a group, above": {func(p place) string {
			p.folder("up/down", 0o755)
			p.file("up/down/reverb", elf, 0o755)
			p.folder("up", 0o775)
			return p.at("up/down/reverb")
		}, "other users may write to the folder DIR/up (mode 0775) and so replace DIR/up/down: " +
			"chmod go-w DIR/up"},
		"sticky folder": {func(p place) string {
			p.folder("", sticky)
			return p.at("reverb")
		}, "other users may put files into the folder DIR, which holds DIR/reverb: move the " +
			"program to a folder where only root and the user of this server write"},
		"link in a sticky folder": {func(p place) string {
			p.folder("tmp", sticky)
			p.must(os.Symlink(p.at("reverb"), p.at("tmp/link")))
			return p.at("tmp/link")
		}, "other users may put files into the folder DIR/tmp, which holds DIR/tmp/link: move " +
			"the program to a folder where only root and the user of this server write"},
		"second link in an open folder": {func(p place) string {
			p.folder("open", 0o777)
			p.must(os.Symlink("../reverb", p.at("open/link")))
			p.must(os.Symlink("open/link", p.at("link")))
			return p.at("link")
		}, "other users may write to the folder DIR/open (mode 0777) and so replace " +
			"DIR/open/link: chmod go-w DIR/open"},
		"file of a stranger": {func(p place) string {
			p.give("reverb")
			return p.at("reverb")
		}, "DIR/reverb belongs to another user (uid 12002), but must belong to root: " +
			"chown root DIR/reverb"},
		"link of a stranger": {func(p place) string {
			p.must(os.Symlink("reverb", p.at("link")))
			p.give("link")
			return p.at("link")
		}, "DIR/link belongs to another user (uid 12002), but must belong to root: " +
			"chown -h root DIR/link"},
		"folder of a stranger": {func(p place) string {
			p.give("")
			return p.at("reverb")
		}, "DIR belongs to another user (uid 12002), but must belong to root: chown root DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			path := c.make(p)
			prog, err := Open(path)
			if err == nil {
				prog.Close()
				t.Fatalf("%s is accepted", path)
			}
			if got := strings.ReplaceAll(err.Error(), p.dir, "DIR"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if _, err := Open("reverb"); err == nil {
		t.Error("a relative path is accepted")
	}
}

// TestOpenAccepts lists ways to a program that are accepted.
func TestOpenAccepts(t *testing.T) {
	for name, c := range map[string]func(p place) (path string){
		"file": func(p place) string { return p.at("reverb") },
		"links": func(p place) string {
			p.folder("releases/7", 0o755)
			p.file("releases/7/reverb", elf, 0o555)
			p.must(os.Symlink("releases/7", p.at("current")))
			p.must(os.Symlink(p.dir+"/current/../7/reverb", p.at("link")))
			return p.at("link")
		},
		"folder of ours in a sticky one": func(p place) string {
			p.folder("tmp/ours", 0o755)
			p.file("tmp/ours/reverb", elf, 0o755)
			p.folder("tmp", fs.ModeSticky|0o777)
			return p.at("tmp/./ours//reverb")
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := c(newPlace(t))
			p, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if p.Path != path {
				t.Errorf("got the path %s", p.Path)
			}
			p.Close()
		})
	}
}

// TestOpenOfAUser lets a process that is not of root open files: its own, those of root, those of
// another user, and one that it cannot read.
func TestOpenOfAUser(t *testing.T) {
	p := newPlace(t)
	p.give("reverb")
	p.must(os.Chmod(filepath.Dir(p.dir), 0o755))
	p.must(os.Chmod(p.dir, 0o755))
	p.file("roots", elf, 0o755)
	p.file("secret", elf, 0o711)
	p.file("others", elf, 0o755)
	p.must(os.Chown(p.at("others"), stranger+1, stranger+1))
	out := inHelper(t, "open", asStranger, p.at("reverb"), p.at("roots"), p.at("secret"),
		p.at("others"))
	want := fmt.Sprintf("<nil>\n<nil>\n%s may not be read by the user of this server (uid "+
		"12002): chmod a+r %[1]s\n%s belongs to another user (uid 12003), but must belong to "+
		"root or the user of this server (uid 12002): chown root %[2]s\n", p.at("secret"),
		p.at("others"))
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// A file that is replaced while it is being opened is not taken for the one that was judged.
func TestReplacedWhileOpened(t *testing.T) {
	p := newPlace(t)
	p.file("other", elf, 0o755)
	w := way{p.at("reverb"), os.Geteuid()}
	_, seen, err := w.follow()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(p.at("other"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := w.judge(f, seen); err == nil || !strings.Contains(err.Error(), "at this moment") {
		t.Errorf("got %v", err)
	}
}

// TestFind looks for the program from within it, as a process that was called in several ways.
func TestFind(t *testing.T) {
	p := newPlace(t)
	p.folder("bin", 0o755)
	p.copyProgram("bin/program")
	p.must(os.Symlink("program", p.at("bin/called")))
	for name, c := range map[string]struct{ arg0, want string }{
		"absolute":     {p.at("bin/program"), p.at("bin/program")},
		"link":         {p.at("bin/called"), p.at("bin/called")},
		"relative":     {"bin/program", p.at("bin/program")},
		"on PATH":      {"called", p.at("bin/called")},
		"another name": {"-reverb", p.at("bin/program")},
		"another file": {"/bin/sh", p.at("bin/program")},
		"none":         {"", p.at("bin/program")},
	} {
		h := p.helper("find")
		h.Args = []string{c.arg0}
		h.Path = p.at("bin/program")
		h.Dir = p.dir
		h.Env = append(h.Env, "PATH="+p.at("bin"), "PWD="+p.dir)
		out, err := h.Output()
		if want := c.want + "\n"; err != nil || string(out) != want {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, want)
		}
	}
	// The file is replaced before the program looks: the path stays known, though not the link.
	h := p.helper("find later")
	h.Path, h.Args = p.at("bin/called"), []string{p.at("bin/called")}
	in, err := h.StdinPipe()
	p.must(err)
	var out strings.Builder
	h.Stdout = &out
	p.must(h.Start())
	p.file("bin/new", elf, 0o755)
	p.must(os.Rename(p.at("bin/new"), p.at("bin/program")))
	in.Close()
	if err := h.Wait(); err != nil || out.String() != p.at("bin/program")+"\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// Errors of the system become sentences.
func TestErrors(t *testing.T) {
	w, p := way{"/bin/reverb", 7}, &Program{Path: "/bin/reverb"}
	at := func(err error) error { return &fs.PathError{Op: "open", Path: "/bin/reverb", Err: err} }
	const none = "/bin/reverb cannot be started, as no descriptor is left: raise the limit of " +
		"open files, or try again with fewer connections"
	for _, c := range []struct {
		err  error
		want string
	}{
		{w.missing("/bin", at(syscall.EACCES)), "/bin cannot be looked at (permission denied), " +
			"and /bin/reverb leads there: put the new version at /bin/reverb"},
		{w.unreadable("/bin/reverb", at(syscall.EMFILE)), none},
		{w.unreadable("/bin/reverb", at(syscall.EIO)), "/bin/reverb cannot be read (open " +
			"/bin/reverb: input/output error): put the new version there once more"},
		{p.NotStarted(syscall.EACCES), "/bin/reverb cannot be started (permission denied): its " +
			"mode allows it, but its file system may be mounted noexec, or a security module " +
			"may refuse"},
		{p.NotStarted(syscall.ENOENT), "/bin/reverb needs a loader that is not there: take the " +
			"static program"},
		{p.NotStarted(syscall.EMFILE), none},
		{p.NotStarted(syscall.ENOMEM), "/bin/reverb cannot be started (cannot allocate memory): " +
			"memory or processes are used up; raise the limit"},
		{p.NotStarted(syscall.EIO), "/bin/reverb cannot be started (input/output error): put " +
			"another version there"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
}
