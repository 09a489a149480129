package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// measuredByAll gives the names of what a server measures that has everything switched on.
func measuredByAll(t *testing.T) map[string]bool {
	t.Helper()
	need(t, "promtool")
	need(t, "redis-server")
	redis := oddPort(t)
	background(t, "redis-server", "--port", redis, "--bind", "127.0.0.1", "--save", "", "--dir",
		t.TempDir())
	answers(t, "127.0.0.1:"+redis)
	made := newAuthority(t).issue("localhost", -1, 90)
	s := start(t, append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0", "REVERB_SCALING_ENABLED=true",
		"REVERB_REDIS_PORT="+redis,
		"REVERB_TLS_CERT="+write(t, t.TempDir(), "tls.pem", made.cert, made.key))...)
	_, text := get(t, "http://"+adminAddr(t, s)+"/metrics")
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	measured := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)[{ ]`).FindAllStringSubmatch(text, -1) {
		measured[m[1]] = true
	}
	return measured
}

// TestAlerts holds deploy/alerts.yml to Prometheus' parser, to what a server measures, and to
// testdata/alerts_test.yml, in which every alert must fire.
func TestAlerts(t *testing.T) {
	measured := measuredByAll(t)
	b, err := os.ReadFile("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\breverb_[a-z_]+`).FindAllString(string(b), -1) {
		if !measured[name] {
			t.Errorf("an alert looks at %s, which is not measured", name)
		}
	}
	for _, args := range [][]string{{"check", "rules", "../deploy/alerts.yml"},
		{"test", "rules", "testdata/alerts_test.yml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
	fires, err := os.ReadFile("testdata/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(b), -1)
	for _, alert := range alerts {
		if !regexp.MustCompile(`(?m)- alertname: ` + alert[1] +
			`\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels: {`).Match(fires) {
			t.Errorf("no test lets %s fire", alert[1])
		}
	}
	t.Logf("%d alerts", len(alerts))
}

// TestDashboard compares deploy/grafana.json with the metrics of a server that has everything
// switched on, and its queries with Prometheus' own parser.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	measured := measuredByAll(t)
	fill := strings.NewReplacer("${prefix}", "reverb_", "$__rate_interval", "1m", "$job", ".*",
		"$instance", ".*")
	rules := "groups:\n- name: dashboard\n  rules:\n"
	shown, queries := map[string]bool{}, 0
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expr := fill.Replace(target.Expr)
			for _, name := range regexp.MustCompile(`[a-z_]+\{`).FindAllString(expr, -1) {
				if name = strings.TrimSuffix(name, "{"); !measured[name] {
					t.Errorf("the panel %q shows %s, which is not measured", p.Title, name)
				}
				shown[name] = true
			}
			quoted, err := json.Marshal(expr) // as YAML takes it too
			if err != nil {
				t.Fatal(err)
			}
			rules += "  - record: panel\n    labels: {n: \"" + strings.Repeat("i", queries+1) +
				"\"}\n    expr: " + string(quoted) + "\n"
			queries++
		}
	}
	file := write(t, t.TempDir(), "rules.yml", []byte(rules))
	if out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	for name := range measured {
		name = regexp.MustCompile(`_(count|sum)$`).ReplaceAllString(name, "_bucket")
		if strings.HasPrefix(name, "reverb_") && !shown[name] {
			t.Errorf("%s is measured and not shown", name)
		}
	}
	t.Logf("%d panels, %d queries of %d metrics", len(dashboard.Panels), queries, len(shown))
}
