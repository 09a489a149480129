package laravel

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"time"
)

// Interval is the time between two looks at the signal, as in Reverb.
const Interval = 5 * time.Second

// Asker answers with the values of keys in Redis, one text for each key, empty where there is none.
type Asker func(ctx context.Context, keys []string) ([]string, error)

// Follow looks at the signal now and every Interval, until ctx ends or the signal asks for a
// restart, which it returns. place is asked before every look, since a reload may find another
// place; what is there at the first look is no restart. ask is called for a signal in Redis. warn
// gets one line when a look fails, and none while the next ones fail for the same reason.
func Follow(ctx context.Context, place func() Place, ask Asker, warn func(string)) (restart bool) {
	var watch Watch
	var last Place
	told := ""
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
		select {
		case <-ctx.Done():
		case <-next.C:
		}
	}
}

// lookOrAsk reads the signal wherever it is. A place that cannot be read has no signal. A folder
// that has vanished is an error, since nothing in it can be a signal any more.
func (p Place) lookOrAsk(ctx context.Context, ask Asker) ([]string, error) {
	if p.folder != "" && (p.File != "" || p.Database != "") {
		if _, err := os.Stat(p.folder); errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("the folder " + p.folder +
				" of the Laravel application is gone; " +
				"php artisan reverb:restart is not seen any more")
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
