package laravel

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"time"

	"reverb/internal/lib/sqlitefile"
)

// Interval is the time between two looks at the signal, as in Reverb. A longer one would delay a
// restart; a shorter one would read the file or ask Redis more often.
const Interval = 5 * time.Second

// maxWait bounds the time between two looks at a database in which looks reach their bound. Longer:
// once it is as it should be again, a restart comes later. Shorter: such looks cost more.
const maxWait = 5 * time.Minute

// Asker returns the values of keys in Redis: one text for each key, empty for a key without a
// value.
type Asker func(ctx context.Context, keys []string) ([]string, error)

// Follow looks at the signal now and every Interval, until ctx ends or the signal asks for a
// restart. restart tells these two apart. Follow calls place before every look, since a reload may
// find another place; a signal at the first look is no restart. It calls ask for a signal in Redis.
// It calls warn with one line when a look fails, and not again while the following looks fail for
// the same reason. Each look at a database that reaches its bound doubles the wait for the next, up
// to maxWait.
func Follow(ctx context.Context, place func() Place, ask Asker, warn func(string)) (restart bool) {
	var watch Watch
	var last Place
	told, wait := "", Interval
	for next := time.NewTicker(Interval); ; {
		p := place()
		if !reflect.DeepEqual(p, last) {
			watch, last = Watch{}, p
		}
		seen, err := p.lookOrAsk(ctx, ask)
		switch {
		case ctx.Err() != nil:
			next.Stop()
			return false
		case err == nil && watch.Saw(seen):
			next.Stop()
			return true
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			warn(told)
		}
		switch {
		case errors.Is(err, sqlitefile.ErrBound):
			wait = min(2*wait, maxWait)
			next.Reset(wait)
		case wait != Interval:
			wait = Interval
			next.Reset(wait)
		}
		select {
		case <-ctx.Done():
		case <-next.C:
		}
	}
}

// lookOrAsk reads the signal from a file, a database or Redis. A place that cannot be read has no
// signal. A folder that has vanished is an error: the signal cannot appear there any more.
func (p Place) lookOrAsk(ctx context.Context, ask Asker) ([]string, error) {
	if p.folder != "" && (p.File != "" || p.Database != "") {
		if _, err := os.Stat(p.folder); errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("the folder " + p.folder +
				" of the Laravel application is gone; a start with --env-file=LINK/.env, where " +
				"LINK leads to the newest release, follows deployments")
		}
	}
	switch {
	case p.Redis != nil:
		return ask(ctx, p.Keys)
	case p.File != "" || p.Database != "":
		return p.Look(time.Now())
	}
	return nil, nil
}
