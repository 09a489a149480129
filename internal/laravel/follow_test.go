package laravel

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestFollow follows a signal in Redis, in a file, and in a folder that vanishes.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []any{"1", "1", errors.New("away"), errors.New("away"), "", errors.New("away"),
			"1", "2"}
		asked := 0
		ask := func(_ context.Context, keys []string) ([]string, error) {
			if !slices.Equal(keys, []string{"k"}) {
				t.Errorf("got the keys %q", keys)
			}
			a := answers[asked]
			asked++
			if err, ok := a.(error); ok {
				return nil, err
			}
			return []string{a.(string)}, nil
		}
		var warned []string
		warn := func(s string) { warned = append(warned, s) }
		in := func() Place { return Place{Redis: &RedisKey{}, Keys: []string{"k"}} }
		began := time.Now()
		if !Follow(t.Context(), in, ask, warn) || asked != len(answers) {
			t.Errorf("no restart, or at the wrong look: %d", asked)
		}
		if took := time.Since(began); took != 7*Interval {
			t.Errorf("took %v, want %v", took, 7*Interval)
		}
		if want := []string{"away", "away"}; !slices.Equal(warned, want) {
			t.Errorf("got warnings %q, want %q", warned, want)
		}
	})
}

// TestFollowFile sees a restart within an Interval, whatever a reload finds meanwhile.
func TestFollowFile(t *testing.T) {
	dir := t.TempDir()
	place := func(folder string) Place {
		return Place{File: filepath.Join(folder, "signal"), folder: folder}
	}
	write(t, dir, "a/signal", "9999999999i:1;")
	write(t, dir, "b/signal", "9999999999i:2;")
	synctest.Test(t, func(t *testing.T) {
		var p atomic.Pointer[Place]
		move := func(to Place) { p.Store(&to) }
		move(place(filepath.Join(dir, "a")))
		var warned []string
		warn := func(s string) { warned = append(warned, s) }
		done := make(chan bool)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- Follow(ctx, func() Place { return *p.Load() }, nil, warn) }()
		pass := func() {
			t.Helper()
			time.Sleep(Interval)
			synctest.Wait()
			select {
			case <-done:
				t.Fatal("Follow has ended")
			default:
			}
		}
		synctest.Wait()
		pass()
		move(place(filepath.Join(dir, "b"))) // has another signal from before
		pass()
		move(Place{Reason: "MySQL"})
		pass()
		move(place(filepath.Join(dir, "gone")))
		pass()
		pass()
		move(place(filepath.Join(dir, "a")))
		pass()
		if len(warned) != 1 {
			t.Errorf("got warnings %q, want one", warned)
		}
		cancel()
		if <-done {
			t.Error("the end of the context is a restart")
		}
		go func() { done <- Follow(t.Context(), func() Place { return *p.Load() }, nil, warn) }()
		synctest.Wait()
		if err := os.WriteFile(p.Load().File, []byte("9999999999i:3;"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(Interval)
		synctest.Wait()
		if !<-done {
			t.Error("the restart is not seen")
		}
	})
}

// TestFollowHostile looks at a database in which each look reaches its bound, less and less often.
func TestFollowHostile(t *testing.T) {
	page := make([]byte, 65536) // every cell is the same record
	copy(page, "SQLite format 3\x00\x00\x01\x01\x01\x00\x40\x20\x20")
	binary.BigEndian.PutUint32(page[28:], 1)
	binary.BigEndian.PutUint32(page[44:], 4)
	binary.BigEndian.PutUint32(page[56:], 1)
	const at, cells = 50000, 24000
	page[100] = 13
	binary.BigEndian.PutUint16(page[103:], cells)
	for i := range cells {
		binary.BigEndian.PutUint16(page[108+2*i:], at)
	}
	copy(page[at:], []byte{0xe0, 0, 1, 6, 0, 0, 0, 0, 0}) // 12,288 bytes
	dir := t.TempDir()
	write(t, dir, "db", string(page))
	p := Place{Database: filepath.Join(dir, "db"), Table: "cache", Keys: []string{"k"}}
	synctest.Test(t, func(t *testing.T) {
		var looks, warned atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			done <- Follow(ctx, func() Place { looks.Add(1); return p }, nil,
				func(s string) { warned.Add(1) })
		}()
		time.Sleep(100 * time.Second) // at 0, 10, 30, 70 seconds
		synctest.Wait()
		if looks.Load() != 4 || warned.Load() != 1 {
			t.Errorf("%d looks and %d warnings, want 4 and 1", looks.Load(), warned.Load())
		}
		cancel()
		<-done
	})
}
