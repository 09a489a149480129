package successor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"reverb/internal/lib/plainfile"
)

const (
	// maxLinks bounds the links on the way to a program, as Linux does (path_resolution(7)).
	// Larger: a circle of links is followed for longer. Smaller: a path that Linux accepts is
	// refused.
	maxLinks = 40
	// othersWrite are the permissions of the group and of everybody to write.
	othersWrite = 0o022
)

// Open opens the program at path, an absolute path, and judges it. It must be a regular file, an
// ELF file that may be read and executed. Only root and this user may decide what is in it. So it,
// and every folder and every link on the way, must belong to one of them, and neither the file nor
// a folder may be writable by others. A folder that is sticky, as /tmp is, may be writable when it
// holds the next folder of the path: there only the owner of an entry can replace it. It may hold
// neither the program nor a link: while an update has removed the old one, others could put another
// one there.
//
// The error is a sentence for the operator: what is wrong, with what, and what to do.
func Open(path string) (*Program, error) {
	w := way{path: path, user: os.Geteuid()}
	real, seen, err := w.follow()
	if err != nil {
		return nil, err
	}
	f, err := plainfile.Open(real)
	if err != nil {
		return nil, w.unreadable(real, err)
	}
	if err := w.judge(f, seen); err != nil {
		f.Close()
		return nil, err
	}
	return &Program{path, f}, nil
}

// way is the way to a program.
type way struct {
	path string
	user int // who may own what is on the way, beside root
}

// follow goes from folder to folder, as the kernel does, and judges each folder and link. real is
// the path without links.
func (w way) follow() (real string, found fs.FileInfo, err error) {
	if !filepath.IsAbs(w.path) {
		return "", nil, fmt.Errorf("the path of the program, %q, is not absolute", w.path)
	}
	folder, todo, links := "/", split(w.path), 0
	for len(todo) > 0 {
		name := todo[0]
		if todo = todo[1:]; name == ".." {
			folder = filepath.Dir(folder)
			continue
		}
		here := filepath.Join(folder, name)
		if found, err = os.Lstat(here); err != nil {
			return "", nil, w.missing(here, err)
		}
		if err := w.trust(folder, here, found); err != nil {
			return "", nil, err
		}
		switch {
		case found.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(here)
			if links++; err != nil || links > maxLinks {
				return "", nil, fmt.Errorf("the link %s cannot be followed: let %s lead to the "+
					"new version", here, w.path)
			}
			if filepath.IsAbs(target) {
				folder = "/"
			}
			todo = append(split(target), todo...)
		case found.IsDir():
			folder = here
		case len(todo) > 0:
			return "", nil, fmt.Errorf("%s is not a folder, so %s leads nowhere: put the new "+
				"version there", here, w.path)
		default:
			return here, found, nil
		}
	}
	return "", nil, fmt.Errorf("%s is a folder: put the new version there, as a file", w.path)
}

// split returns the names in a path.
func split(path string) (names []string) {
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// missing says what is wrong if something on the way cannot be looked at.
func (w way) missing(here string, err error) error {
	why, leads := "is not there", ""
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Err != syscall.ENOENT {
		why = "cannot be looked at (" + e.Err.Error() + ")"
	}
	if here != w.path {
		leads = ", and " + w.path + " leads there"
	}
	return fmt.Errorf("%s %s%s: put the new version at %s", here, why, leads, w.path)
}

// trust judges an entry of a folder, and the folder.
func (w way) trust(folder, entry string, is fs.FileInfo) error {
	in, err := os.Lstat(folder)
	if err != nil {
		return w.missing(folder, err)
	}
	if err := w.owned(folder, in); err != nil {
		return err
	}
	if in.Mode().Perm()&othersWrite != 0 {
		if in.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("other users may write to the folder %s (mode %04o) and so replace "+
				"%s: chmod go-w %s", folder, in.Mode().Perm(), entry, folder)
		}
		if !is.IsDir() {
			return fmt.Errorf("other users may put files into the folder %s, which holds %s: "+
				"move the program to a folder where only root and the user of this server write",
				folder, entry)
		}
	}
	return w.owned(entry, is)
}

// owned returns an error unless the owner is root or this user.
func (w way) owned(name string, is fs.FileInfo) error {
	owner := int(is.Sys().(*syscall.Stat_t).Uid)
	if owner == 0 || owner == w.user {
		return nil
	}
	change := "chown"
	if is.Mode()&fs.ModeSymlink != 0 {
		change = "chown -h"
	}
	who := "root"
	if w.user != 0 {
		who = fmt.Sprintf("root or the user of this server (uid %d)", w.user)
	}
	return fmt.Errorf("%s belongs to another user (uid %d), but must belong to %s: %s root %s",
		name, owner, who, change, name)
}

// unreadable says why the program cannot be opened.
func (w way) unreadable(real string, err error) error {
	switch {
	case errors.Is(err, plainfile.ErrNotRegular):
		return fmt.Errorf("%s is not a regular file: put the new version there", real)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the user of this server (uid %d) may not read %s: chmod a+r %s", w.user,
			real, real)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return noDescriptor(real)
	}
	return fmt.Errorf("%s cannot be opened (%w): put the new version there once more", real,
		err)
}

// judge judges the open file. seen is what follow has found under its name.
func (w way) judge(f *os.File, seen fs.FileInfo) error {
	is, err := f.Stat()
	if err != nil {
		return w.unreadable(f.Name(), err)
	}
	if !os.SameFile(is, seen) {
		return fmt.Errorf("%s was replaced at this moment: try again", f.Name())
	}
	if err := w.owned(f.Name(), is); err != nil {
		return err
	}
	switch perm := is.Mode().Perm(); {
	case perm&othersWrite != 0:
		return fmt.Errorf("other users may write to %s (mode %04o): chmod go-w %s", f.Name(), perm,
			f.Name())
	case perm&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %04o): chmod a+x %s", f.Name(), perm,
			f.Name())
	case is.Size() == 0:
		return fmt.Errorf("%s is empty: put the new version there once more", f.Name())
	}
	return judgeFormat(f)
}

// judgeFormat judges the first bytes of a program. A script is refused: Linux gives its interpreter
// a name that leads to a closed descriptor.
func judgeFormat(f *os.File) error {
	head := make([]byte, 4)
	n, err := f.ReadAt(head, 0)
	switch head = head[:n]; {
	case err != nil && err != io.EOF:
		return fmt.Errorf("%s cannot be read (%w): put the new version there once more", f.Name(),
			errors.Unwrap(err))
	case bytes.Equal(head, []byte("\x7fELF")):
		return nil
	case bytes.HasPrefix(head, []byte("#!")):
		return fmt.Errorf("%s is a script, which cannot be executed as the file that was judged: "+
			"put the program itself there", f.Name())
	}
	return fmt.Errorf("%s is not a program for Linux (it does not begin with ELF): put the new "+
		"version there", f.Name())
}
