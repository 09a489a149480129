package test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// chroot is a small Debian in a folder.
type chroot struct {
	t    *testing.T
	root string
}

// newChroot installs Debian's essential packages into a folder, from where this machine has its
// own.
func newChroot(t *testing.T) *chroot {
	t.Helper()
	if !long() {
		t.Skip("takes minutes; REVERB_TEST_LONG=1 asks for it")
	}
	if os.Getuid() != 0 {
		t.Skip("only root may change its root")
	}
	need(t, "mmdebstrap")
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	_, codename, _ := strings.Cut(string(release), "VERSION_CODENAME=")
	codename, _, _ = strings.Cut(codename, "\n")
	args := []string{"-q", "--mode=root", "--variant=essential", "--include=passwd",
		"--format=directory", codename, filepath.Join(t.TempDir(), "root")}
	for _, list := range []string{"/etc/apt/sources.list.d/debian.sources",
		"/etc/apt/sources.list"} {
		if info, err := os.Stat(list); err == nil && info.Size() > 0 {
			args = append(args, list)
			break
		}
	}
	says(t, "mmdebstrap", args...)
	return &chroot{t, args[6]}
}

// systemd makes the folder look as if systemd ran there, with a systemctl that writes down how
// it was called.
func (c *chroot) systemd() {
	c.t.Helper()
	if err := os.MkdirAll(c.root+"/run/systemd/system", 0o755); err != nil {
		c.t.Fatal(err)
	}
	os.Chmod(write(c.t, c.root+"/usr/bin", "systemctl",
		[]byte("#!/bin/sh\necho \"$*\" >>/systemctl.log\n")), 0o755)
}

// asked compares what systemctl has been asked for since the last call.
func (c *chroot) asked(step string, want ...string) {
	c.t.Helper()
	b, err := os.ReadFile(c.root + "/systemctl.log")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	os.Remove(c.root + "/systemctl.log")
	if got := string(b); got != strings.Join(append(want, ""), "\n") {
		c.t.Errorf("%s: systemctl was asked\n%s\nwant\n%s", step, got, strings.Join(want, "\n"))
	}
}

