// Package recordlog keeps records in a folder, so that the next process can read what this one has
// told, also after a crash. A record is a text of bytes that means something to the caller alone.
//
//	Append ─▶ a buffer ─▶ a goroutine: write, fsync ─▶ the file
//
// # The folder
//
// It belongs to the user of this process, and only that user can read and write it. If it is
// missing, it is made, with mode 0700; its parent must be there. A symbolic link is not followed in
// its place. It has a file called lock, which one process at a time holds (flock), the file of the
// records, and for moments a new file that replaces it. Files have mode 0600. All together never
// have more than Options.MaxBytes.
//
// A file in the place of one of these that begins as no file of this version does, or that is
// larger than one can be, is of another program or of another version. Open refuses it, and leaves
// it as it is.
//
// # What is promised
//
// Records are read in the order of Append, and a record is read only if all before it are: what is
// read is a beginning of what was told. How much of the end is missing:
//
//   - The process is killed: what the kernel has not got yet. That is what was appended while the
//     last write and fsync were under way, some milliseconds on a healthy disk. Nothing that was
//     written is lost, and nothing at all after Close.
//   - The machine loses power: what fsync had not confirmed, which is as much again. What Await has
//     waited for is there.
//
// A file ends at the first byte that is wrong. What is behind it is cut away, and Found says how
// much that was, and whether it looks like what a kill leaves (a torn record) or like damage. Every
// length has its own checksum, so damage causes no large allocation.
//
// # Rewriting
//
// A file that only grows fills the disk. When it has twice its size after the last rewriting, at
// least 4 MiB, Stale asks the caller for the records that say the same now, and Rewrite replaces
// the file by one with these: a new file, fsync, rename, fsync of the folder. A crash leaves one of
// the two.
//
// # Another process hands over
//
// A process whose predecessor has told it everything needs the folder, and nothing that is in it.
// Succeed makes a Log for it, whose first Rewrite waits for the lock and replaces the file.
//
// # Looking
//
// Look reads what is in a folder without a change, also while a process uses the folder.
//
// # When the disk fails
//
// After an error (a full disk, one that takes nothing for so long that the buffer is full, or a
// folder or a file that somebody has moved or deleted, so that the next process would not find it)
// nothing is kept: Append drops, and Await waits for nothing. The file stays as it was. Every 30
// seconds Stale asks for the records again; when Rewrite has stored them, the log goes on. Options.
// Changed hears of the beginning and of the end.
package recordlog

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"time"
)

const (
	fileName, newName, lockName = "records", "records.new", "lock"
	// minRewrite is how large a file may be before it is rewritten. Larger: a start reads more.
	// Smaller: a small state is written again and again.
	minRewrite = 4 << 20
	// lockTries and lockPause are how often, and with which pauses, Open tries the lock: Look has
	// it for a moment. Larger: a second process is refused later. Smaller: Look keeps a process
	// from its folder.
	lockTries, lockPause = 3, 20 * time.Millisecond
	// retryAfter is the pause after an error. Larger: a disk that has room again is noticed later.
	// Smaller: a full disk is tried more often, each time with the whole state.
	retryAfter = 30 * time.Second
	// heirTries and heirPause are how often, and with which pauses, the log of Succeed opens the
	// folder. Larger: what is told waits for longer in memory alone. Smaller: a predecessor that
	// writes much counts as an error.
	heirTries, heirPause = 100, 50 * time.Millisecond
	// keptBuffer bounds the buffer that is used again. Larger: a burst costs memory for ever.
	// Smaller: more allocations.
	keptBuffer = 1 << 20
)

// ErrLocked says that another process uses the folder.
var ErrLocked = errors.New("another process uses it")

var (
	errSlow  = errors.New("the disk takes less than is told")
	errMoved = errors.New("somebody has moved or deleted the folder, or the file in it")
	errLarge = errors.New("the records that are needed take more than their share of the folder")
)

// Options are what a Log needs. None may be missing.
type Options struct {
	// MaxBytes bounds all files of the folder together; see MostKept, too. 1/16 of it is the most
	// that waits for the disk.
	MaxBytes int64
	// MaxRecord bounds a record. A larger one is dropped and counted.
	MaxRecord int
	After     func(time.Duration) <-chan time.Time // as time.After
	// Changed is called when the log begins to fail, and with nil when it has stored everything
	// again. It is called by the goroutine of the log.
	Changed func(err error)
}

