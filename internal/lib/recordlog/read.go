package recordlog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// --- The file ---
//
//	magic, then records: length (4 bytes), checksum of the record (4), of these 8 (4), record
//
// Numbers have their lowest byte first; checksums are CRC-32C. A length is 1 to Options.MaxRecord.

const (
	magic      = "recordlog 1\n"
	headerSize = 12
)

// Found is what Open has found.
type Found struct {
	Records int
	// Cut is how many bytes behind the last good record were cut away.
	Cut int64
	// Damaged says that they do not look like a record that a kill or a loss of power has cut
	// short: something else has changed the file.
	Damaged bool
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func headerOf(record []byte) (h [headerSize]byte) {
	table := castagnoli()
	binary.LittleEndian.PutUint32(h[:], uint32(len(record)))
	binary.LittleEndian.PutUint32(h[4:], crc32.Checksum(record, table))
	binary.LittleEndian.PutUint32(h[8:], crc32.Checksum(h[:8], table))
	return h
}

// judgeStart refuses a file of size bytes that something else has written: another program, or
// another version of this package. A torn beginning of our own is none of these, nor are zeros,
// which a loss of power can leave. most bounds our own files.
func judgeStart(r io.Reader, size, most int64) error {
	const advice = "; move it away, or name another folder"
	if size > most {
		return fmt.Errorf("has %d bytes, and this version writes at most %d"+advice, size, most)
	}
	in := bufio.NewReaderSize(r, 64<<10)
	start, err := in.Peek(int(min(size, int64(len(magic)))))
	if err != nil {
		return fmt.Errorf("read it: %w", err)
	}
	if string(start) != magic[:len(start)] && !allZero(in) {
		return errors.New("not a file that this version writes" + advice)
	}
	return nil
}

// read calls each for every good record at the beginning of r, which has size bytes. good is where
// the last of them ends. An error of r counts as damage.
func read(r io.Reader, size int64, o *Options, each func([]byte)) (good int64, found Found) {
	in := bufio.NewReaderSize(r, 64<<10)
	end := func(damaged bool) (int64, Found) {
		found.Cut, found.Damaged = size-good, damaged
		return good, found
	}
	if size > o.MaxBytes {
		return end(true)
	}
	start, err := in.Peek(int(min(size, int64(len(magic)))))
	if err != nil || string(start) != magic[:len(start)] {
		return end(!allZero(in))
	}
	if len(start) < len(magic) { // a file of 0 bytes is new
		return end(false)
	}
	in.Discard(len(magic)) // was peeked at
	var record []byte
	for good = int64(len(magic)); good < size; {
		head, err := in.Peek(int(min(size-good, headerSize)))
		if err != nil {
			return end(true)
		}
		if len(head) < headerSize {
			return end(false)
		}
		table := castagnoli()
		n, sum := int64(binary.LittleEndian.Uint32(head)), binary.LittleEndian.Uint32(head[4:])
		if crc32.Checksum(head[:8], table) != binary.LittleEndian.Uint32(head[8:]) || n == 0 ||
			n > int64(o.MaxRecord) {
			return end(!allZero(in))
		}
		if n > size-good-headerSize {
			return end(false)
		}
		in.Discard(headerSize) // was peeked at
		if int64(cap(record)) < n {
			record = make([]byte, n)
		}
		record = record[:n]
		if _, err := io.ReadFull(in, record); err != nil {
			return end(true)
		}
		next := good + headerSize + n
		if crc32.Checksum(record, table) != sum {
			return end(next < size) // a loss of power can leave a last record of the right length
		}
		each(record)
		good = next
		found.Records++
	}
	return end(false)
}

// allZero says whether the rest is zeros: a loss of power can leave them where a file has grown.
func allZero(in *bufio.Reader) bool {
	for {
		b, err := in.ReadByte()
		if err != nil {
			return err == io.EOF
		}
		if b != 0 {
			return false
		}
	}
}
