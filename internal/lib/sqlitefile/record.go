package sqlitefile

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

var errDamaged = errors.New("the database is damaged")

// varint reads a number of one to nine bytes; n is 0 if b ends inside it.
func varint(b []byte) (v uint64, n int) {
	for i := 0; i < len(b) && i < 8; i++ {
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) < 9 {
		return 0, 0
	}
	return v<<8 | uint64(b[8]), 9
}

// record decodes the first limit columns of a record: nil, int64, float64, string or []byte.
func record(b []byte, limit int) (columns []any, err error) {
	size, n := varint(b)
	if n == 0 || size > uint64(len(b)) || size < uint64(n) {
		return nil, errDamaged
	}
	header, body := b[n:size], b[size:]
	for len(header) > 0 && len(columns) < limit {
		kind, n := varint(header)
		if n == 0 {
			return nil, errDamaged
		}
		header = header[n:]
		length := sizeOf(kind)
		if length > uint64(len(body)) {
			return nil, errDamaged
		}
		columns = append(columns, value(kind, body[:length]))
		body = body[length:]
	}
	return columns, nil
}

// sizeOf is the number of bytes of a column of this serial type.
func sizeOf(kind uint64) uint64 {
	if kind < 12 {
		return uint64([...]byte{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[kind])
	}
	return (kind - 12) / 2
}

func value(kind uint64, b []byte) any {
	switch {
	case kind >= 12 && kind%2 == 1:
		return string(b)
	case kind >= 12:
		return b
	case kind == 0, kind > 9:
		return nil
	case kind == 7:
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	case kind >= 8:
		return int64(kind - 8)
	}
	v := int64(int8(b[0]))
	for _, c := range b[1:] {
		v = v<<8 | int64(c)
	}
	return v
}

// compareText compares a value in an index with a text: null and numbers come before texts, blobs
// behind them.
func compareText(v any, text string) int {
	switch v := v.(type) {
	case string:
		return strings.Compare(v, text)
	case []byte:
		return 1
	}
	return -1
}

// columnsOf returns the names of the columns of a CREATE TABLE, in lower case, and whether the
// table has row IDs.
func columnsOf(sql string) (names []string, rowIDs bool) {
	open := strings.IndexByte(sql, '(')
	if open < 0 {
		return nil, false
	}
	rest, depth, start := sql[open+1:], 0, true
	for i := 0; i < len(rest); {
		c := rest[i]
		word, n := identifier(rest[i:])
		switch {
		case n > 0:
			if start && depth == 0 {
				names = append(names, strings.ToLower(word))
			}
			start = false
			i += n
			continue
		case c == '(':
			depth++
		case c == ')' && depth == 0:
			return names, !strings.Contains(strings.ToLower(rest[i:]), "without")
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			start = true
		}
		i++
	}
	return nil, false
}

// identifier reads a name, quoted or not, or a literal text. n is 0 if there is none.
func identifier(s string) (word string, n int) {
	if closing := strings.IndexByte("\"'`[", s[0]); closing >= 0 {
		quote := "\"'`]"[closing]
		for n = 1; n < len(s); n++ {
			if s[n] != quote {
				continue
			}
			if quote == ']' || n+1 == len(s) || s[n+1] != quote {
				return s[1:n], n + 1
			}
			n++
		}
		return "", n
	}
	for n < len(s) && (s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= '0' &&
		s[n] <= '9' || s[n] == '_' || s[n] >= 0x80) {
		n++
	}
	return s[:n], n
}