// MostKept is how many bytes of records Rewrite stores at most.
func (o *Options) MostKept() int64 { return o.MaxBytes / 8 * 3 }

// Figures are what has become of the records.
type Figures struct {
	Bytes   int64 // of the file
	Errors  int64 // writes and rewritings that failed
	Dropped int64 // records that were too large
	Failing bool  // nothing is kept
}

// Log is an open folder. Any goroutine may call its methods; records get the order of the calls.
type Log struct {
	// constant
	Options
	folder *folder                      // nil: not open yet, see Succeed; the goroutine's own then
	store  func(w *work) (int64, error) // writes it; returns the size of the file
	wake   chan struct{}                // something in the next group has changed
	stale  chan struct{}
	done   chan struct{} // closed when the goroutine has ended

	mu       sync.Mutex
	next     work
	spare    []byte // a buffer to use again
	limit    int64  // a file of this size is rewritten
	figures  Figures
	closing  bool
	overflow error // the log fails for this reason, which the goroutine has not seen yet
}

// work is what the goroutine writes at once.
type work struct {
	bytes   []byte
	fresh   bool            // they are a new file
	waiters []chan struct{} // closed when they are stored
}

// Open opens or makes a folder, and calls each for every record in it; the bytes are each's only
// during the call. The caller closes the Log.
func Open(dir string, o Options, each func(record []byte)) (*Log, Found, error) {
	f, found, size, err := openFolder(dir, &o, each)
	if err != nil {
		return nil, found, fmt.Errorf("%s: %w", dir, err)
	}
	l := newLog(o)
	l.folder, l.store, l.figures.Bytes = f, f.store, size
	go l.run()
	return l, found, nil
}

// Succeed is Open for a process whose predecessor has the folder for some moments still. The caller
// calls Rewrite before anything else. If the folder cannot be opened then, that is an error as one
// of the disk, and the log tries again.
func Succeed(dir string, o Options) *Log {
	l := newLog(o)
	l.store = func(w *work) (int64, error) {
		if l.folder == nil {
			f, err := l.open(dir)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", dir, err)
			}
			l.folder = f
		}
		return l.folder.store(w)
	}
	go l.run()
	return l
}

func newLog(o Options) *Log {
	return &Log{Options: o, wake: make(chan struct{}, 1), stale: make(chan struct{}, 1),
		done: make(chan struct{}), limit: minRewrite}
}

// open opens the folder when no other process has it, and reads nothing of it.
func (l *Log) open(dir string) (f *folder, err error) {
	for tries := 1; ; tries++ {
		f, _, _, err = openFolder(dir, &l.Options, func([]byte) {})
		l.mu.Lock()
		closing := l.closing
		l.mu.Unlock()
		if !errors.Is(err, ErrLocked) || tries == heirTries || closing {
			return f, err
		}
		<-l.After(heirPause)
	}
}

// Append adds a record, of at least one byte, and copies it. It never waits for the disk.
func (l *Log) Append(record []byte) {
	head := headerOf(record)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(record) == 0 || len(record) > l.MaxRecord:
		l.figures.Dropped++
		return
	case l.figures.Failing || l.closing:
		return
	case !l.next.fresh && int64(len(l.next.bytes)+len(record)) > l.MaxBytes/16:
		l.overflow = errSlow
		l.failLocked()
	default:
		if l.next.bytes == nil {
			l.next.bytes, l.spare = l.spare, nil
		}
		l.next.bytes = append(append(l.next.bytes, head[:]...), record...)
	}
	signal(l.wake)
}

// Await closes done when all that was appended until now is stored, or cannot be stored.
func (l *Log) Await(done chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.figures.Failing || l.closing {
		close(done)
		return
	}
	l.next.waiters = append(l.next.waiters, done)
	signal(l.wake)
}

// Stale receives when Rewrite should be called.
func (l *Log) Stale() <-chan struct{} { return l.stale }

