package sqlitefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	interiorIndex = 0x02
	interiorTable = 0x05
	leafIndex     = 0x0a
	leafTable     = 0x0d

	maxDepth   = 20      // levels of a tree, as in SQLite (BTCURSOR_MAX_DEPTH)
	maxPayload = 1 << 20 // bytes that are read of a record; the rest is cut off
)

// node is a page of a tree.
type node struct {
	page  []byte
	kind  byte
	cells []byte // their offsets, two bytes each
	right uint32 // the last child of an interior node
}

func (db *database) node(n uint32) (t node, err error) {
	if t.page, err = db.read(n); err != nil {
		return t, err
	}
	head := t.page
	if n == 1 {
		head = head[headerSize:]
	}
	t.kind = head[0]
	size := 8
	if t.kind == interiorIndex || t.kind == interiorTable {
		t.right = binary.BigEndian.Uint32(head[8:])
		size = 12
	}
	count := int(binary.BigEndian.Uint16(head[3:]))
	if count*2 > len(head)-size {
		return t, errDamaged
	}
	t.cells = head[size : size+2*count]
	return t, nil
}

func (t node) count() int { return len(t.cells) / 2 }

// cell is one entry of a node.
type cell struct {
	child   uint32 // of an interior node
	rowID   int64  // in a table
	payload []byte // the part of it in the page
	size    int64  // of the whole payload
	more    uint32 // the first page with the rest, or 0
}

// cellCost is what a cell counts in the budget, in bytes. Larger: a table of many small rows is
// refused. Smaller: a page in which all cells are the same costs more time than its bytes say.
const cellCost = 64

