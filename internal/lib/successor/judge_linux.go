package successor

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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
	folder, todo, links := "/", strings.Split(w.path, "/"), 0
	if todo[0] != "" {
		return "", nil, refusal(w.path, "is not an absolute path", "start the program by one")
	}
	for len(todo) > 0 {
		name := todo[0]
		if todo = todo[1:]; name == "" || name == "." {
			continue
		}
		here := filepath.Join(folder, name)
		if name == ".." {
			folder = here
			continue
		}
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
				return "", nil, refusal("the link "+here, "cannot be followed",
					"let "+w.path+" lead to the new version")
			}
			if strings.HasPrefix(target, "/") {
				folder = "/"
			}
			todo = append(strings.Split(target, "/"), todo...)
		case found.IsDir():
			folder = here
		case len(todo) > 0:
			return "", nil, refusal(here, "is not a folder, so "+w.path+" leads nowhere",
				"put the new version there")
		default:
			return here, found, nil
		}
	}
	return "", nil, refusal(w.path, "is a folder", "put the new version there, as a file")
}

// missing says what is wrong if something on the way cannot be looked at.
func (w way) missing(here string, err error) error {
	why := "is not there"
	if err, _ := err.(*fs.PathError); err.Err != syscall.ENOENT {
		why = "cannot be looked at (" + err.Err.Error() + ")"
	}
	if here != w.path {
		why += ", and " + w.path + " leads there"
	}
	return refusal(here, why, "put the new version at "+w.path)
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
	switch mode := in.Mode(); {
	case mode&othersWrite == 0:
	case mode&fs.ModeSticky == 0:
		return refusal("other users may write to the folder "+folder, octal(mode)+
			" and so replace "+entry, "chmod go-w "+folder)
	case !is.IsDir():
		return refusal("other users may put files into the folder "+folder+",",
			"which holds "+entry,
			"move the program to a folder where only root and the user of this server write")
	}
	return w.owned(entry, is)
}

// octal is (mode 0755).
func octal(mode fs.FileMode) string {
	return "(mode 0" + strconv.FormatUint(uint64(mode.Perm()), 8) + ")"
}

// owned returns an error unless the owner is root or this user.
func (w way) owned(name string, is fs.FileInfo) error {
	owner := int(is.Sys().(*syscall.Stat_t).Uid)
	if owner == 0 || owner == w.user {
		return nil
	}
	change, who := "chown root ", "root"
	if is.Mode()&fs.ModeSymlink != 0 {
		change = "chown -h root "
	}
	if w.user != 0 {
		who = "root or the user of this server (uid " + strconv.Itoa(w.user) + ")"
	}
	return refusal(name, "belongs to another user (uid "+strconv.Itoa(owner)+
		"), but must belong to "+who, change+name)
}

// unreadable says why the program cannot be opened.
func (w way) unreadable(real string, err error) error {
	switch {
	case errors.Is(err, plainfile.ErrNotRegular):
		return refusal(real, "is not a regular file", "put the new version there")
	case errors.Is(err, syscall.EACCES):
		return refusal(real, "may not be read by the user of this server (uid "+
			strconv.Itoa(w.user)+")", "chmod a+r "+real)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return noDescriptor(real)
	}
	return refusal(real, "cannot be read ("+err.Error()+")", "put the new version there once more")
}

// judge judges the open file. seen is what follow has found under its name. A script is refused:
// Linux would give its interpreter a name that leads to a closed descriptor.
func (w way) judge(f *os.File, seen fs.FileInfo) error {
	name := f.Name()
	is, err := f.Stat()
	head := make([]byte, 4)
	if err == nil && is.Size() > 0 {
		_, err = f.ReadAt(head, 0)
	}
	if err != nil && err != io.EOF {
		return w.unreadable(name, err)
	}
	if err := w.owned(name, is); err != nil {
		return err
	}
	switch mode := is.Mode(); {
	case !os.SameFile(is, seen):
		return refusal(name, "was replaced at this moment", "try again")
	case mode&othersWrite != 0:
		return refusal("other users may write to "+name, octal(mode), "chmod go-w "+name)
	case mode&0o111 == 0:
		return refusal(name, "is not executable "+octal(mode), "chmod a+x "+name)
	case is.Size() == 0:
		return refusal(name, "is empty", "put the new version there once more")
	case string(head[:2]) == "#!":
		return refusal(name, "is a script, and a program of its own is needed",
			"put the program that it starts there")
	case string(head) != "\x7fELF":
		return refusal(name, "is not a program for Linux (it does not begin with ELF)",
			"put the new version there")
	}
	return nil
}
