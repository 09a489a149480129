package slots

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// item knows where it is.
type item struct{ slot, generation uint32 }

// check compares a table with the items that it must have.
func check(t *testing.T, table *Table[item], items []*item) {
	t.Helper()
	left := map[*item]bool{}
	for _, x := range items {
		if left[x] = true; table.At(x.slot) != x {
			t.Fatalf("slot %d has %v, want %v", x.slot, table.At(x.slot), x)
		}
	}
	for x := range table.All {
		if !left[x] {
			t.Fatalf("%v is in no slot, or in two", x)
		}
		delete(left, x)
	}
	if len(left) > 0 || table.Used() != len(items) || table.Slots() < len(items) {
		t.Fatalf("%d items are missing, %d of %d slots are used", len(left), table.Used(),
			table.Slots())
	}
}

func TestTable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var table Table[item]
	var items []*item
	generations := map[uint32]bool{}
	for range 5000 {
		if i := random.IntN(60); i < len(items) {
			table.Free(items[i].slot)
			items[i] = items[len(items)-1]
			items = items[:len(items)-1]
		} else {
			x := new(item)
			x.slot, x.generation = table.Put(x)
			if items = append(items, x); generations[x.generation] {
				t.Fatalf("two items have the generation %d", x.generation)
			}
			generations[x.generation] = true
		}
		check(t, &table, items)
	}
	if table.Slots() > 60 {
		t.Errorf("%d slots for %d items", table.Slots(), len(items))
	}
	if table.At(uint32(table.Slots())) != nil || table.At(1<<32-1) != nil {
		t.Error("a slot that does not exist has an item")
	}
}

// Some goes through the items in several calls.
func TestSome(t *testing.T) {
	var table Table[item]
	var all []*item
	for range 10 {
		x := new(item)
		x.slot, x.generation = table.Put(x)
		all = append(all, x)
	}
	table.Free(4)
	all = slices.Delete(all, 4, 5)
	var got []*item
	for from := 0; from >= 0; {
		n := 0
		from = table.Some(from, func(x *item) bool {
			got = append(got, x)
			n++
			return n < 3
		})
	}
	if !slices.Equal(got, all) || table.Some(10, nil) != -1 {
		t.Errorf("got %v, want %v", got, all)
	}
}

// All goes on while items go, and ends when it is told to.
func TestAll(t *testing.T) {
	var table Table[item]
	for range 10 {
		x := new(item)
		x.slot, x.generation = table.Put(x)
	}
	n := 0
	for range table.All {
		if n++; n == 3 {
			break
		}
	}
	for x := range table.All {
		table.Free(x.slot)
		n++
	}
	if n != 13 || table.Used() != 0 {
		t.Errorf("%d items were seen, want 13; %d are left", n, table.Used())
	}
}

func TestShrink(t *testing.T) {
	var table Table[item]
	if table.Put(new(item)); table.Shrink() {
		t.Error("a table with an item has shrunk")
	}
	if table.Free(0); table.Shrink() || table.Slots() != 1 {
		t.Error("a small table has shrunk")
	}
	for range keepSlots + 1 {
		table.Put(new(item))
	}
	if table.Shrink() {
		t.Error("a large table with items has shrunk")
	}
	for slot := range uint32(keepSlots + 1) {
		table.Free(slot)
	}
	if !table.Shrink() || table.Slots() != 0 {
		t.Errorf("%d slots are left", table.Slots())
	}
	if slot, generation := table.Put(new(item)); slot != 0 || generation != keepSlots+3 {
		t.Errorf("got slot %d, generation %d", slot, generation)
	}
}