// cell decodes the cell number i.
func (db *database) cell(t node, i int) (c cell, err error) {
	if err := db.spend(cellCost); err != nil {
		return c, err
	}
	at := int(binary.BigEndian.Uint16(t.cells[2*i:]))
	if at >= db.usable {
		return c, errDamaged
	}
	b := t.page[at:db.usable]
	if t.kind == interiorIndex || t.kind == interiorTable {
		if len(b) < 4 {
			return c, errDamaged
		}
		c.child, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if t.kind != interiorTable {
		size, n := varint(b)
		if n == 0 || size > 1<<31 {
			return c, errDamaged
		}
		c.size, b = int64(size), b[n:]
	}
	if t.kind == interiorTable || t.kind == leafTable {
		id, n := varint(b)
		if n == 0 {
			return c, errDamaged
		}
		c.rowID, b = int64(id), b[n:]
	}
	local := db.local(c.size, t.kind == leafTable)
	if local > len(b) {
		return c, errDamaged
	}
	c.payload = b[:local]
	if int64(local) < c.size {
		if len(b) < local+4 {
			return c, errDamaged
		}
		c.more = binary.BigEndian.Uint32(b[local:])
	}
	return c, nil
}

// local is the number of bytes of a payload in the page of its cell.
func (db *database) local(size int64, table bool) int {
	u := int64(db.usable)
	most := (u-12)*64/255 - 23
	if table {
		most = u - 35
	}
	if size <= most {
		return int(size)
	}
	least := (u-12)*32/255 - 23
	if k := least + (size-least)%(u-4); k <= most {
		return int(k)
	}
	return int(least)
}

// whole is the payload of a cell, cut off at limit bytes.
func (db *database) whole(c cell, limit int64) ([]byte, error) {
	if err := db.spend(len(c.payload)); err != nil {
		return nil, err
	}
	b := slices.Clone(c.payload)
	for next := c.more; int64(len(b)) < min(c.size, limit); {
		page, err := db.read(next)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(page)
		b = append(b, page[4:min(int64(db.usable), 4+c.size-int64(len(b)))]...)
	}
	return b, nil
}

// table is a table in the schema of the database.
type table struct {
	root, index uint32 // index is 0 if no index of only the key is known
	columns     []string
}

// schema looks the table up in sqlite_master. ok is false if it is not there.
func (db *database) schema(name string) (found table, ok bool, err error) {
	indexes, odd := 0, false
	err = db.walk(1, maxDepth, func(_ int64, payload cell) (bool, error) {
		b, err := db.whole(payload, maxPayload)
		if err != nil {
			return false, err
		}
		row, err := record(b, 5)
		if err != nil || len(row) < 5 {
			return false, errDamaged
		}
		kind, _ := row[0].(string)
		table, _ := row[2].(string)
		root, _ := row[3].(int64)
		sql, _ := row[4].(string)
		if !strings.EqualFold(table, name) {
			return false, nil
		}
		switch {
		case kind == "table":
			rowIDs := false
			found.root, ok = uint32(root), true
			if found.columns, rowIDs = columnsOf(sql); !rowIDs {
				return false, errors.New("the table has no row IDs")
			}
			odd = strings.Contains(strings.ToLower(sql), "collate")
		case kind == "index" && sql == "": // SQLite's own
			found.index = uint32(root)
			indexes++
		}
		return false, nil
	})
	if indexes != 1 || odd {
		found.index = 0
	}
	return found, ok, err
}

// walk calls f for every row of a table until f ends the walk.
func (db *database) walk(page uint32, depth int,
	f func(rowID int64, c cell) (enough bool, err error)) error {
	_, err := db.walkNode(page, depth, f)
	return err
}

func (db *database) walkNode(page uint32, depth int,
	f func(int64, cell) (bool, error)) (enough bool, err error) {
	t, err := db.node(page)
	if err != nil {
		return false, err
	}
	if depth == 0 || t.kind != leafTable && t.kind != interiorTable {
		return false, errDamaged
	}
	for i := range t.count() {
		c, err := db.cell(t, i)
		if err == nil && t.kind == leafTable {
			enough, err = f(c.rowID, c)
		} else if err == nil {
			enough, err = db.walkNode(c.child, depth-1, f)
		}
		if enough || err != nil {
			return enough, err
		}
	}
	if t.kind == interiorTable {
		return db.walkNode(t.right, depth-1, f)
	}
	return false, nil
}

// row finds the row of a query.
func (db *database) row(q *Query) (values []any, ok bool, err error) {
	table, ok, err := db.schema(q.Table)
	if !ok || err != nil {
		return nil, false, err
	}
	places := make([]int, len(q.Columns))
	for i, name := range q.Columns {
		if places[i] = slices.Index(table.columns, strings.ToLower(name)); places[i] < 0 {
			return nil, false, fmt.Errorf("the table has no column %q", name)
		}
	}
	key := slices.Index(table.columns, strings.ToLower(q.Column))
	if key < 0 {
		return nil, false, fmt.Errorf("the table has no column %q", q.Column)
	}
	var row []any
	if table.index != 0 {
		var id int64
		if id, ok, err = db.search(table.index, q.Key); ok && err == nil {
			row, ok, err = db.byRowID(table.root, id)
		}
	} else {
		row, ok, err = db.through(table.root, key, q.Key)
	}
	if !ok || err != nil {
		return nil, false, err
	}
	for _, place := range places {
		if place >= len(row) { // the column was added later
			row = append(row, make([]any, place+1-len(row))...)
		}
		values = append(values, row[place])
	}
	if found, _ := row[min(key, len(row)-1)].(string); found != q.Key {
		return nil, false, errDamaged // the index is of another column, or a writer has changed it
	}
	return values, true, nil
}

// through looks through all rows of a table for one with a text in a column.
func (db *database) through(root uint32, column int, key string) (row []any, ok bool, err error) {
	err = db.walk(root, maxDepth, func(_ int64, c cell) (bool, error) {
		b, err := db.whole(c, maxPayload)
		if err != nil {
			return false, err
		}
		if row, err = record(b, 1<<10); err != nil {
			if c.size > maxPayload {
				return false, nil // cut off, so it is not the row
			}
			return false, err
		}
		if column < len(row) {
			text, isText := row[column].(string)
			ok = isText && text == key
		}
		return ok, nil
	})
	return row, ok, err
}

// search finds a text in an index of one column, and returns the row ID beside it.
func (db *database) search(page uint32, key string) (rowID int64, ok bool, err error) {
	for range maxDepth {
		t, err := db.node(page)
		if err != nil {
			return 0, false, err
		}
		if t.kind != leafIndex && t.kind != interiorIndex {
			return 0, false, errDamaged
		}
		low, high := 0, t.count() // the first cell that is not before the key
		for low < high {
			mid := (low + high) / 2
			c, entry, err := db.indexed(t, mid)
			if err != nil {
				return 0, false, err
			}
			switch order := compareText(entry[0], key); {
			case order == 0:
				id, isInt := entry[len(entry)-1].(int64)
				if len(entry) != 2 || !isInt || c.size > maxPayload {
					return 0, false, errDamaged
				}
				return id, true, nil
			case order < 0:
				low = mid + 1
			default:
				high = mid
			}
		}
		if t.kind == leafIndex {
			return 0, false, nil
		}
		if page = t.right; low < t.count() {
			c, err := db.cell(t, low)
			if err != nil {
				return 0, false, err
			}
			page = c.child
		}
	}
	return 0, false, errDamaged
}

// indexed decodes an entry of an index.
func (db *database) indexed(t node, i int) (c cell, entry []any, err error) {
	if c, err = db.cell(t, i); err != nil {
		return c, nil, err
	}
	b, err := db.whole(c, maxPayload)
	if err == nil {
		entry, err = record(b, 1<<10)
	}
	if err == nil && len(entry) == 0 {
		err = errDamaged
	}
	return c, entry, err
}

// byRowID finds a row of a table.
func (db *database) byRowID(page uint32, id int64) (row []any, ok bool, err error) {
	for range maxDepth {
		t, err := db.node(page)
		if err != nil {
			return nil, false, err
		}
		if t.kind != leafTable && t.kind != interiorTable {
			return nil, false, errDamaged
		}
		low, high := 0, t.count()
		for low < high {
			mid := (low + high) / 2
			c, err := db.cell(t, mid)
			if err != nil {
				return nil, false, err
			}
			if c.rowID < id {
				low = mid + 1
			} else {
				high = mid
			}
		}
		if t.kind == interiorTable && low == t.count() {
			page = t.right
			continue
		}
		if low == t.count() {
			return nil, false, nil
		}
		c, err := db.cell(t, low)
		if err != nil {
			return nil, false, err
		}
		if t.kind == interiorTable {
			page = c.child
			continue
		}
		if c.rowID != id {
			return nil, false, nil
		}
		b, err := db.whole(c, maxPayload)
		if err == nil {
			row, err = record(b, 1<<10)
		}
		return row, err == nil, err
	}
	return nil, false, errDamaged
}
