package recordlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func options() Options {
	return Options{MaxBytes: 64 << 10, MaxRecord: 1000, After: time.After, Changed: func(error) {}}
}

// open opens a folder, and returns what is in it.
func open(t testing.TB, dir string, o Options) (*Log, Found, []string) {
	t.Helper()
	var all []string
	l, found, err := Open(dir, o, func(r []byte) { all = append(all, string(r)) })
	if err != nil {
		t.Fatal(err)
	}
	return l, found, all
}

// newDir makes a folder that can be a log's.
func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "own")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fill makes a folder with these records, and returns the bytes of its file.
func fill(t testing.TB, dir string, records ...string) []byte {
	t.Helper()
	l, _, _ := open(t, dir, options())
	for _, r := range records {
		l.Append([]byte(r))
	}
	l.Close()
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func synced(l *Log) {
	done := make(chan struct{})
	l.Await(done)
	<-done
}

// What was appended is read again, in its order, and goes on there.
func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	l, found, all := open(t, dir, options())
	if found != (Found{}) || all != nil {
		t.Errorf("%+v %q", found, all)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, fileName: 0o600, lockName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	l.Append([]byte("a"))
	l.Append(nil)
	l.Append(make([]byte, 1001))
	buffer := []byte("b")
	l.Append(buffer)
	buffer[0] = 'x'
	synced(l)
	if f := l.Figures(); f.Dropped != 2 || f.Errors != 0 || f.Failing ||
		f.Bytes != int64(len(magic)+2*headerSize+2) {
		t.Errorf("%+v", f)
	}
	l.Close()
	l.Append([]byte("c")) // too late
	synced(l)
	l, found, all = open(t, dir, options())
	if !slices.Equal(all, []string{"a", "b"}) || found != (Found{Records: 2}) {
		t.Errorf("%q %+v", all, found)
	}
	large := strings.Repeat("l", 1000)
	l.Append([]byte(large))
	l.Close()
	l, found, all = open(t, dir, options())
	l.Close()
	if !slices.Equal(all, []string{"a", "b", large}) || found != (Found{Records: 3}) {
		t.Errorf("%q %+v", all, found)
	}
}

// A file that ends anywhere is read as far as it goes, is cut there, and goes on there.
func TestEveryCut(t *testing.T) {
	records := []string{"first", "s", strings.Repeat("third", 7), "last"}
	whole := fill(t, newDir(t), records...)
	ends := []int{len(magic)}
	for _, r := range records {
		ends = append(ends, ends[len(ends)-1]+headerSize+len(r))
	}
	if ends[4] != len(whole) {
		t.Fatalf("the file has %d bytes, want %d", len(whole), ends[4])
	}
	for n := range len(whole) + 1 {
		dir := newDir(t)
		if err := os.WriteFile(filepath.Join(dir, fileName), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		want := 0
		for want < 4 && ends[want+1] <= n {
			want++
		}
		good := ends[want]
		if n < len(magic) {
			good = 0
		}
		l, found, all := open(t, dir, options())
		if !slices.Equal(all, records[:want]) ||
			found != (Found{Records: want, Cut: int64(n - good)}) {
			t.Errorf("cut at %d: %q, %+v", n, all, found)
		}
		l.Append([]byte("new"))
		l.Close()
		l, found, all = open(t, dir, options())
		l.Close()
		if !slices.Equal(all, append(slices.Clone(records[:want]), "new")) || found.Cut != 0 {
			t.Errorf("cut at %d, then: %q, %+v", n, all, found)
		}
	}
}

// A byte that has changed costs its record and what is behind it, and nothing before it.
func TestEveryFlip(t *testing.T) {
	records := []string{"first", "s", strings.Repeat("third", 7), "last"}
	whole := fill(t, newDir(t), records...)
	for i := range whole {
		for bit := range 8 {
			changed := bytes.Clone(whole)
			changed[i] ^= 1 << bit
			var all []string
			o := options()
			good, found := read(bytes.NewReader(changed), int64(len(changed)), &o,
				func(r []byte) { all = append(all, string(r)) })
			want, end := 0, len(magic)
			for end <= i && end+headerSize+len(records[want]) <= i {
				end += headerSize + len(records[want])
				want++
			}
			if i < len(magic) {
				end = 0
			}
			// What is wrong in the last record may be what a loss of power has left.
			damaged := want < 3 || i < end+headerSize
			if good != int64(end) || !slices.Equal(all, records[:want]) || found != (Found{
				Records: want, Cut: int64(len(whole) - end), Damaged: damaged}) {
				t.Errorf("byte %d, bit %d: %q, %+v, good to %d, want %d", i, bit, all, found, good,
					end)
			}
		}
	}
}

// Zeros at the end are what a loss of power leaves where a file has grown; other bytes are damage.
func TestEnds(t *testing.T) {
	whole := fill(t, newDir(t), "a")
	o := options()
	huge := headerOf(make([]byte, 1001))
	for _, c := range []struct {
		end     string
		damaged bool
	}{
		{strings.Repeat("\x00", 5000), false}, {"\x00", false}, {"x", false},
		{strings.Repeat("\x00", 5000) + "x", true}, {strings.Repeat("x", 20), true},
		{string(huge[:]) + strings.Repeat("x", 1001), true},
	} {
		b := append(bytes.Clone(whole), c.end...)
		good, found := read(bytes.NewReader(b), int64(len(b)), &o, func([]byte) {})
		if good != int64(len(whole)) || found != (Found{1, int64(len(c.end)), c.damaged}) {
			t.Errorf("%.20q: %d, %+v", c.end, good, found)
		}
	}
	if _, found := read(bytes.NewReader(nil), o.MaxBytes+1, &o, nil); !found.Damaged {
		t.Errorf("too large: %+v", found)
	}
	if _, found := read(bytes.NewReader(whole), int64(len(whole))+20, &o, func([]byte) {}); found !=
		(Found{1, 20, true}) {
		t.Errorf("the file is shorter than it was: %+v", found)
	}
}

// The length of a record costs memory only if its checksum is right and the bytes are there.
func TestNoLargeAllocation(t *testing.T) {
	o := options()
	o.MaxRecord = 1 << 30
	b := append([]byte(magic), 0xff, 0xff, 0xff, 0x1f, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	long := headerOf([]byte("a"))
	if n := testing.AllocsPerRun(10, func() {
		read(bytes.NewReader(b), int64(len(b)), &o, nil)
		read(bytes.NewReader(append([]byte(magic), long[:]...)), 24, &o, nil)
	}); n > 10 {
		t.Errorf("%v allocations", n)
	}
}

func TestFolder(t *testing.T) {
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	mkdir := func(name string, mode os.FileMode) {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	mkdir("group", 0o770)
	mkdir("others", 0o702)
	mkdir("seen", 0o755)
	mkdir("passed", 0o701)
	mkdir("fine", 0o700)
	mkdir("odd", 0o700)
	for link, to := range map[string]string{"link": "fine", "odd/" + fileName: "/dev/zero"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"group":   "other users can read or write it (mode 0770); chmod it to 0700",
		"others":  "other users can read or write it (mode 0702); chmod it to 0700",
		"seen":    "other users can read or write it (mode 0755); chmod it to 0700",
		"passed":  "other users can read or write it (mode 0701); chmod it to 0700",
		"link":    "a symbolic link; name the folder that it leads to",
		"file":    "not a folder",
		"a/b":     "no such file or directory",
		"odd":     "records: not a regular file",
		"fine/\n": "",
		"file/a":  "not a directory",
	} {
		look := lookAt(t, at(name))
		l, _, err := Open(at(name), options(), func([]byte) {})
		if err == nil {
			l.Close()
		}
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != at(name)+": "+
			want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if fmt.Sprint(look) != fmt.Sprint(err) {
			t.Errorf("%s: Look says %v, Open %v", name, look, err)
		}
	}
	if os.Getuid() == 0 {
		mkdir("theirs", 0o700)
		if err := os.Chown(at("theirs"), 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(at("theirs"), options(), nil); err == nil || !strings.Contains(
			err.Error(), "belongs to the user 12345, and this process runs as 0") {
			t.Error(err)
		}
	}
	l, _, _ := open(t, at("fine"), options())
	if _, _, err := Open(at("fine"), options(), nil); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	l.Close()
	l, _, _ = open(t, at("fine"), options())
	l.Close()
}

// A file that this version has not written is refused, and stays as it was. What a crash of this
// version leaves is not, and no other user can read it from then on.
func TestForeignFiles(t *testing.T) {
	whole := string(fill(t, newDir(t), "a"))
	const notOurs = "not a file that this version writes; move it away, or name another folder"
	for _, c := range []struct{ name, text, want string }{
		{fileName, "recordlog 2\n" + whole[len(magic):], notOurs},
		{fileName, "artist,title\n", notOurs},
		{fileName, "x", notOurs},
		{fileName, "\x00x", notOurs},
		{newName, "recordlog 2\n", notOurs},
		{newName, "of another program", notOurs},
		{fileName, whole + strings.Repeat("x", 64<<10-len(whole)+1), "has 65537 bytes, and this " +
			"version writes at most 65536; move it away, or name another folder"},
		{fileName, whole, ""}, {fileName, whole + "x", ""}, {fileName, "", ""},
		{fileName, magic[:3], ""}, {fileName, strings.Repeat("\x00", 5000), ""},
		{newName, magic[:3], ""}, {newName, whole, ""}, {newName, "", ""},
	} {
		dir := newDir(t)
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		look := lookAt(t, dir)
		l, _, err := Open(dir, options(), func([]byte) {})
		if fmt.Sprint(look) != fmt.Sprint(err) {
			t.Errorf("%s %.20q: Look says %v, Open %v", c.name, c.text, look, err)
		}
		if c.want == "" {
			if err != nil {
				t.Errorf("%s %.20q: %v", c.name, c.text, err)
				continue
			}
			l.Close()
			info, err := os.Stat(filepath.Join(dir, fileName))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s %.20q: %v", c.name, c.text, info.Mode())
			}
			continue
		}
		if err == nil {
			l.Close()
		}
		if want := dir + ": " + c.name + ": " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s %.20q: %v, want %s", c.name, c.text, err, want)
		}
		left, err := os.ReadFile(path)
		info, err2 := os.Stat(path)
		if err != nil || err2 != nil {
			t.Fatalf("%s %.20q: %v, %v", c.name, c.text, err, err2)
		}
		if string(left) != c.text || info.Mode().Perm() != 0o644 {
			t.Errorf("%s %.20q: now %.20q, %v", c.name, c.text, left, info.Mode())
		}
		if _, err := os.Stat(filepath.Join(dir, fileName)); c.name == newName && err == nil {
			t.Errorf("%.20q: the file of the records was made", c.text)
		}
	}
	if err := judgeStart(strings.NewReader(""), 1, 2); err == nil {
		t.Error("a file that cannot be read is one of ours")
	}
}

// A new file takes the place of the old one, and what is appended comes behind it.
func TestRewrite(t *testing.T) {
	dir := newDir(t)
	torn := []byte(magic + "of a crash")
	if err := os.WriteFile(filepath.Join(dir, newName), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	l, _, _ := open(t, dir, options())
	l.Append([]byte("old"))
	l.Rewrite(slices.Values([][]byte{[]byte("1"), nil, make([]byte, 1001), []byte("2")}))
	l.Append([]byte("3"))
	synced(l)
	l.Append([]byte("4"))
	if f := l.Figures(); f.Dropped != 2 {
		t.Errorf("%+v", f)
	}
	l.Close()
	l.Rewrite(slices.Values([][]byte{[]byte("too late")}))
	l, _, all := open(t, dir, options())
	l.Close()
	if got := strings.Join(all, ","); got != "1,2,3,4" {
		t.Error(got)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%v %v", files, err)
	}
}

// A file that has grown asks to be rewritten; all files together keep their bound.
func TestBound(t *testing.T) {
	o := options()
	o.MaxBytes = 16 << 20
	dir := newDir(t)
	l, _, _ := open(t, dir, o)
	record := make([]byte, 1000)
	rewritten := 0
	for i := range 20_000 {
		l.Append(record)
		if i%100 == 0 {
			synced(l)
		}
		select {
		case <-l.Stale():
			rewritten++
			l.Rewrite(slices.Values([][]byte{record}))
		default:
		}
		if f := l.Figures(); f.Bytes > 8<<20 || f.Failing {
			t.Fatalf("%d records: %+v", i, f)
		}
	}
	if rewritten < 2 || rewritten > 6 {
		t.Errorf("%d times", rewritten)
	}
	// More than its share is not stored.
	changed := make(chan error, 3)
	l.Close()
	o.Changed = func(err error) { changed <- err }
	l, _, _ = open(t, dir, o)
	defer l.Close()
	many := slices.Repeat([][]byte{record}, 6<<20/1000+1)
	l.Rewrite(slices.Values(many))
	if err := <-changed; err != errLarge {
		t.Error(err)
	}
	l.Append(record)
	synced(l)
	if f := l.Figures(); !f.Failing || f.Errors != 1 {
		t.Errorf("%+v", f)
	}
	l.Rewrite(slices.Values(many[:100]))
	if err := <-changed; err != nil || l.Figures().Failing {
		t.Error(err)
	}
}

// A disk that fails is said once, costs what is told meanwhile, and is tried again. A rewriting
// then stores all.
func TestFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		var said []error
		o := options()
		o.Changed = func(err error) { said = append(said, err) }
		l, _, _ := open(t, dir, o)
		full := false
		l.store = func(w *work) (int64, error) {
			if full {
				return 0, syscall.ENOSPC
			}
			return l.folder.store(w)
		}
		l.Append([]byte("a"))
		synced(l)
		full = true
		l.Append([]byte("b"))
		synced(l)
		l.Append([]byte("c"))
		synced(l)
		synctest.Wait()
		if f := l.Figures(); !f.Failing || f.Errors != 1 || len(said) != 1 ||
			!errors.Is(said[0], syscall.ENOSPC) {
			t.Fatalf("%+v %v", f, said)
		}
		begin := time.Now()
		for i := range 3 {
			<-l.Stale()
			if d := time.Since(begin); d != time.Duration(i+1)*retryAfter {
				t.Errorf("asked again after %v", d)
			}
			full = i < 2
			l.Rewrite(slices.Values([][]byte{[]byte("all")}))
			synctest.Wait()
		}
		l.Append([]byte("d"))
		l.Close()
		if f := l.Figures(); f.Failing || f.Errors != 3 || len(said) != 2 || said[1] != nil {
			t.Errorf("%+v %v", f, said)
		}
		l, _, all := open(t, dir, options())
		l.Close()
		if got := strings.Join(all, ","); got != "all,d" {
			t.Error(got)
		}
	})
}

// A disk that takes nothing costs no more memory than the buffer, and nobody waits for it.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		var said []error
		o := options()
		o.Changed = func(err error) { said = append(said, err) }
		l, _, _ := open(t, dir, o)
		resume := make(chan struct{})
		l.store = func(w *work) (int64, error) {
			<-resume
			return l.folder.store(w)
		}
		l.Append([]byte("first"))
		synctest.Wait()
		done := make(chan struct{})
		l.Append([]byte("second"))
		l.Await(done)
		for range 100 {
			l.Append(make([]byte, 900))
		}
		<-done // nobody waits for what is lost
		if n := len(l.next.bytes); n > 4<<10 || !l.Figures().Failing {
			t.Errorf("%d bytes wait", n)
		}
		l.Rewrite(slices.Values([][]byte{[]byte("all")})) // before the log has seen its failure
		close(resume)
		synctest.Wait()
		l.Append([]byte("more"))
		l.Close()
		if len(said) != 2 || said[0] != errSlow || said[1] != nil {
			t.Errorf("%v", said)
		}
		l, _, all := open(t, dir, options())
		l.Close()
		if got := strings.Join(all, ","); got != "all,more" {
			t.Error(got)
		}
	})
}

