package web

import (
	"crypto/sha512"
	"encoding/base64"
	"os"
	"strings"
	"testing"
)

// TestReadmeHash holds the integrity hash in the README to resume.js.
func TestReadmeHash(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(resume)
	want := `/resume.js" integrity="sha384-` + base64.StdEncoding.EncodeToString(sum[:]) +
		`" crossorigin="anonymous"`
	if !strings.Contains(string(readme), want) {
		t.Errorf("the README lacks %s", want)
	}
}
