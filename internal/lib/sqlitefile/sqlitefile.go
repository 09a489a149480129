// Package sqlitefile finds one row in a database of SQLite, by its pages, without SQLite. It reads
// the main file and the write-ahead log. It takes no lock and writes nothing, not even the shared
// memory of the log; therefore readers and writers do not notice it. If a writer changes the
// database meanwhile, the package notices that and looks again.
//
// The package finds the row by a text in a column. If that column is the only primary key or unique
// column of its table, the package uses the index that SQLite makes for such a column. Otherwise it
// looks through all rows. The time and the number of bytes are bounded. The package knows databases
// in UTF-8, tables with row IDs and the collation BINARY. It knows no views, no virtual tables and
// no encryption.
//
// Source: https://www.sqlite.org/fileformat2.html. The files of the package: sqlitefile.go has
// the door and the consistency of a look, wal.go the pages of the log, btree.go the trees,
// record.go the records.
package sqlitefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"reverb/internal/lib/plainfile"
)

// Query names a row, and the columns of it that Find returns.
type Query struct {
	Table, Column string // their names, in any case of ASCII letters
	Key           string // the text in Column
	Columns       []string
	MaxBytes      int64         // that one look may read
	MaxTime       time.Duration // that one look may take
}

// ErrBusy says that a writer changes the database again and again, or that it was interrupted. The
// same look may succeed later.
var ErrBusy = errors.New("the database is being written")

// errTorn says that the database has changed while it was read.
var errTorn = errors.New("the database has changed meanwhile")

// tries is how often Find looks until it gives up with ErrBusy, if a writer changes the database
// during every look. With fewer, one small transaction could hide the row; more would occupy the
// processor while a writer writes a large transaction.
const tries = 3

// Find returns the values of q.Columns in the row: nil, int64, float64, string or []byte. ok is
// false if there is no such row or no such table. The file must exist, and must be regular. Texts
// and blobs are at most maxPayload bytes long.
func Find(name string, q Query) (values []any, ok bool, err error) {
	deadline := time.Now().Add(q.MaxTime)
	for range tries {
		values, ok, err = find(name, &q, deadline)
		if !errors.Is(err, errTorn) {
			return values, ok, err
		}
	}
	return nil, false, ErrBusy
}

// database is an open database as it is at one moment.
type database struct {
	file      *os.File
	size      int64     // of the main file
	time      time.Time // when it was changed
	wal       *wal      // nil if there is none
	page      int       // bytes of a page
	usable    int       // bytes of a page that are used
	counter   uint32
	budget    int64 // bytes that may still be read
	deadline  time.Time
	pageCount uint32
}

func find(name string, q *Query, deadline time.Time) (values []any, ok bool, err error) {
	f, err := plainfile.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if err := journalled(name); err != nil {
		return nil, false, err
	}
	db := &database{file: f, budget: q.MaxBytes, deadline: deadline}
	defer func() { db.wal.close() }()
	if err := db.open(name); err != nil {
		return nil, false, err
	}
	values, ok, err = db.row(q)
	if changed := db.changed(name); changed != nil {
		return nil, false, changed
	}
	return values, ok, err
}

// journalled is ErrBusy if a rollback journal is in use: a writer is writing a transaction, or was
// interrupted. A journal that is not in use is empty or begins with zeros.
func journalled(name string) error {
	f, err := plainfile.Open(name + "-journal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var b [8]byte
	if n, _ := io.ReadFull(f, b[:]); n == 8 && binary.BigEndian.Uint64(b[:]) == 0xd9d505f920a163d7 {
		return ErrBusy
	}
	return nil
}

const (
	headerSize = 100
	magic      = "SQLite format 3\x00"
)

// open reads the header of the database, and the log if there is one.
func (db *database) open(name string) error {
	var h [headerSize]byte
	if err := db.header(&h); err != nil {
		return err
	}
	db.counter = binary.BigEndian.Uint32(h[24:])
	if h[18] == 2 { // the database uses a log
		w, err := openWAL(name+"-wal", db.page, db.budget, db.spend)
		if err != nil {
			return err
		}
		if db.wal = w; w.pageCount > 0 {
			db.pageCount = w.pageCount
		}
		if w.has(1) {
			page, err := db.read(1)
			if err != nil {
				return err
			}
			copy(h[:], page)
		}
	}
	if encoding := binary.BigEndian.Uint32(h[56:]); encoding > 1 {
		return errors.New("the texts of the database are not UTF-8")
	}
	return nil
}

// header reads and judges the header of the main file.
func (db *database) header(h *[headerSize]byte) error {
	info, err := db.file.Stat()
	if err != nil {
		return err
	}
	db.size, db.time = info.Size(), info.ModTime()
	if _, err := db.file.ReadAt(h[:], 0); err != nil || string(h[:16]) != magic {
		return errors.New("the file is not a database of SQLite")
	}
	if db.page = int(binary.BigEndian.Uint16(h[16:])); db.page == 1 {
		db.page = 65536
	}
	db.usable = db.page - int(h[20])
	if db.page < 512 || db.page&(db.page-1) != 0 || db.usable < 480 {
		return errors.New("the header of the database is damaged")
	}
	db.pageCount = uint32(min(db.size/int64(db.page), 1<<32-2))
	return nil
}

// changed is errTorn if a writer has changed the database since open.
func (db *database) changed(name string) error {
	var h [headerSize]byte
	before := *db
	if err := db.header(&h); err != nil || db.page != before.page || db.size != before.size ||
		!db.time.Equal(before.time) {
		return errTorn
	}
	if db.wal != nil {
		return db.wal.changed(name + "-wal")
	}
	if h[18] == 2 || binary.BigEndian.Uint32(h[24:]) != db.counter || journalled(name) != nil {
		return errTorn
	}
	return nil
}

// ErrBound is, for errors.Is, the error of a search that was given up at MaxBytes or MaxTime.
var ErrBound = errors.New("a bound of the search is reached")

type bound string

func (b bound) Error() string { return string(b) }

func (b bound) Is(target error) bool { return target == ErrBound }

// spend counts n bytes that are read or copied. Copies count too: many cells of one page may share
// their bytes.
func (db *database) spend(n int) error {
	if db.budget -= int64(n); db.budget < 0 {
		return bound("too much of the database would have to be read")
	}
	if !time.Now().Before(db.deadline) {
		return bound("reading the database takes too long")
	}
	return nil
}

// read returns a page; it belongs to the caller.
func (db *database) read(n uint32) ([]byte, error) {
	if n == 0 || n > db.pageCount {
		return nil, fmt.Errorf("the database is damaged: there is no page %d", n)
	}
	if err := db.spend(db.page); err != nil {
		return nil, err
	}
	b := make([]byte, db.page)
	if db.wal.has(n) {
		return b, db.wal.read(n, b)
	}
	if _, err := db.file.ReadAt(b, int64(n-1)*int64(db.page)); err != nil {
		return nil, errTorn
	}
	return b, nil
}
