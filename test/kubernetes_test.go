package test

import (
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// manifests are the objects of deploy/kubernetes.yaml, by their names.
type manifests struct {
	configMaps  map[string]*core.ConfigMap
	deployments map[string]*apps.Deployment
	services    map[string]*core.Service
	budgets     map[string]*policy.PodDisruptionBudget
	scalers     map[string]*autoscaling.HorizontalPodAutoscaler
	policies    map[string]*networking.NetworkPolicy
}

// readManifests reads every object as Kubernetes' own type of that kind; a field that the type
// does not have, or has twice, is an error.
func readManifests(t *testing.T) *manifests {
	t.Helper()
	b, err := os.ReadFile("../deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{map[string]*core.ConfigMap{}, map[string]*apps.Deployment{},
		map[string]*core.Service{},
		map[string]*policy.PodDisruptionBudget{}, map[string]*autoscaling.HorizontalPodAutoscaler{},
		map[string]*networking.NetworkPolicy{}}
	for document := range strings.SplitSeq(string(b), "\n---\n") {
		var head struct {
			meta.TypeMeta   `json:",inline"`
			meta.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			t.Fatal(err)
		}
		if head.Labels["app.kubernetes.io/name"] != head.Name {
			t.Errorf("%s %s has the labels %v", head.Kind, head.Name, head.Labels)
		}
		var err error
		switch head.APIVersion + " " + head.Kind {
		case "v1 ConfigMap":
			m.configMaps[head.Name], err = strictly[core.ConfigMap](document)
		case "apps/v1 Deployment":
			m.deployments[head.Name], err = strictly[apps.Deployment](document)
		case "v1 Service":
			m.services[head.Name], err = strictly[core.Service](document)
		case "policy/v1 PodDisruptionBudget":
			m.budgets[head.Name], err = strictly[policy.PodDisruptionBudget](document)
		case "autoscaling/v2 HorizontalPodAutoscaler":
			m.scalers[head.Name], err = strictly[autoscaling.HorizontalPodAutoscaler](document)
		case "networking.k8s.io/v1 NetworkPolicy":
			m.policies[head.Name], err = strictly[networking.NetworkPolicy](document)
		default:
			t.Errorf("no test knows %s %s", head.APIVersion, head.Kind)
		}
		if err != nil {
			t.Errorf("%s %s: %v", head.Kind, head.Name, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return m
}

func strictly[T any](document string) (*T, error) {
	v := new(T)
	return v, yaml.UnmarshalStrict([]byte(document), v)
}

// TestKubernetes holds what must fit together in deploy/kubernetes.yaml, and its variables to
// the program.
func TestKubernetes(t *testing.T) {
	m := readManifests(t)
	d, env := m.deployments["reverb"], m.configMaps["reverb"].Data
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]

	// Whom each object selects.
	of := func(what string, selected map[string]string, name string) {
		t.Helper()
		if labels := m.deployments[name].Spec.Template.Labels; len(selected) == 0 ||
			!maps.Equal(labels, selected) {
			t.Errorf("%s selects %v, the pods have %v", what, selected, labels)
		}
	}
	for name, deployment := range m.deployments {
		of("the Deployment "+name, deployment.Spec.Selector.MatchLabels, name)
		of("the Service "+name, m.services[name].Spec.Selector, name)
		of("the NetworkPolicy "+name, m.policies[name].Spec.PodSelector.MatchLabels, name)
	}
	of("the PodDisruptionBudget", m.budgets["reverb"].Spec.Selector.MatchLabels, "reverb")
	of("the spread", pod.TopologySpreadConstraints[0].LabelSelector.MatchLabels, "reverb")
	of("who may reach Redis",
		m.policies["reverb-redis"].Spec.Ingress[0].From[0].PodSelector.MatchLabels, "reverb")

	// Ports that are named exist, in probes, Services and policies.
	for name, deployment := range m.deployments {
		ports := map[string]bool{}
		for _, p := range deployment.Spec.Template.Spec.Containers[0].Ports {
			ports[p.Name] = true
		}
		used := []string{m.services[name].Spec.Ports[0].TargetPort.StrVal}
		for _, rule := range m.policies[name].Spec.Ingress {
			used = append(used, rule.Ports[0].Port.StrVal)
		}
		for _, p := range []*core.Probe{deployment.Spec.Template.Spec.Containers[0].ReadinessProbe,
			deployment.Spec.Template.Spec.Containers[0].LivenessProbe,
			deployment.Spec.Template.Spec.Containers[0].StartupProbe} {
			if p != nil && p.HTTPGet != nil {
				used = append(used, p.HTTPGet.Port.StrVal)
			}
		}
		for _, p := range used {
			if !ports[p] {
				t.Errorf("%s has no port %q", name, p)
			}
		}
	}

	// A stop: preStop, the drain, and time to spare.
	grace, err := strconv.Atoi(env["REVERB_SHUTDOWN_GRACE"])
	if err != nil {
		t.Fatal(err)
	}
	if wait := c.Lifecycle.PreStop.Sleep.Seconds + int64(grace) +
		10; *pod.TerminationGracePeriodSeconds < wait {
		t.Errorf("a pod is killed after %d s, want at least %d", *pod.TerminationGracePeriodSeconds,
			wait)
	}
	if u := d.Spec.Strategy.RollingUpdate; u.MaxUnavailable.IntValue() != 0 ||
		m.budgets["reverb"].Spec.MaxUnavailable.IntValue() != 1 || d.Spec.Replicas != nil {
		t.Errorf("a roll-out may take %v, a disruption %v; replicas %v", u.MaxUnavailable,
			m.budgets["reverb"].Spec.MaxUnavailable, d.Spec.Replicas)
	}
	s := m.scalers["reverb"].Spec
	if s.ScaleTargetRef.Kind != "Deployment" || s.ScaleTargetRef.Name != "reverb" ||
		*s.MinReplicas < 2 {
		t.Errorf("the autoscaler: %+v", s)
	}

	// The secret is a file, that the variable names and the user can read.
	mount, volume := c.VolumeMounts[0], pod.Volumes[0]
	if path.Dir(env["REVERB_APP_SECRET_FILE"]) != mount.MountPath || mount.Name != volume.Name ||
		*volume.Secret.DefaultMode != 0o440 ||
		*pod.SecurityContext.FSGroup != *pod.SecurityContext.RunAsUser {
		t.Errorf("the secret %s, mounted at %s: %+v", env["REVERB_APP_SECRET_FILE"],
			mount.MountPath, volume.Secret)
	}
	for name := range env {
		if strings.HasSuffix(name, "SECRET") || strings.HasSuffix(name, "PASSWORD") {
			t.Errorf("%s is in the ConfigMap", name)
		}
	}
	if env["REVERB_REDIS_HOST"] != m.services["reverb-redis"].Name {
		t.Errorf("Redis is looked for at %s", env["REVERB_REDIS_HOST"])
	}

	// The admin port is for some, and has its own rule.
	for _, rule := range m.policies["reverb"].Spec.Ingress {
		if port := rule.Ports[0].Port.StrVal; len(rule.Ports) != 1 ||
			(port == "admin") != (len(rule.From) > 0) {
			t.Errorf("from %v everybody reaches %v", rule.From, rule.Ports)
		}
	}
	for name, deployment := range m.deployments {
		s := deployment.Spec.Template.Spec
		c := s.Containers[0].SecurityContext
		// The root of reverb's container has the control socket; nothing else there can be written.
		if !*s.SecurityContext.RunAsNonRoot || *c.AllowPrivilegeEscalation ||
			(c.ReadOnlyRootFilesystem != nil) != (name != "reverb") ||
			!slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) ||
			*s.AutomountServiceAccountToken {
			t.Errorf("%s has more rights than it needs", name)
		}
	}

	// A server with these variables, where nothing but the place of things differs, passes its
	// own probes.
	secret := write(t, t.TempDir(), "app-secret", []byte("app-secret"))
	var all []string
	for name, value := range env {
		switch name {
		case "REVERB_APP_SECRET_FILE":
			value = secret
		case "REVERB_ADMIN_LISTEN":
			value = "127.0.0.1:0"
		case "REVERB_SHUTDOWN_GRACE":
			value = "0"
		case "REVERB_REDIS_HOST":
			value = "127.0.0.1"
		case "REVERB_LOG_FORMAT":
			value = "text"
		}
		all = append(all, name+"="+value)
	}
	server := start(t, append(all, "REVERB_REDIS_PORT=1")...) // Redis is away
	server.mu.Lock()
	log := strings.Join(server.log, "\n")
	server.mu.Unlock()
	if strings.Contains(log, "is not a variable of this program") {
		t.Errorf("a variable is unknown: %s", log)
	}
	at := map[string]string{"ws": "http://" + server.addr,
		"admin": "http://" + adminAddr(t, server)}
	for _, p := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if code, text := get(t, at[p.HTTPGet.Port.StrVal]+p.HTTPGet.Path); code != 200 {
			t.Errorf("%s is answered %d %s", p.HTTPGet.Path, code, text)
		}
	}
	if code, _ := get(t, at["admin"]+"/metrics"); code != 200 {
		t.Errorf("metrics are answered %d", code)
	}
	if _, text := get(t, at["admin"]+"/metrics"); !strings.Contains(text,
		"\n"+s.Metrics[0].Pods.Metric.Name+"{") {
		t.Errorf("%s is not measured", s.Metrics[0].Pods.Metric.Name)
	}
}