// Rewrite replaces all records by these, which each are the log's only until the next. What is
// appended from now on comes behind them. For a moment they take as much memory as in the file.
func (l *Log) Rewrite(records iter.Seq[[]byte]) {
	b := []byte(magic)
	dropped := int64(0)
	var err error
	for r := range records {
		if len(r) == 0 || len(r) > l.MaxRecord {
			dropped++
			continue
		}
		head := headerOf(r)
		if b = append(append(b, head[:]...), r...); int64(len(b)) > l.MostKept() {
			b, err = nil, errLarge
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures.Dropped += dropped
	if l.closing {
		return
	}
	if err != nil {
		l.overflow = err
		l.failLocked()
	} else {
		l.next.bytes, l.next.fresh, l.figures.Failing = b, true, false
	}
	signal(l.wake)
}

// Figures returns the figures since Open.
func (l *Log) Figures() Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.figures
}

// Close stores what was appended, and gives the folder back. It waits for the disk.
func (l *Log) Close() {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	signal(l.wake)
	<-l.done
}

// failLocked drops what waits. The file stays.
func (l *Log) failLocked() {
	for _, done := range l.next.waiters {
		close(done)
	}
	l.next = work{}
	l.figures.Failing = true
	l.figures.Errors++
}

// run is the goroutine.
func (l *Log) run() {
	defer close(l.done)
	defer func() {
		if l.folder != nil {
			l.folder.close()
		}
	}()
	var retry <-chan time.Time
	for closing := false; !closing; {
		select {
		case <-l.wake:
		case <-retry:
			signal(l.stale)
			retry = l.After(retryAfter)
			continue
		}
		var w work
		var err error
		w, err, closing = l.take()
		fail := func(err error) {
			if retry == nil { // otherwise Changed knows
				l.Changed(err)
				retry = l.After(retryAfter)
			}
		}
		if err != nil {
			fail(err)
		}
		if w.bytes != nil {
			size, err := l.store(&w)
			switch {
			case err != nil:
				l.failed()
				fail(err)
			case w.fresh && retry != nil:
				retry = nil
				l.Changed(nil)
				fallthrough
			default:
				l.stored(&w, size)
			}
		}
		for _, done := range w.waiters {
			close(done)
		}
	}
}

// take takes what waits. err says that the log has begun to fail meanwhile.
func (l *Log) take() (w work, err error, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, err = l.next, l.overflow
	l.next, l.overflow = work{}, nil
	return w, err, l.closing
}

// stored notes that a group is on the disk.
func (l *Log) stored(w *work, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures.Bytes = size
	if w.fresh {
		l.limit = min(max(minRewrite, 2*size), l.MaxBytes/16*7)
	}
	if size > l.limit && !l.next.fresh {
		signal(l.stale)
	}
	if l.spare == nil && cap(w.bytes) <= keptBuffer {
		l.spare = w.bytes[:0]
	}
}

// failed notes that a group is not on the disk. What was appended meanwhile needs it.
func (l *Log) failed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next.fresh { // does not need it
		l.figures.Errors++
		return
	}
	l.failLocked()
}

// signal fills a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// --- The folder ---

// folder is what is open of a folder.
type folder struct {
	dir     string
	root    *os.Root
	lock    *os.File
	records *os.File // to append; nil after an error
	size    int64
}

// openFolder opens a folder and reads its records. What is wrong at their end is cut away.
func openFolder(dir string, o *Options, each func([]byte)) (f *folder, found Found, size int64,
	err error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, found, 0, errors.Unwrap(err)
	}
	root, err := openOwn(dir)
	if err != nil {
		return nil, found, 0, err
	}
	f = &folder{dir: dir, root: root}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.lock, err = f.open(lockName, os.O_RDWR|os.O_CREATE); err != nil {
		return f, found, 0, err
	}
	for tries := 1; ; tries++ {
		if err = lock(f.lock, true); !errors.Is(err, ErrLocked) || tries == lockTries {
			break
		}
		<-o.After(lockPause)
	}
	if err != nil {
		return f, found, 0, err
	}
	for _, name := range []string{fileName, newName} { // before anything in them changes
		if err = f.judge(name, o.MaxBytes); err != nil {
			return f, found, 0, err
		}
	}
	if err = root.Remove(newName); err != nil && !errors.Is(err, os.ErrNotExist) {
		return f, found, 0, err
	}
	if f.records, err = f.open(fileName, os.O_RDWR|os.O_CREATE); err != nil {
		return f, found, 0, err
	}
	info, err := f.records.Stat()
	if err != nil {
		return f, found, 0, err
	}
	if err = f.records.Chmod(0o600); err != nil { // a copy of a backup may have another mode
		return f, found, 0, err
	}
	f.size, found = read(f.records, info.Size(), o, each)
	if found.Cut > 0 {
		if err = f.records.Truncate(f.size); err != nil {
			return f, found, 0, err
		}
	}
	if _, err = f.records.Seek(f.size, 0); err != nil {
		return f, found, 0, err
	}
	return f, found, f.size, nil
}

