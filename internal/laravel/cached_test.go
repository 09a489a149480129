package laravel

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"reverb/internal/lib/php"
)

// TestCached reads a file of config:cache. testdata/cached/make.php made it, and its JSON by
// json_encode.
func TestCached(t *testing.T) {
	app := application(t, "")
	write(t, app.Folder, "bootstrap/cache/config.php", read(t, "testdata/cached/config.php"))
	write(t, app.Folder, "config/reverb.php", "<?php return ['never' => 'read'];")
	c := app.Open()
	if c.Cached() != "bootstrap/cache/config.php" {
		t.Fatalf("got %q", c.Cached())
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(read(t, "testdata/cached/config.json")), &want); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		s, err := c.Section(name)
		if err != nil || s.File != "bootstrap/cache/config.php" || s.Line == 0 {
			t.Fatalf("%s: got %v, %q and line %d", name, err, s.File, s.Line)
		}
		var got any
		if err := json.Unmarshal(s.AppendJSON(nil), &got); err != nil {
			t.Fatal(err)
		}
		if name == "reverb" {
			server := got.(map[string]any)["servers"].(map[string]any)["reverb"].(map[string]any)
			delete(server, "suit")
			delete(server, "setting")
		}
		if !reflect.DeepEqual(got, want[name]) {
			t.Errorf("%s:\n got %v\nwant %v", name, got, want[name])
		}
	}
	reverb, _ := c.Section("reverb")
	for key, reason := range map[string]string{"suit": "a constant of a class is not known here",
		"setting": "Setting::__set_state() is not known here"} {
		if v := reverb.Get("servers", "reverb", key); v.Kind != php.Unknown ||
			!strings.HasSuffix(v.Problem().Error(), reason) {
			t.Errorf("%s: got %v, want that %s", key, v.Problem(), reason)
		}
	}
	if err := reverb.Get("apps").Problem(); err != nil {
		t.Error(err)
	}
	if s, err := c.Section("view"); err != nil || s.Kind != php.Null {
		t.Errorf("got %v and %v of a section that is not read", s.Kind, err)
	}
}

// TestCachedPlace has the places where the cached configuration may stand.
func TestCachedPlace(t *testing.T) {
	app := application(t, "APP_CONFIG_CACHE=ignored.php") // Laravel looks before it reads .env
	write(t, app.Folder, "ignored.php", "<?php return ['reverb' => ['from' => '.env']];")
	write(t, app.Folder, "own/cache.php", "<?php return ['reverb' => ['from' => 'own']];")
	if c := app.Open(); c.Cached() != "" {
		t.Errorf("got %q", c.Cached())
	}
	for _, name := range []string{"own/cache.php", filepath.Join(app.Folder, "own/cache.php")} {
		app.Real = func(string) (string, bool) { return name, true }
		c := app.Open()
		if s, err := c.Section("reverb"); err != nil || c.Cached() != name ||
			s.Get("from").Text() != "own" {
			t.Errorf("%s: got %q, %v and %v", name, c.Cached(), s.Get("from"), err)
		}
	}
	app.Real = none
	path := filepath.Join(app.Folder, "bootstrap/cache/config.php")
	large := "<?php return array('view' => array(" +
		strings.Repeat("'a key' => array (\n  0 => 'a value',\n  1 => "+
			"\\A\\B::__set_state(array()),\n),\n", 55_000) +
		"), 'reverb' => array('from' => 'large'));"
	for text, want := range map[string]string{
		large: "",
		large + strings.Repeat(" ", maxCached): "bootstrap/cache/config.php: the file is larger " +
			"than 4194304 bytes",
		"<?php return 's3cret';": "bootstrap/cache/config.php:1: the value that is " +
			"returned is not an array",
		"<?php return array('reverb' => array('a' => 's3cret', 's3cret' " +
			"'x'));": "bootstrap/cache/config.php:1:64: a text stands where , or ) is expected",
		"": "bootstrap/cache/config.php:1:1: the file does not begin with <?php",
		"<?php return array('reverb' => array(" + strings.Repeat("'a' => array(", 64) +
			"));": "bootstrap/cache/config.php:1:844: the file is nested deeper than 64",
	} {
		write(t, app.Folder, "bootstrap/cache/config.php", text)
		if s, err := app.Open().Section("reverb"); err == nil && want != "" || err != nil &&
			err.Error() != want || err == nil && s.Get("from").Text() != "large" {
			t.Errorf("%d bytes: got %v, want %q", len(text), err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Open().Section("reverb"); err == nil ||
		err.Error() != "bootstrap/cache/config.php: is a directory" {
		t.Errorf("got %v", err)
	}
}

// FuzzComputed computes any text as a file of config/. It neither panics nor exceeds its bounds,
// and an error holds no text in quotes.
func FuzzComputed(f *testing.F) {
	dirs, err := filepath.Glob("testdata/config/*/reverb.php")
	if err != nil || len(dirs) == 0 {
		f.Fatal(err)
	}
	for _, name := range dirs {
		f.Add(read(f, name))
	}
	app := application(f, "A=1\nB=s3cret\nREVERB_APP_ID=1\nAPP_ENV=production")
	app.Folder = "/srv/app"
	f.Fuzz(func(t *testing.T, text string) {
		v, err := app.compute("config/reverb.php", text, map[string]bool{})
		if err == nil {
			v.AppendJSON(nil)
			err = v.Problem()
		}
		if err != nil && !strings.Contains(text, "s3cret") &&
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error shows a value: %v", err)
		}
	})
}

// FuzzCached reads any text as a cached configuration.
func FuzzCached(f *testing.F) {
	f.Add(read(f, "testdata/cached/config.php"))
	app := application(f, "")
	f.Fuzz(func(t *testing.T, text string) {
		write(t, app.Folder, "bootstrap/cache/config.php", text)
		s, err := app.Open().Section("reverb")
		if err == nil {
			s.AppendJSON(nil)
		}
	})
}