func (c *chroot) run(args ...string) string {
	c.t.Helper()
	return says(c.t, "chroot", append([]string{c.root, "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}, args...)...)
}

// has compares which of the files are there.
func (c *chroot) has(step string, there bool, names ...string) {
	c.t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(c.root + name); (err == nil) != there {
			c.t.Errorf("%s: %s: %v, want it there: %v", step, name, err, there)
		}
	}
}

func (c *chroot) version(step, want string) {
	c.t.Helper()
	if got := c.run("reverb", "version"); !strings.HasPrefix(got, "reverb "+want+" (") {
		c.t.Errorf("%s: %s, want %s", step, got, want)
	}
}

// edit is what an operator does after the installation.
func (c *chroot) edit() {
	c.t.Helper()
	write(c.t, c.root+"/etc/reverb", "reverb.env", []byte("REVERB_APP_ID=7\n"))
	write(c.t, c.root+"/etc/reverb", "app-secret", []byte("s3cret"))
}

func (c *chroot) edited(step, name string) {
	c.t.Helper()
	if b, err := os.ReadFile(c.root + name); err != nil || string(b) != "REVERB_APP_ID=7\n" {
		c.t.Errorf("%s: what the operator has written is lost: %q, %v", step, b, err)
	}
}

// put copies the package of a version of the release into the folder.
func (c *chroot) put(version, pattern string) string {
	c.t.Helper()
	folder := versions[version]
	if folder == "" {
		source, err := repository()
		if err != nil {
			c.t.Fatal(err)
		}
		if folder, err = makeRelease(source, version, nil, "linux/amd64"); err != nil {
			c.t.Fatal(err)
		}
		versions[version] = folder
	}
	from := only(c.t, folder+"/"+pattern)
	b, err := os.ReadFile(from)
	if err != nil {
		c.t.Fatal(err)
	}
	write(c.t, c.root, filepath.Base(from), b)
	return "/" + filepath.Base(from)
}

// versions are the folders of releases for linux/amd64 that tests have made.
var versions = map[string]string{}

const (
	unitFile   = "/usr/lib/systemd/system/reverb.service"
	socketFile = "/usr/lib/systemd/system/reverb.socket"
)

// TestReleaseDebian installs, upgrades, removes and purges the .deb in a Debian of its own,
// without systemd and with one.
func TestReleaseDebian(t *testing.T) {
	c := newChroot(t)
	first, second := c.put("1.1.0", "*.deb"), c.put("1.2.0", "*.deb")

	c.run("dpkg", "-i", first)
	c.version("without systemd", "1.1.0")
	c.run("dpkg", "--purge", "reverb")
	c.has("purged without systemd", false, "/usr/bin/reverb", "/etc/reverb", unitFile,
		"/usr/share/doc/reverb")

	c.systemd()
	said := c.run("dpkg", "-i", first)
	c.asked("installed", "daemon-reload")
	c.version("installed", "1.1.0")
	c.has("installed", true, unitFile, socketFile, "/etc/reverb/reverb.env")
	if !strings.Contains(said, "/etc/reverb/app-secret") {
		t.Errorf("nothing says what to do next: %s", said)
	}
	if got := c.run("getent", "passwd", "reverb"); !strings.Contains(got,
		":/nonexistent:/usr/sbin/nologin") {
		t.Errorf("the user is %s", got)
	}
	c.edit()
	write(t, c.root+"/etc/systemd/system", "reverb.service", []byte("[Service]\n"))
	said = c.run("dpkg", "-i", "--force-confold", second)
	c.asked("upgraded", "daemon-reload", "try-restart reverb.service")
	c.version("upgraded", "1.2.0")
	c.edited("upgraded", "/etc/reverb/reverb.env")
	if !strings.Contains(said,
		"/etc/systemd/system/reverb.service hides the unit of this package") ||
		strings.Contains(said, "app-secret") {
		t.Errorf("the upgrade says %s", said)
	}
	c.run("dpkg", "--remove", "reverb")
	c.asked("removed", "--no-reload disable --now reverb.socket reverb.service", "daemon-reload")
	c.has("removed", false, "/usr/bin/reverb", unitFile, socketFile)
	c.edited("removed", "/etc/reverb/reverb.env")
	c.run("dpkg", "-i", "--force-confold", second)
	c.edited("installed again", "/etc/reverb/reverb.env")
	c.asked("installed again", "daemon-reload", "try-restart reverb.service")
	c.run("dpkg", "--purge", "reverb")
	c.asked("purged", "--no-reload disable --now reverb.socket reverb.service", "daemon-reload")
	c.has("purged", false, "/usr/bin/reverb", "/etc/reverb", unitFile, socketFile,
		"/usr/share/doc/reverb")
	c.run("getent", "passwd", "reverb") // files may belong to it

	// A systemd that cannot start the new version does not leave a broken package.
	c.run("dpkg", "-i", first)
	os.Chmod(write(t, c.root+"/usr/bin", "systemctl", []byte("#!/bin/sh\nexit 1\n")), 0o755)
	if said := c.run("dpkg", "-i", second); !strings.Contains(said,
		"reverb: the new version does not start") {
		t.Errorf("nothing says that the new version does not start: %s", said)
	}
	if got := c.run("dpkg-query", "-W", "-f", "${Status} ${Version}",
		"reverb"); got != "install ok installed 1.2.0" {
		t.Errorf("the package is %s", got)
	}
}

// TestReleaseRPM does the same with the .rpm, whose scripts run in the same Debian.
func TestReleaseRPM(t *testing.T) {
	c := newChroot(t)
	need(t, "rpm")
	first, second := c.put("1.1.0", "*.rpm"), c.put("1.2.0", "*.rpm")
	rpm := func(args ...string) string {
		t.Helper()
		return says(t, "rpm", append([]string{"--root", c.root, "--nodeps", "--nosignature"},
			args...)...)
	}
	rpm("-i", c.root+first)
	c.version("without systemd", "1.1.0")
	rpm("-e", "reverb")
	c.has("removed without systemd", false, "/usr/bin/reverb", "/etc/reverb", unitFile)

	c.systemd()
	rpm("-i", c.root+first)
	c.asked("installed", "daemon-reload")
	c.version("installed", "1.1.0")
	c.has("installed", true, unitFile, socketFile, "/etc/reverb/reverb.env")
	c.run("getent", "passwd", "reverb")
	c.edit()
	rpm("-U", c.root+second)
	c.asked("upgraded", "daemon-reload", "try-restart reverb.service")
	c.version("upgraded", "1.2.0")
	c.edited("upgraded", "/etc/reverb/reverb.env")
	rpm("-e", "reverb")
	c.asked("removed", "--no-reload disable --now reverb.socket reverb.service", "daemon-reload")
	c.has("removed", false, "/usr/bin/reverb", unitFile, socketFile, "/etc/reverb/reverb.env")
	c.edited("removed", "/etc/reverb/reverb.env.rpmsave")
}
