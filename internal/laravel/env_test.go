package laravel

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"reverb/internal/lib/dotenv"
)

// differences are the cases in which .env is read in another way than by Laravel, with the reason.
var differences = map[string]string{
	"export and quotes": "Laravel refuses export before a name of one letter; reading it harms " +
		"nobody",
	"name with dash": "Laravel refuses the name; reading it harms nobody",
	"unterminated double quote": "Laravel drops the rest of the file without a word; here the " +
		"line is refused",
	"Latin-1 bytes": "the list of cases is JSON and cannot hold the byte",
}

// TestEnvTable compares the values of .env and the results of env() with Laravel 12.
func TestEnvTable(t *testing.T) {
	type outcome struct {
		Raw   string
		Value any
	}
	var table struct {
		Table []struct {
			Line, Error string
			Result      map[string]outcome
		}
	}
	if err := json.Unmarshal([]byte(read(t, "testdata/env/env.json")), &table); err != nil {
		t.Fatal(err)
	}
	entries, err := dotenv.Parse(read(t, "testdata/env/all.txt"), none)
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string]string{}
	for _, e := range entries {
		whole[e.Name] = e.Value
	}
	if len(table.Table) < 89 {
		t.Errorf("only %d lines", len(table.Table))
	}
	for _, line := range table.Table {
		problem := ""
		if line.Error != "" {
			if got, err := dotenv.Parse(line.Line, none); err == nil {
				problem = fmt.Sprintf("got %v, and Laravel refuses the line", got)
			}
		}
		for name, want := range line.Result {
			raw, ok := whole[name]
			got, _ := json.Marshal(want.Value)
			if !ok && want.Value == nil {
				continue // a name without a value
			}
			if s := string(value(raw).AppendJSON(nil)); !ok || raw != want.Raw || !same(s,
				string(got)) {
				problem = fmt.Sprintf("got %q and %s, want %q and %s", raw, s, want.Raw, got)
			}
		}
		judge(t, line.Line, problem)
	}
}

// TestEnvFiles compares whole files, beside variables of the process.
func TestEnvFiles(t *testing.T) {
	var files []struct {
		Case, File string
		Process    map[string]string `json:"process_env"`
		Result     struct {
			Error  string
			Loaded map[string]string
		}
	}
	if err := json.Unmarshal([]byte(read(t, "testdata/env/files.json")), &files); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		entries, err := dotenv.Parse(f.File, func(name string) (string, bool) {
			v, ok := f.Process[name]
			return v, ok
		})
		got := map[string]string{}
		for _, e := range entries {
			if _, ok := f.Process[e.Name]; !ok {
				got[e.Name] = e.Value
			}
		}
		problem := ""
		if (err != nil) != (f.Result.Error != "") || err == nil && !maps.Equal(got,
			f.Result.Loaded) {
			problem = fmt.Sprintf("got %q and %v, want %q and %s", got, err, f.Result.Loaded,
				f.Result.Error)
		}
		judge(t, f.Case, problem)
	}
	if len(files) < 28 {
		t.Errorf("only %d files", len(files))
	}
}

// same compares two texts of JSON.
func same(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && x == y
}

// judge fails the test for a problem that is not on the list, and for a case on the list without.
func judge(t *testing.T, name, problem string) {
	t.Helper()
	listed := slices.Contains(slices.Collect(maps.Keys(differences)), name)
	if (problem != "") != listed {
		t.Errorf("%q: on the list: %v; %s", name, listed, problem)
	}
}