// openOwn opens a folder that is this user's own.
func openOwn(dir string) (*os.Root, error) {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case info.Mode()&os.ModeSymlink != 0:
		return nil, errors.New("a symbolic link; name the folder that it leads to")
	case !info.IsDir():
		return nil, errors.New("not a folder")
	}
	if err := judgeOwner(info); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if now, err := root.Stat("."); err != nil || !os.SameFile(info, now) {
		root.Close()
		return nil, errors.New("somebody replaces the folder meanwhile")
	}
	return root, nil
}

// open opens a regular file of the folder.
func (f *folder) open(name string, flags int) (*os.File, error) {
	info, err := f.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	file, err := f.root.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Unwrap(err))
	}
	return file, nil
}

// judge refuses a file that is not one of ours. One that is missing is fine.
func (f *folder) judge(name string, most int64) error {
	file, err := f.open(name, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := judgeStart(file, info.Size(), most); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// store writes a group where the next process finds it, and returns the size of the file.
func (f *folder) store(w *work) (size int64, err error) {
	if w.fresh {
		size, err = f.replace(w.bytes)
	} else {
		size, err = f.add(w.bytes)
	}
	if err == nil && !f.isThere() {
		f.drop()
		return 0, errMoved
	}
	return size, err
}

// isThere says whether the name of the folder, and in it that of the file, lead to what is open.
func (f *folder) isThere() bool {
	named, err := os.Lstat(f.dir)
	own, err2 := f.root.Stat(".")
	if err != nil || err2 != nil || !os.SameFile(named, own) {
		return false
	}
	named, err = f.root.Lstat(fileName)
	own, err2 = f.records.Stat()
	return err == nil && err2 == nil && os.SameFile(named, own)
}

// add writes at the end of the file, and returns its size.
func (f *folder) add(b []byte) (int64, error) {
	if f.records == nil {
		return 0, errors.New("the file is not open")
	}
	if f.size == 0 {
		b = append([]byte(magic), b...)
	}
	if err := writeAll(f.records, b); err != nil {
		// What was written of the group must not stand before what comes later.
		f.drop()
		return 0, err
	}
	f.size += int64(len(b))
	return f.size, nil
}

// drop closes the file after an error, and cuts away what a failed write has left in it. If that
// fails too, the next reader cuts it.
func (f *folder) drop() {
	f.records.Truncate(f.size)
	f.records.Close()
	f.records = nil
}

// replace makes a new file take the place of the old one.
func (f *folder) replace(b []byte) (int64, error) {
	n, err := f.open(newName, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return 0, err
	}
	err = writeAll(n, b)
	if err2 := n.Close(); err == nil {
		err = err2
	}
	if err != nil {
		f.root.Remove(newName) // a full disk needs its room; the next try truncates it anyway
		return 0, err
	}
	if f.records != nil { // an open file cannot be replaced on Windows
		f.records.Close() // nothing of it is needed any more
		f.records = nil
	}
	if err := f.root.Rename(newName, fileName); err != nil {
		return 0, fmt.Errorf("replace the file: %w", errors.Unwrap(err))
	}
	if err := f.sync(); err != nil {
		return 0, fmt.Errorf("sync the folder: %w", err)
	}
	if f.records, err = f.open(fileName, os.O_WRONLY|os.O_APPEND); err != nil {
		return 0, err
	}
	f.size = int64(len(b))
	return f.size, nil
}

// writeAll writes bytes and waits until they are on the disk.
func writeAll(file *os.File, b []byte) error {
	if _, err := file.Write(b); err != nil {
		return fmt.Errorf("write: %w", errors.Unwrap(err))
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("fsync: %w", errors.Unwrap(err))
	}
	return nil
}

// close gives everything back, also what was only half opened.
func (f *folder) close() {
	if f.records != nil {
		f.records.Close() // everything in it is synced
	}
	if f.lock != nil {
		f.lock.Close() // and so gives the lock back
	}
	f.root.Close()
}