// A write that fails in the middle leaves nothing behind, and a new file heals the log.
func TestFailedWrite(t *testing.T) {
	dir := newDir(t)
	failed := make(chan error, 9)
	o := options()
	o.Changed = func(err error) { failed <- err }
	l, _, _ := open(t, dir, o)
	l.Append([]byte("a"))
	synced(l)
	l.folder.records.Close() // every write fails now
	l.Append([]byte("b"))
	if err := <-failed; err == nil {
		t.Error("no error")
	}
	l.Rewrite(slices.Values([][]byte{[]byte("c")}))
	if err := <-failed; err != nil {
		t.Error(err)
	}
	// A folder in the way of the new file.
	if err := os.Mkdir(filepath.Join(dir, newName), 0o700); err != nil {
		t.Fatal(err)
	}
	l.Rewrite(slices.Values([][]byte{[]byte("d")}))
	if err := <-failed; err == nil || err.Error() != "records.new: not a regular file" {
		t.Error(err)
	}
	l.Close()
	os.Remove(filepath.Join(dir, newName)) // otherwise Open says so
	l, _, all := open(t, dir, options())
	l.Close()
	if got := strings.Join(all, ","); got != "c" {
		t.Error(got)
	}
}

// What the next process would not find is not said to be kept, and a new file heals the log.
func TestMoved(t *testing.T) {
	for what, move := range map[string]func(dir string) error{
		"the folder": func(dir string) error {
			if err := os.Rename(dir, dir+"-moved"); err != nil {
				return err
			}
			return os.Mkdir(dir, 0o700)
		},
		"the file": func(dir string) error { return os.Remove(filepath.Join(dir, fileName)) },
		"a link": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, fileName)),
				os.Symlink("lock", filepath.Join(dir, fileName)))
		},
	} {
		dir := newDir(t)
		changed := make(chan error, 9)
		o := options()
		o.Changed = func(err error) { changed <- err }
		l, _, _ := open(t, dir, o)
		l.Append([]byte("a"))
		synced(l)
		if err := move(dir); err != nil {
			if l.Close(); runtime.GOOS == "windows" { // what is open has its name for good
				continue
			}
			t.Fatal(err)
		}
		l.Append([]byte("b"))
		if err := <-changed; err != errMoved {
			t.Errorf("%s: %v", what, err)
		}
		if what == "the folder" {
			err := errors.Join(os.Remove(dir), os.Rename(dir+"-moved", dir))
			if err != nil {
				t.Fatal(err)
			}
		}
		l.Rewrite(slices.Values([][]byte{[]byte("c")}))
		if err := <-changed; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		l.Append([]byte("d"))
		l.Close()
		l, _, all := open(t, dir, options())
		l.Close()
		if got := strings.Join(all, ","); got != "c,d" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// Whatever is appended and rewritten, at every crash a beginning of it is there.
func TestRandomCrashes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	dir := newDir(t)
	var truth []string // what a reader must find
	for round := range 40 {
		l, _, all := open(t, dir, options())
		if len(all) > len(truth) || !slices.Equal(all, truth[:len(all)]) {
			t.Fatalf("round %d: %q, want a beginning of %q", round, all, truth)
		}
		truth = all
		for range rnd.IntN(20) {
			switch rnd.IntN(10) {
			case 0:
				truth = []string{fmt.Sprint("all of ", round)}
				l.Rewrite(slices.Values([][]byte{[]byte(truth[0])}))
				synced(l)
			case 1:
				synced(l)
			default:
				truth = append(truth, fmt.Sprint(round, rnd.IntN(1000)))
				l.Append([]byte(truth[len(truth)-1]))
			}
		}
		l.Close()
		name := filepath.Join(dir, fileName)
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, rnd.Int64N(info.Size()+1)); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever stands in a file, reading it does not fail; what was read is there again.
func FuzzRead(f *testing.F) {
	whole := fill(f, newDir(f), "first", "second", "third")
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Add(append(bytes.Clone(whole), make([]byte, 30)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := options()
		again := []byte(magic)
		good, found := read(bytes.NewReader(b), int64(len(b)), &o, func(r []byte) {
			if len(r) == 0 || len(r) > o.MaxRecord {
				t.Errorf("a record of %d bytes", len(r))
			}
			head := headerOf(r)
			again = append(append(again, head[:]...), r...)
		})
		if good == 0 {
			again = nil
		}
		if !bytes.Equal(again, b[:good]) || found.Cut != int64(len(b))-good {
			t.Errorf("%+v, %q of %q", found, again, b)
		}
	})
}

// A successor gets the folder when the process before it lets go, and replaces what is there.
func TestSucceed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	old, _, _ := open(t, dir, options())
	old.Append([]byte("old"))
	tries, free := make(chan struct{}), make(chan struct{})
	o := options()
	o.After = func(time.Duration) <-chan time.Time {
		select {
		case tries <- struct{}{}:
		case <-free:
		}
		return time.After(0)
	}
	l := Succeed(dir, o)
	l.Rewrite(slices.Values([][]byte{[]byte("a"), []byte("b")}))
	l.Append([]byte("c"))
	done := make(chan struct{})
	l.Await(done)
	for range 10 {
		<-tries
	}
	select {
	case <-done:
		t.Error("it has the folder of another")
	default:
	}
	old.Append([]byte("last"))
	old.Close()
	close(free)
	<-done
	l.Append([]byte("d"))
	l.Close()
	l, _, all := open(t, dir, options())
	l.Close()
	if !slices.Equal(all, []string{"a", "b", "c", "d"}) {
		t.Errorf("%q", all)
	}
}

