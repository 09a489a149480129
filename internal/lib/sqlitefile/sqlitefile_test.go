package sqlitefile

import (
	"archive/tar"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unpack unpacks the databases that testdata/make.py has made.
func unpack(t testing.TB) (dir string) {
	dir = t.TempDir()
	f, err := os.Open("testdata/databases.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		b, err2 := io.ReadAll(r)
		if err := errors.Join(err, err2, os.WriteFile(filepath.Join(dir, h.Name), b,
			0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func query(key string) Query {
	return Query{Table: "CACHE", Column: "Key", Key: key, Columns: []string{"value", "expiration"},
		MaxBytes: 64 << 20, MaxTime: time.Minute}
}

// TestFind finds every row that SQLite has found, and none that it has not.
func TestFind(t *testing.T) {
	dir := unpack(t)
	var expected map[string]map[string][2]any
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.UseNumber()
		err = d.Decode(&expected)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]string{"utf16.db": "the texts of the database are not UTF-8",
		"without-rowid.db": "the table has no row IDs"}
	for name, rows := range expected {
		path := filepath.Join(dir, name)
		for key, row := range rows {
			values, ok, err := Find(path, query(key))
			if want := refused[name]; want != "" {
				if err == nil || err.Error() != want {
					t.Errorf("%s: got %v, want %s", name, err, want)
				}
				continue
			}
			if err != nil || !ok {
				t.Fatalf("%s: %.40q: got %v and %v", name, key, ok, err)
			}
			expiration, _ := row[1].(json.Number).Int64()
			if values[0] != row[0] || values[1] != expiration {
				t.Errorf("%s: %.40q: got %.60v, want %.60v", name, key, values, row)
			}
		}
		for _, key := range []string{"", "a", "k", "laravel-cache-", "zzz",
			strings.Repeat("k0", 400)} {
			if _, ok, err := Find(path, query(key)); refused[name] == "" && (ok || err != nil) {
				t.Errorf("%s: %.40q: got %v and %v, want that there is no such row", name, key, ok,
					err)
			}
		}
	}
	if len(expected) < 11 || len(expected["log-anew.db"]) == 0 {
		t.Error("databases are missing")
	}
}

// TestTrouble has databases that cannot be read.
func TestTrouble(t *testing.T) {
	dir := unpack(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) string {
		if err := os.WriteFile(at(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	q := query("late")
	if _, _, err := Find(at("none.db"), q); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no such file", err)
	}
	for _, b := range []string{"", "text", strings.Repeat("text", 100), magic +
		strings.Repeat("\x01", 84)} {
		if _, _, err := Find(write("not.db", []byte(b)), q); err == nil {
			t.Errorf("%.20q is a database", b)
		}
	}
	q.Table = "none"
	if _, ok, err := Find(at("deleted.db"), q); ok || err != nil {
		t.Errorf("got %v and %v, want that there is no such table", ok, err)
	}
	q = query("late")
	q.Columns = []string{"none"}
	if _, _, err := Find(at("deleted.db"), q); err == nil ||
		err.Error() != `the table has no column "none"` {
		t.Errorf("got %v", err)
	}
	q = query("late")
	q.MaxBytes = 8 << 10
	if _, _, err := Find(at("scan.db"), q); err == nil ||
		err.Error() != "too much of the database would have to be read" {
		t.Errorf("got %v", err)
	}
	if _, _, err := Find(at("log-anew.db"), q); err == nil ||
		err.Error() != "the write-ahead log is too large to be read" {
		t.Errorf("got %v", err)
	}
	q = query("late")
	q.MaxTime = 0
	if _, _, err := Find(at("deleted.db"), q); err == nil ||
		err.Error() != "reading the database takes too long" {
		t.Errorf("got %v", err)
	}
	q = query("late")
	journal := binary.BigEndian.AppendUint64(nil, 0xd9d505f920a163d7)
	write("deleted.db-journal", journal)
	if _, _, err := Find(at("deleted.db"), q); err != ErrBusy {
		t.Errorf("got %v, want that a transaction is being written", err)
	}
	write("deleted.db-journal", make([]byte, 28))
	if _, ok, err := Find(at("deleted.db"), q); ok || err != nil {
		t.Errorf("a journal that is not in use: got %v and %v", ok, err)
	}
}

const hostileCell = 50000 // where in the page the cell is

// hostile is a database of two pages. Every cell of the first is the same long record. The second
// is a page of overflow that leads to itself.
func hostile() []byte {
	const size, at = 65536, hostileCell
	page := make([]byte, 2*size)
	binary.BigEndian.PutUint32(page[size:], 2)
	copy(page, magic)
	page[16], page[17] = 0, 1 // 65,536 bytes a page
	page[18], page[19] = 1, 1
	head := page[headerSize:]
	head[0] = leafTable
	cells := (at - headerSize - 8) / 2
	binary.BigEndian.PutUint16(head[3:], uint16(cells))
	for i := range cells {
		binary.BigEndian.PutUint16(head[8+2*i:], at)
	}
	// a payload of 4,096 bytes, row 1: a header of 6 bytes, and five columns without bytes
	copy(page[at:], []byte{0xa0, 0, 1, 6, 0, 0, 0, 0, 0})
	return page
}

// TestHostile has databases that are made to keep a look busy. Its bounds end the look.
func TestHostile(t *testing.T) {
	dir := unpack(t)
	path := filepath.Join(dir, "hostile.db")
	page := hostile()
	find := func() error {
		if err := os.WriteFile(path, page, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := Find(path, query("late"))
		return err
	}
	const much = "too much of the database would have to be read"
	if err := find(); err == nil || err.Error() != much {
		t.Errorf("many cells with the same bytes: got %v", err)
	}
	// many small cells
	copy(page[hostileCell:], []byte{6, 1, 6, 0, 0, 0, 0, 0})
	q := query("late")
	q.MaxBytes = 1 << 20
	if err := os.WriteFile(path, page, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Find(path, q); !errors.Is(err, ErrBound) || err.Error() != much {
		t.Errorf("many small cells: got %v", err)
	}
	// a chain of overflow pages that leads to itself is cut off
	binary.BigEndian.PutUint16(page[headerSize+3:], 1)
	copy(page[hostileCell:], []byte{0x84, 0x80, 0x80, 0, 1, 6, 0, 0, 0, 0, 0}) // 8 MiB
	binary.BigEndian.PutUint32(page[hostileCell+5+localOf(8<<20):], 2)
	if err := find(); err != nil {
		t.Errorf("a chain without end: got %v", err)
	}
	// a tree that leads to itself
	page[headerSize] = interiorTable
	binary.BigEndian.PutUint32(page[headerSize+8:], 1)
	copy(page[hostileCell:], []byte{0, 0, 0, 1, 1})
	binary.BigEndian.PutUint16(page[headerSize+12:], hostileCell)
	if err := find(); !errors.Is(err, errDamaged) {
		t.Errorf("a tree without end: got %v", err)
	}
	// a log that keeps a look busy
	log := filepath.Join(dir, "log-anew.db")
	q = query("late")
	q.MaxTime = 0
	const long = "reading the database takes too long"
	if _, _, err := Find(log, q); err == nil || err.Error() != long {
		t.Errorf("a log: got %v", err)
	}
}

// localOf is the number of bytes of a payload in a page of 65,536 bytes.
func localOf(size int64) int { return (&database{usable: 65536}).local(size, true) }

// TestLog cuts the log off everywhere: the transactions committed before that place count.
func TestLog(t *testing.T) {
	dir := unpack(t)
	path := filepath.Join(dir, "log-anew.db")
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	for n := 0; n <= len(log); n += 256 {
		if err := os.WriteFile(path+"-wal", log[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		values, ok, err := Find(path, query("late"))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if ok {
			if now := values[1].(int64); now != last && now != last+1 {
				t.Fatalf("%d bytes: got %d after %d", n, now, last)
			} else {
				last = now
			}
		} else if last >= 0 {
			t.Fatalf("%d bytes: the row is gone", n)
		}
	}
	if last != 29 {
		t.Errorf("got %d at last, want 29", last)
	}
	for at := 24; at < len(log); at += 1500 { // one wrong bit ends the log
		log[at] ^= 1
		if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
			t.Fatal(err)
		}
		log[at] ^= 1
		if _, _, err := Find(path, query("late")); err != nil {
			t.Errorf("bit at %d: %v", at, err)
		}
	}
}

// TestChanged has a writer come between the beginning and the end of a look.
func TestChanged(t *testing.T) {
	dir := unpack(t)
	for name, change := range map[string]func(path string) error{
		"deleted.db": func(path string) error {
			return os.Chtimes(path, time.Time{},
				time.Unix(1, 0))
		},
		"log.db": func(path string) error { return os.Truncate(path+"-wal", 0) },
		"long-keys.db": func(path string) error {
			return os.WriteFile(path+"-journal",
				binary.BigEndian.AppendUint64(nil, 0xd9d505f920a163d7), 0o600)
		},
		"small-pages.db": func(path string) error { return os.Truncate(path, 512) },
		"scan.db":        os.Remove,
	} {
		path := filepath.Join(dir, name)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		db := &database{file: f, budget: 1 << 20, deadline: time.Now().Add(time.Minute)}
		if err := db.open(path); err != nil {
			t.Fatal(err)
		}
		if err := db.changed(path); err != nil {
			t.Errorf("%s: got %v though nothing has changed", name, err)
		}
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		// the open file is still whole
		if err := db.changed(path); err != errTorn && name != "scan.db" {
			t.Errorf("%s: got %v, want that it has changed", name, err)
		}
		db.wal.close()
		f.Close()
	}
}

// FuzzFind reads any bytes as a database: within its bounds, without a panic.
func FuzzFind(f *testing.F) {
	dir := unpack(f)
	for _, name := range []string{"later-column.db", "log-anew.db"} { // the smaller, the faster
		db, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		log, _ := os.ReadFile(filepath.Join(dir, name+"-wal"))
		f.Add(db[:min(len(db), 8<<10)], log[:min(len(log), 2<<10)], "k3")
	}
	path := filepath.Join(dir, "fuzzed.db")
	f.Fuzz(func(t *testing.T, db, log []byte, key string) {
		if err := errors.Join(os.WriteFile(path, db, 0o600),
			os.WriteFile(path+"-wal", log, 0o600)); err != nil {
			t.Fatal(err)
		}
		q := query(key)
		q.MaxBytes = 64 << 10
		values, ok, err := Find(path, q)
		if ok != (len(values) == 2) || ok && err != nil {
			t.Errorf("got %v, %v and %v", values, ok, err)
		}
	})
}
