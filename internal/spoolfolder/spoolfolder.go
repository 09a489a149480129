// Package spoolfolder is the folder of REVERB_WEBHOOK_SPOOL: how it is opened and looked at, how it
// fares, and what is said of it. Package webhooks knows what its records mean.
package spoolfolder

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"reverb/internal/lib/recordlog"
	"reverb/internal/lib/show"
)

const (
	// maxBytes bounds the folder. Larger: a disk has less room for others. Smaller: what waits, and
	// what is there, may not fit.
	maxBytes = 256 << 20
	// MaxRecord bounds a record. Larger: damage costs more. Smaller: large events are not kept.
	MaxRecord = 2 << 20
)

// Folder is an open folder.
type Folder struct {
	*recordlog.Log
	Dir     string       // its name; constant
	Dropped atomic.Int64 // what the caller could not keep, or has not used
	found   recordlog.Found
}

// Figures are what has become of a folder.
type Figures struct {
	Bytes   int64 // of the file
	Cut     int64 // bytes that were wrong at the start, and were cut away
	Damaged bool  // they were more than a torn record
	Errors  int64 // failures to write
	Failing bool  // nothing is kept at present
	// Dropped is how many events and entries were not kept, or not told: too large, without sense,
	// or of an app or a URL that is configured no more.
	Dropped int64
}

// Open opens a folder, or makes it, and calls each for every record that another process has left
// in it. waiting is how many bytes of events may wait. The error is one line with the variable.
func Open(dir string, waiting int64, log *slog.Logger, after func(time.Duration) <-chan time.Time,
	each func(record []byte)) (*Folder, error) {
	if err := judge(waiting); err != nil {
		return nil, err
	}
	f := &Folder{Dir: dir}
	var err error
	if f.Log, f.found, err = recordlog.Open(dir, *telling(log, after), each); err != nil {
		return nil, named(err)
	}
	if f.found.Damaged {
		log.Warn("the spool of webhooks is damaged: what was behind the damage is lost, and the "+
			"receiver's idea of who is where may be wrong", "bytes", f.found.Cut)
	} else if f.found.Cut > 0 {
		log.Info("the spool of webhooks ended in a torn record, which was cut away", "bytes",
			f.found.Cut)
	}
	return f, nil
}

// Succeed is Open for the successor of a process that has the folder, see recordlog.Succeed. The
// caller has judged the folder with Look.
func Succeed(dir string, log *slog.Logger, after func(time.Duration) <-chan time.Time) *Folder {
	return &Folder{Dir: dir, Log: recordlog.Succeed(dir, *telling(log, after))}
}

// telling are options that tell a log how the disk fares.
func telling(log *slog.Logger, after func(time.Duration) <-chan time.Time) *recordlog.Options {
	o := options()
	o.After, o.Changed = after, func(err error) {
		if err == nil {
			log.Info("the spool of webhooks is written again")
			return
		}
		log.Warn("the spool of webhooks cannot be written: until it can, a crash or a stop loses "+
			"what was not delivered; see REVERB_WEBHOOK_SPOOL", "why", show.Line(err.Error()))
	}
	return o
}

// Look calls each for every record in a folder, and changes nothing there. size says in words how
// large the file is, and what is wrong with its end. used says that a process has the folder. The
// error is that of Open.
func Look(dir string, waiting int64, each func(record []byte)) (size string, used bool, err error) {
	if err = judge(waiting); err != nil {
		return "", false, err
	}
	found, bytes, used, err := recordlog.Look(dir, *options(), each)
	size = show.Bytes(float64(bytes))
	switch {
	case used:
		err = fmt.Errorf("%s: %w", dir, recordlog.ErrLocked)
	case found.Damaged:
		size += fmt.Sprintf("; it is damaged: %d bytes at its end are lost", found.Cut)
	case found.Cut > 0:
		size += fmt.Sprintf("; %d bytes at its end are torn", found.Cut)
	}
	if err != nil {
		err = named(err)
	}
	return size, used, err
}

// Keeps says that what was told to a folder is on the disk, or soon will be. A nil Folder keeps
// nothing.
func (f *Folder) Keeps() bool { return f != nil && !f.Log.Figures().Failing }

// Figures returns the figures since the start.
func (f *Folder) Figures() *Figures {
	l := f.Log.Figures()
	return &Figures{Bytes: l.Bytes, Cut: f.found.Cut, Damaged: f.found.Damaged, Errors: l.Errors,
		Failing: l.Failing, Dropped: f.Dropped.Load() + l.Dropped}
}

// judge says that more may wait than a folder can keep.
func judge(waiting int64) error {
	most := options().MostKept()
	if waiting <= most {
		return nil
	}
	return fmt.Errorf("REVERB_WEBHOOK_QUEUE_BYTES: %s may wait, and REVERB_WEBHOOK_SPOOL can keep "+
		"%s; set it to at most %dMiB, or leave the spool out", show.Bytes(float64(waiting)),
		show.Bytes(float64(most)), most>>20)
}

func options() *recordlog.Options {
	return &recordlog.Options{MaxBytes: maxBytes, MaxRecord: MaxRecord}
}

// named names the variable in an error.
func named(err error) error {
	if errors.Is(err, recordlog.ErrLocked) {
		err = fmt.Errorf("%w; each server needs a folder of its own", err)
	}
	return fmt.Errorf("REVERB_WEBHOOK_SPOOL: %w", err)
}
