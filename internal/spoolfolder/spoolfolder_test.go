package spoolfolder

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFolder opens a folder twice, with a damaged end between, and has its figures.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var log bytes.Buffer
	var all []string
	open := func() *Folder {
		all = nil
		f, err := Open(dir, 64<<20, slog.New(slog.NewTextHandler(&log, nil)), time.After,
			func(r []byte) { all = append(all, string(r)) })
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	var none *Folder
	f := open()
	if none.Keeps() || !f.Keeps() || f.Dir != dir {
		t.Errorf("keeps: %v, %v in %s", none.Keeps(), f.Keeps(), f.Dir)
	}
	f.Append([]byte("a"))
	f.Dropped.Add(2)
	if got := f.Figures(); got.Dropped != 2 || got.Failing {
		t.Errorf("%+v", got)
	}
	f.Close()
	name := filepath.Join(dir, "records")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for end, want := range map[string]string{"torn": "ended in a torn record, which was cut",
		"of something else": "is damaged: what was behind the damage is lost"} {
		log.Reset()
		if err := os.WriteFile(name, append(b, end...), 0o600); err != nil {
			t.Fatal(err)
		}
		f := open()
		got := f.Figures()
		f.Close()
		if len(all) != 1 || got.Cut != int64(len(end)) || got.Damaged != (len(end) > 4) ||
			!strings.Contains(log.String(), want) {
			t.Errorf("%q: %+v, the log says\n%s", all, got, &log)
		}
	}
}

// TestErrors has what Open and Look refuse, in the same words.
func TestErrors(t *testing.T) {
	each := func([]byte) {}
	log := slog.New(slog.DiscardHandler)
	dir := filepath.Join(t.TempDir(), "spool")
	f, err := Open(dir, 96<<20, log, time.After, each)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string]string{
		dir: "REVERB_WEBHOOK_SPOOL: " + dir + ": another process uses it; each server needs a " +
			"folder of its own",
		dir + "/a/b": "REVERB_WEBHOOK_SPOOL: " + dir + "/a/b: no such file or directory",
	} {
		_, err := Open(name, 64<<20, log, time.After, each)
		_, used, seen := Look(name, 64<<20, each)
		if err == nil || seen == nil || err.Error() != want || seen.Error() != want ||
			used != (name == dir) {
			t.Errorf("%s: %v, %v, %v", name, err, seen, used)
		}
	}
	const many = "REVERB_WEBHOOK_QUEUE_BYTES: 96.0 MiB may wait, and REVERB_WEBHOOK_SPOOL can " +
		"keep 96.0 MiB; set it to at most 96MiB, or leave the spool out"
	_, err = Open(dir+"2", 96<<20+1, log, time.After, each)
	if _, _, seen := Look(dir+"2", 96<<20+1, each); err == nil || err.Error() != many ||
		seen == nil || seen.Error() != many {
		t.Errorf("%v, %v", err, seen)
	}
}