// A folder that cannot be opened is a disk that fails, and nothing of it is lost. A Close does not
// wait for the other process.
func TestSucceedFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	old, _, _ := open(t, dir, options())
	old.Append([]byte("old"))
	retry, failed := make(chan time.Time), make(chan error, 10)
	o := options()
	o.After = func(d time.Duration) <-chan time.Time {
		if d == retryAfter {
			return retry
		}
		return time.After(0)
	}
	o.Changed = func(err error) { failed <- err }
	l := Succeed(dir, o)
	l.Rewrite(slices.Values([][]byte{[]byte("a")}))
	if err := <-failed; !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	l.Append([]byte("lost, and in the next rewriting"))
	synced(l)
	if f := l.Figures(); !f.Failing || f.Errors != 1 {
		t.Errorf("%+v", f)
	}
	old.Close()
	retry <- time.Time{}
	<-l.Stale()
	l.Rewrite(slices.Values([][]byte{[]byte("b")}))
	if err := <-failed; err != nil {
		t.Error(err)
	}
	other := Succeed(dir, options())
	other.Rewrite(slices.Values([][]byte{[]byte("x")}))
	other.Close()
	l.Close()
	l, _, all := open(t, dir, options())
	l.Close()
	if !slices.Equal(all, []string{"b"}) {
		t.Errorf("%q", all)
	}
}
