package laravel

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"reverb/internal/lib/dotenv"
)

// write writes a file below a folder, with its folders.
func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func none(string) (string, bool) { return "", false }

// application is a folder with a .env of this text.
func application(t testing.TB, env string) Application {
	t.Helper()
	entries, err := dotenv.Parse(env, none)
	if err != nil {
		t.Fatal(err)
	}
	return Application{Folder: t.TempDir(), Real: none, Env: func(name string) (string, bool) {
		i := slices.IndexFunc(entries, func(e dotenv.Entry) bool { return e.Name == name })
		if i < 0 {
			return "", false
		}
		return entries[i].Value, true
	}}
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestConfigFiles computes the files of testdata/config. file-only.json has the values that Laravel
// 12 and PHP 8.2 return for them. index.json lists the files that are refused.
func TestConfigFiles(t *testing.T) {
	refused := map[string]string{ // what is not known, and where
		"10-closure-refused": "config/reverb.php:5:60: fn is not known here",
		"11-variables-and-statements-refused": "config/reverb.php:3:1: a variable begins a " +
			"statement, and the one that is read is return",
		"12-spread-match-require": "config/reverb.php:5:19: match is not known here",
		"15-broken-php-refused": "config/reverb.php:5:5: a text stands where , or " +
			"] is expected",
	}
	var index []struct {
		Dir     string
		Verdict string `json:"safe_reader"`
	}
	if err := json.Unmarshal([]byte(read(t, "testdata/config/index.json")), &index); err != nil ||
		len(index) != 18 {
		t.Fatal(err)
	}
	for _, f := range index {
		dir := "testdata/config/" + f.Dir
		app := application(t, read(t, dir+"/dot.env"))
		write(t, app.Folder, "config/reverb.php", read(t, dir+"/reverb.php"))
		s, err := app.Open().Section("reverb")
		if err == nil {
			err = s.Problem()
		}
		if want := refused[f.Dir]; want != "" || err != nil {
			if err == nil || err.Error() != want || f.Verdict == "read" {
				t.Errorf("%s: got %v, want %s", f.Dir, err, want)
			}
			continue
		}
		if f.Verdict == "refuse" {
			t.Errorf("%s is read", f.Dir)
		}
		var got, want any
		text := strings.ReplaceAll(string(s.AppendJSON(nil)), app.Folder, "BASE")
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		judge := "/file-only.json"
		if _, err := os.Stat(dir + judge); err != nil { // Laravel does not boot with it
			if port := s.Get("servers", "reverb", "port"); port.Int() != 8080 {
				t.Errorf("%s: got the port %q", f.Dir, port.Text())
			}
			continue
		}
		if err := json.Unmarshal([]byte(read(t, dir+judge)), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", f.Dir, text, read(t, dir+"/file-only.json"))
		}
	}
}

// TestAsks has the variables that a file asks for, and where its values stand.
func TestAsks(t *testing.T) {
	app := application(t, read(t, "testdata/config/01-default-style/dot.env"))
	write(t, app.Folder, "config/reverb.php",
		read(t, "testdata/config/01-default-style/reverb.php"))
	c := app.Open()
	s, err := c.Section("reverb")
	if err != nil || c.Cached() != "" || s.File != "config/reverb.php" {
		t.Fatalf("got %q, %q and %v", c.Cached(), s.File, err)
	}
	for name, want := range map[string]bool{"REVERB_SERVER_PORT": true, "REDIS_URL": true,
		"REVERB_ALLOWED_ORIGINS": false} {
		if s.Asks(name) != want {
			t.Errorf("%s: got %v, want %v", name, !want, want)
		}
	}
	if line := s.Get("servers", "reverb", "port").Line; line != 11 {
		t.Errorf("got line %d, want 11", line)
	}
	if s, err := c.Section("none"); err != nil || s.Kind != 0 || s.File != "config/none.php" {
		t.Errorf("got %v and %v for a section that is not there", s, err)
	}
}

// TestHeedsEnv has texts of variables and the results of env().
func TestHeedsEnv(t *testing.T) {
	for text, want := range map[string]string{
		"true": "true", "(TRUE)": "true", "False": "false", "(false)": "false", "null": "null",
		"(null)": "null",
		"empty":  `""`, "(Empty)": `""`, "": `""`, "1": `"1"`, "yes": `"yes"`,
		"'quoted'": `"quoted"`, `"quoted"`: `"quoted"`,
		`"`: `"\u0022"`, `'a"`: `"'a\u0022"`, "''": `""`, "\"a\nb\"": `"\u0022a\nb\u0022"`,
	} {
		got := string(value(text).AppendJSON(nil))
		if want = strings.NewReplacer(`\u0022`, `\"`, `\n`, `\u000a`).Replace(want); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestSlug has names of applications as Laravel's keys begin with them.
func TestSlug(t *testing.T) {
	for in, want := range map[string][2]string{
		"My Shop": {"my-shop", "my_shop"}, "my_app": {"my-app", "my_app"}, "東京": {"", ""},
		"":                    {"", ""},
		"ACME @ Home & Söhne": {"acme-at-home-sohne", "acme_at_home_sohne"},
		"O'Brien.app":         {"obrienapp", "obrienapp"},
		"A  b--c__D":          {"a-b-c-d", "a_b_c_d"},
		"Ærøskøbing – Straße": {"aeroskobing-strasse", "aeroskobing_strasse"},
		"-Łódź’s 2. App-":     {"lodzs-2-app", "lodzs_2_app"}, "İstanbul": {"istanbul", "istanbul"},
		"Emoji 😀 app": {"emoji-app", "emoji_app"},
	} {
		for i, separator := range []string{"-", "_"} {
			if got, err := slug(in, separator); err != nil || got != want[i] {
				t.Errorf("%q: got %q and %v, want %q", in, got, err, want[i])
			}
		}
	}
	if got, err := slug("Привет", "-"); err == nil {
		t.Errorf("got %q for letters that versions of Laravel write differently", got)
	}
}

// TestHelpers has Laravel's functions, under all of their names.
func TestHelpers(t *testing.T) {
	app := application(t, "A=x\nLARAVEL_STORAGE_PATH=/data")
	app.Folder = "/srv/app"
	const text = `<?php
use Illuminate\Support\{Arr, Env, Str as S};
return [base_path(), base_path('/a/b'), storage_path('c'), app_path(), config_path('d'),
	database_path('e.sqlite'), resource_path('f'), public_path('g'),
	env('A'), env('B'), env('B', [1]), \env('A', 'y'), Env::get('A'),
		\Illuminate\Support\Env::get('B', 2),
	S::slug('A b'), \Str::slug('A b', '_'), S::lower('Ä'), S::upper('ä'), S::start('//a', '/'),
		S::finish('a//', '/'), Arr::wrap(null), Arr::wrap('a'), Arr::wrap(['a'])];`
	v, err := app.compute("config/x.php", text, map[string]bool{})
	const want = `["/srv/app","/srv/app/a/b","/data/c","/srv/app/app","/srv/app/config/d",` +
		`"/srv/app/database/e.sqlite","/srv/app/resources/f","/srv/app/public/g",` +
		`"x",null,[1],"x","x",2,"a-b","a_b","ä","Ä","/a","a/",[],["a"],["a"]]`
	if got := string(v.AppendJSON(nil)); err != nil || v.Problem() != nil || got != want {
		t.Errorf("got %s, %v and %v, want %s", got, err, v.Problem(), want)
	}
	if v, err = app.compute("config/x.php",
		"<?php return [Str::slug('s3cret Привет'), Str::slug('a', '')];",
		map[string]bool{}); err != nil ||
		v.Problem().Error() != "config/x.php:1:15: Str::slug() is given a letter that is not "+
			"known here" {
		t.Errorf("got %v and %v", err, v.Problem())
	}
}
