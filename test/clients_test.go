package test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// TestJavaScriptClients runs the tests of the clients that are written in
// JavaScript, in Node and in Chromium.
func TestJavaScriptClients(t *testing.T) {
	if _, err := os.Stat("node_modules"); err != nil {
		t.Fatal("node_modules is missing; run npm ci in test/ first")
	}
	cmd := exec.Command("npm", "test", "--silent")
	cmd.Env = append(os.Environ(), "REVERB_BINARY="+program)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range regexp.MustCompile(`(?m)^# (tests|pass|fail|skipped) \d+`).FindAllString(string(out), -1) {
		t.Log(line)
	}
}
