package sqlitefile

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"

	"reverb/internal/lib/plainfile"
)

// --- The write-ahead log ---
//
//	header   magic, version, page size, checkpoint number, salt 1, salt 2, checksum 1, 2
//	frame    page, pages of the database behind a commit or 0, salt 1, 2, checksum 1, 2; the page
//
// All are big-endian words of four bytes. The checksums run on from the header over all frames; a
// frame counts if its salts are the header's, its checksums are right, and a frame with a commit is
// at or behind it. Frames behind the last commit are left from earlier times.

const (
	walHeaderSize   = 32
	frameHeaderSize = 24
)

// wal is the write-ahead log as it is at one moment.
type wal struct {
	file      *os.File
	header    [walHeaderSize]byte
	offsets   map[uint32]int64 // of the newest committed content of a page
	pageCount uint32           // of the database at the last commit
}

// openWAL finds the committed pages of a log. A log that does not exist, is empty or holds no
// commit has none. limit bounds its bytes, and spend counts them: a log may grow meanwhile.
func openWAL(name string, page int, limit int64, spend func(n int) error) (*wal, error) {
	w := &wal{offsets: map[uint32]int64{}}
	f, err := plainfile.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	w.file = f
	info, err := f.Stat()
	if err == nil && info.Size() > limit {
		err = errors.New("the write-ahead log is too large to be read")
	}
	if n, _ := f.ReadAt(w.header[:], 0); err == nil && n == walHeaderSize {
		err = w.scan(page, spend)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// scan reads the frames up to the last commit.
func (w *wal) scan(page int, spend func(n int) error) error {
	h := w.header[:]
	sum := checksum{little: binary.BigEndian.Uint32(h) == 0x377f0682}
	known := sum.little || binary.BigEndian.Uint32(h) == 0x377f0683
	sum.add(h[:24])
	if !known || !sum.is(h[24:]) || binary.BigEndian.Uint32(h[8:]) != uint32(page) {
		return nil
	}
	pending := map[uint32]int64{}
	b := make([]byte, frameHeaderSize+page)
	for at := int64(walHeaderSize); ; at += int64(len(b)) {
		if n, _ := w.file.ReadAt(b, at); n < len(b) {
			return nil
		}
		if err := spend(len(b)); err != nil {
			return err
		}
		sum.add(b[:8])
		sum.add(b[frameHeaderSize:])
		if string(b[8:16]) != string(h[16:24]) || !sum.is(b[16:]) {
			return nil
		}
		pending[binary.BigEndian.Uint32(b)] = at + frameHeaderSize
		if pages := binary.BigEndian.Uint32(b[4:]); pages > 0 {
			w.pageCount = pages
			for n, offset := range pending {
				w.offsets[n] = offset
			}
			clear(pending)
		}
	}
}

// has says whether the log holds a page. A nil log holds none.
func (w *wal) has(n uint32) bool {
	if w == nil {
		return false
	}
	_, ok := w.offsets[n]
	return ok
}

// read reads a page that the log holds.
func (w *wal) read(n uint32, page []byte) error {
	if got, _ := w.file.ReadAt(page, w.offsets[n]); got < len(page) {
		return errTorn
	}
	return nil
}

// changed is errTorn if the log has begun anew: a writer may have overwritten its frames. Frames
// that a writer has added behind them change nothing.
func (w *wal) changed(name string) error {
	f, err := plainfile.Open(name)
	if errors.Is(err, fs.ErrNotExist) && w.file == nil {
		return nil
	}
	if err != nil {
		return errTorn
	}
	defer f.Close()
	var h [walHeaderSize]byte
	f.ReadAt(h[:], 0) // a header that is cut off differs too
	if h != w.header {
		return errTorn
	}
	return nil
}

func (w *wal) close() {
	if w != nil && w.file != nil {
		w.file.Close()
	}
}

// checksum is the running checksum of a log.
type checksum struct {
	little bool // the order of the bytes of a word
	a, b   uint32
}

// add adds a multiple of eight bytes.
func (c *checksum) add(p []byte) {
	var order binary.ByteOrder = binary.BigEndian
	if c.little {
		order = binary.LittleEndian
	}
	for ; len(p) >= 8; p = p[8:] {
		c.a += order.Uint32(p) + c.b
		c.b += order.Uint32(p[4:]) + c.a
	}
}

// is says whether eight bytes are the checksum.
func (c *checksum) is(p []byte) bool {
	return binary.BigEndian.Uint32(p) == c.a && binary.BigEndian.Uint32(p[4:]) == c.b
}
