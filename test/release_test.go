package test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sigs.k8s.io/yaml"
)

// repository copies what git knows of this checkout, with what is not committed yet, into a
// repository of one commit, whose hash depends on the content alone.
var repository = sync.OnceValues(func() (folder string, err error) {
	if folder, err = os.MkdirTemp(releases, "source"); err != nil {
		return "", err
	}
	list, err := exec.Command("git", "-C", "..", "ls-files", "-z", "--cached", "--others",
		"--exclude-standard").Output()
	if err != nil {
		return "", fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		source, target := filepath.Join("..", name), filepath.Join(folder, name)
		info, err := os.Lstat(source)
		if errors.Is(err, os.ErrNotExist) { // deleted, and that is not committed
			continue
		} else if err != nil {
			return "", err
		}
		content, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(target, content, info.Mode().Perm()); err != nil {
			return "", err
		}
	}
	const who, when = "test <test@localhost>", "2026-02-03T04:05:06Z"
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"},
		{"commit", "-q", "-m", "everything", "--author", who, "--date", when}} {
		git := exec.Command("git", append([]string{"-C", folder, "-c", "user.name=test", "-c",
			"user.email=test@localhost", "-c", "commit.gpgsign=false"}, args...)...)
		git.Env = append(os.Environ(), "GIT_COMMITTER_DATE="+when)
		if out, err := git.CombinedOutput(); err != nil {
			return "", fmt.Errorf("git %s: %w\n%s", args[0], err, out)
		}
	}
	return folder, nil
})

// makeRelease runs deploy/release of a repository and gives the folder of the release.
func makeRelease(repository, version string, env []string, platforms ...string) (folder string,
	err error) {
	if folder, err = os.MkdirTemp(releases, "release"); err != nil {
		return "", err
	}
	cmd := command(filepath.Join(repository, "deploy/release"),
		append([]string{version, folder}, platforms...)...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("deploy/release: %w\n%s", err, out)
	}
	return folder, nil
}

// released is a release for linux/amd64 and windows/amd64, made once for all tests.
var released = sync.OnceValues(func() (folder string, err error) {
	source, err := repository()
	if err != nil {
		return "", err
	}
	return makeRelease(source, "1.2.3", nil, "linux/amd64", "windows/amd64")
})

func release(t *testing.T) string {
	t.Helper()
	need(t, "git")
	folder, err := released()
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %q, %v; want one file", pattern, names, err)
	}
	return names[0]
}

// says runs a program of the system's and gives what it printed.
func says(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func sumOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// unpackTar gives the content of each file of a tar.gz, and the mode that it has there.
func unpackTar(t *testing.T, file string) (content map[string]string, modes map[string]int64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, modes = map[string]string{}, map[string]int64{}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if err == io.EOF {
			return content, modes
		} else if err != nil {
			t.Fatal(err)
		}
		if got := h.ModTime.UTC().Format("2006-01-02T15:04:05"); got != "2026-02-03T04:05:06" ||
			h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is of %s and of %d:%d, want the commit's time and root", h.Name, got,
				h.Uid, h.Gid)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[h.Name], modes[h.Name] = string(b), h.Mode
	}
}

// inArchive is what every archive must have besides the program.
func inArchive(t *testing.T, base string, content map[string]string) {
	t.Helper()
	for _, name := range []string{"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md",
		"deploy/README.md", "deploy/install.sh",
		"deploy/reverb.service", "deploy/reverb.socket", "deploy/reverb.env.example",
		"deploy/kubernetes.yaml", "deploy/alerts.yml", "deploy/Containerfile.binary"} {
		want, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if content[base+name] != string(want) {
			t.Errorf("%s of the archive is not that of the source", name)
		}
	}
	for name := range content {
		if strings.Contains(name, "packaging") || strings.HasSuffix(name, "deploy/release") ||
			strings.HasSuffix(name, ".go") {
			t.Errorf("the archive has %s, which needs the source", name)
		}
	}
}

// TestReleaseFiles looks at a release for two platforms: names, sums, archives, the SBOM.
func TestReleaseFiles(t *testing.T) {
	folder := release(t)
	var names, wrong []string
	sums, err := os.ReadFile(filepath.Join(folder, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if names = append(names, name); sumOf(t, filepath.Join(folder, name)) != sum {
			wrong = append(wrong, name)
		}
	}
	want := []string{"install.sh", "reverb-1.2.3-1.x86_64.rpm", "reverb-1.2.3-image.tar",
		"reverb-1.2.3-linux-amd64.cdx.json", "reverb-1.2.3-linux-amd64.tar.gz",
		"reverb-1.2.3-windows-amd64.cdx.json", "reverb-1.2.3-windows-amd64.zip",
		"reverb_1.2.3_amd64.deb"}
	if !slices.Equal(names, want) || len(wrong) > 0 {
		t.Errorf("SHA256SUMS names %q, want %q; the sums of %q are wrong", names, want, wrong)
	}
	all, err := os.ReadDir(folder)
	if err != nil || len(all) != len(want)+1 {
		t.Errorf("%d files beside SHA256SUMS, %v; want %d", len(all)-1, err, len(want))
	}

	const base = "reverb-1.2.3-linux-amd64/"
	content, modes := unpackTar(t, filepath.Join(folder, "reverb-1.2.3-linux-amd64.tar.gz"))
	inArchive(t, base, content)
	if modes[base+"reverb"] != 0o755 || modes[base+"deploy/install.sh"] != 0o755 ||
		modes[base+"README.md"] != 0o644 {
		t.Errorf("modes are %v", modes)
	}
	binary := write(t, t.TempDir(), "reverb", []byte(content[base+"reverb"]))
	os.Chmod(binary, 0o755)
	if size := len(content[base+"reverb"]); size > 11_010_048 {
		t.Errorf("the program has %d bytes, want at most 11,010,048", size)
	}
	if out := says(t, binary, "version"); !strings.HasPrefix(out, "reverb 1.2.3 (") {
		t.Errorf("version: %s", out)
	}
	source, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	if revision := strings.TrimSpace(says(t, "git", "-C", source, "rev-parse",
		"HEAD")); !strings.Contains(content[base+"reverb"], revision) {
		t.Errorf("the program does not know its revision, %s", revision)
	}
	bom(t, filepath.Join(folder, "reverb-1.2.3-linux-amd64.cdx.json"), binary)

	zipped, err := zip.OpenReader(filepath.Join(folder, "reverb-1.2.3-windows-amd64.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer zipped.Close()
	content = map[string]string{}
	for _, f := range zipped.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[f.Name] = string(b)
		if f.Modified.UTC().Format("2006-01-02T15:04:05") != "2026-02-03T04:05:06" {
			t.Errorf("%s is of %v", f.Name, f.Modified)
		}
	}
	inArchive(t, "reverb-1.2.3-windows-amd64/", content)
	if program := content["reverb-1.2.3-windows-amd64/reverb.exe"]; !strings.HasPrefix(program,
		"MZ") {
		t.Errorf("reverb.exe is no program: %.20q", program)
	}
}

// bom compares an SBOM with what Go has noted in the program.
func bom(t *testing.T, file, binary string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SpecVersion, SerialNumber string
		Metadata                             struct {
			Timestamp  string
			Component  struct{ Name, Version string }
			Properties []struct{ Name, Value string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(b, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Errorf("the SBOM is %s with serial number %q and time %q, want CycloneDX without both",
			bom.BOMFormat, bom.SerialNumber, bom.Metadata.Timestamp)
	}
	if c := bom.Metadata.Component; c.Name != "reverb" || c.Version != "v1.2.3" {
		t.Errorf("the SBOM is of %v, want reverb v1.2.3", c)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{"std": info.GoVersion}, map[string]string{}
	for _, m := range info.Deps {
		want[m.Path] = m.Version
	}
	for _, c := range bom.Components {
		got[c.Name] = c.Version
	}
	if !maps.Equal(got, want) {
		t.Errorf("the SBOM has %v, the program %v", got, want)
	}
	sum := sumOf(t, binary)
	if !slices.ContainsFunc(bom.Metadata.Properties, func(p struct{ Name, Value string }) bool {
		return p.Name == "cdx:gomod:binary:hash:SHA-256" && p.Value == sum
	}) {
		t.Errorf("the SBOM does not name the program by its sum, %s", sum)
	}
}

// packaged are the files of both packages and their modes.
var packaged = map[string]string{
	"/usr/bin/reverb":                                      "-rwxr-xr-x",
	"/usr/lib/systemd/system/reverb.service":               "-rw-r--r--",
	"/usr/lib/systemd/system/reverb.socket":                "-rw-r--r--",
	"/etc/reverb":                                          "drwxr-xr-x",
	"/etc/reverb/reverb.env":                               "-rw-------",
	"/usr/share/doc/reverb/README.md":                      "-rw-r--r--",
	"/usr/share/doc/reverb/CHANGELOG.md":                   "-rw-r--r--",
	"/usr/share/doc/reverb/deploy/README.md":               "-rw-r--r--",
	"/usr/share/doc/reverb/deploy/Caddyfile":               "-rw-r--r--",
	"/usr/share/doc/reverb/deploy/migrate.md":              "-rw-r--r--",
	"/usr/share/doc/reverb/deploy/pulse/ReverbMetrics.php": "-rw-r--r--",
}

// helps are the files for shells and for man, which the program makes.
var helps = map[string][]string{
	"both": {"/usr/share/bash-completion/completions/reverb",
		"/usr/share/fish/vendor_completions.d/reverb.fish", "/usr/share/man/man1/reverb.1.gz"},
	"deb": {"/usr/share/zsh/vendor-completions/_reverb"},
	"rpm": {"/usr/share/zsh/site-functions/_reverb"},
}

func madeByProgram(kind string) []string {
	return slices.Concat(helps["both"], helps[kind])
}

// TestReleasePackages looks into the packages: files, modes, fields, scripts, the unit.
func TestReleasePackages(t *testing.T) {
	folder := release(t)
	deb := only(t, folder+"/*.deb")
	need(t, "dpkg-deb")
	scripts := func(name, got string) {
		t.Helper()
		want, err := os.ReadFile("../deploy/packaging/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not what the package runs: %q", name, got)
		}
		says(t, "sh", "-n", "../deploy/packaging/"+name)
	}
	root, control := t.TempDir(), t.TempDir()
	says(t, "dpkg-deb", "-x", deb, root)
	says(t, "dpkg-deb", "-e", deb, control)
	for name, mode := range packaged {
		if info, err := os.Lstat(root + name); err != nil || info.Mode().String() != mode {
			t.Errorf("%s of the .deb: %v, %v; want %s", name, info, err, mode)
		}
	}
	for _, name := range madeByProgram("deb") {
		if info, err := os.Lstat(root + name); err != nil || info.Size() == 0 {
			t.Errorf("%s of the .deb: %v, %v", name, info, err)
		}
	}
	read := func(file string) string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	scripts("after-install.sh", read(control+"/postinst"))
	scripts("before-remove.sh", read(control+"/prerm"))
	scripts("after-remove.sh", read(control+"/postrm"))
	if got := read(control + "/conffiles"); got != "/etc/reverb/reverb.env\n" {
		t.Errorf("conffiles: %q", got)
	}
	unit, own := read(root+"/usr/lib/systemd/system/reverb.service"),
		read("../deploy/reverb.service")
	if strings.ReplaceAll(own, "/usr/local/bin/", "/usr/bin/") != strings.Replace(unit,
		"# /usr/lib/", "# /etc/", 1) || strings.Contains(unit, "/usr/local") {
		t.Error("the unit of the package differs from deploy/reverb.service by more than its paths")
	}
	if _, err := os.Lstat(root + "/usr/share/doc/reverb/deploy/reverb.service"); err == nil {
		t.Error("the package has the unit for /usr/local/bin too")
	}
	if fields := says(t, "dpkg-deb", "-f", deb, "Package", "Version",
		"Architecture"); fields != "Package: reverb\nVersion: 1.2.3\nArchitecture: amd64\n" {
		t.Errorf("the .deb: %s", fields)
	}

	need(t, "rpm")
	rpm := only(t, folder+"/*.rpm")
	modes := map[string]string{}
	for line := range strings.Lines(says(t, "rpm", "-qp", "--queryformat",
		`[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]`, rpm)) {
		f := strings.Fields(line)
		if modes[f[2]] = f[0]; f[1] != "root" {
			t.Errorf("%s of the .rpm belongs to %s", f[2], f[1])
		}
	}
	for name, mode := range packaged {
		if modes[name] != mode {
			t.Errorf("%s of the .rpm has mode %q, want %s", name, modes[name], mode)
		}
	}
	for _, name := range madeByProgram("rpm") {
		if modes[name] != "-rw-r--r--" {
			t.Errorf("%s of the .rpm has mode %q", name, modes[name])
		}
	}
	if modes["/usr/bin"] != "" {
		t.Error("the .rpm claims /usr/bin")
	}
	if got := says(t, "rpm", "-qp", "--configfiles", rpm); got != "/etc/reverb/reverb.env\n" {
		t.Errorf("configfiles: %q", got)
	}
	for tag, name := range map[string]string{"POSTIN": "after-install.sh",
		"PREUN": "before-remove.sh", "POSTUN": "after-remove.sh"} {
		scripts(name, says(t, "rpm", "-qp", "--queryformat", "%{"+tag+"}", rpm))
	}
	if got := says(t, "rpm", "-qp", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} "+
		"%{BUILDHOST} %{BUILDTIME}", rpm); got != "reverb 1.2.3-1 x86_64 localhost 1770091506" {
		t.Errorf("the .rpm: %s", got)
	}
}

// TestReleaseImage compares the image with Containerfile.binary, and runs it.
func TestReleaseImage(t *testing.T) {
	buildah, store := imageStore(t)
	id := strings.TrimSpace(buildah("pull", "-q",
		"oci-archive:"+only(t, release(t)+"/*-image.tar")))
	var image struct {
		OCIv1 struct {
			Architecture, OS string
			Config           struct {
				User, StopSignal string
				Entrypoint       []string
				ExposedPorts     map[string]struct{}
				Labels           map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(buildah("inspect", "--type", "image", id)),
		&image); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../deploy/Containerfile.binary")
	if err != nil {
		t.Fatal(err)
	}
	c := image.OCIv1.Config
	for want, got := range map[string]string{"USER": c.User, "STOPSIGNAL": c.StopSignal,
		"ENTRYPOINT": fmt.Sprintf("[%q]", c.Entrypoint[0]),
		"EXPOSE":     strings.Join(slices.Sorted(maps.Keys(c.ExposedPorts)), " ")} {
		m := regexp.MustCompile(`(?m)^` + want + ` (.*)$`).FindSubmatch(file)
		if m == nil || strings.TrimSuffix(got, "/tcp") != string(m[1]) {
			t.Errorf("%s is %q, Containerfile.binary says %s", want, got, m)
		}
	}
	label := regexp.MustCompile(
		`(org\.opencontainers\.image\.\w+)=("?)([^"\s]*|"[^"]*"|[^"]*)"? ?\\?\n`)
	for _, m := range label.FindAllStringSubmatch(string(file), -1) {
		want := m[3]
		switch {
		case want == "$VERSION":
			want = "1.2.3"
		case want == "$REVISION":
			source, err := repository()
			if err != nil {
				t.Fatal(err)
			}
			want = strings.TrimSpace(says(t, "git", "-C", source, "rev-parse", "HEAD"))
		}
		if c.Labels[m[1]] != want {
			t.Errorf("the label %s is %q, want %q", m[1], c.Labels[m[1]], want)
		}
	}
	if c.Labels["org.opencontainers.image.created"] != "2026-02-03T04:05:06Z" ||
		image.OCIv1.Architecture != "amd64" || image.OCIv1.OS != "linux" {
		t.Errorf("the image: %+v", image.OCIv1)
	}
	// buildah shows no health check of an OCI image; Docker reads it from the configuration.
	config := says(t, "sh", "-c", `for f in $(tar tf "$1" | grep blobs/sha256/.); do tar xOf `+
		`"$1" "$f" | head -c 4000 | grep -a '^{"architecture"' || :; done`, "sh",
		only(t, release(t)+"/*-image.tar"))
	if !strings.Contains(config, `"Healthcheck":{"Test":["CMD","/reverb","health"],`+
		`"Interval":10000000000,"Timeout":5000000000,"StartPeriod":5000000000}`) {
		t.Errorf("there is no health check in %s", config)
	}
	container := buildah("from", "--pull-never", id)
	t.Cleanup(func() { buildah("rm", container) })
	mounted := buildah("mount", container)
	roots, err := os.ReadFile(filepath.Join(mounted, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || bytes.Count(roots, []byte("BEGIN CERTIFICATE")) < 80 {
		t.Errorf("%d bytes of certificates, %v", len(roots), err)
	}
	binary, err := os.Stat(filepath.Join(mounted, "reverb"))
	if err != nil || binary.Size()+int64(len(roots)) > 11_300_000 {
		t.Errorf("%v, %v; want at most 11,300,000 bytes", binary, err)
	}
	runsInside(t, store, container)
}

// TestInstallEntries refuses an archive with a link or a pipe in it, whose sum is right.
func TestInstallEntries(t *testing.T) {
	script, err := filepath.Abs("../deploy/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	const base = "reverb-1.2.3-linux-amd64"
	for i, hostile := range []func(path string) error{
		func(path string) error { return os.Symlink("/etc/hostname", path) },
		func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		dir, tools := t.TempDir(), t.TempDir()
		write(t, dir, base+"/LICENSE", []byte("text"))
		if err := hostile(filepath.Join(dir, base, "reverb")); err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(dir, base+".tar.gz")
		pack := command("tar", "-czf", archive, "-C", dir, base)
		if out, err := pack.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		write(t, dir, "SHA256SUMS", []byte(sumOf(t, archive)+"  "+base+".tar.gz\n"))
		os.Chmod(write(t, tools, "uname", []byte(
			"#!/bin/sh\n[ \"$1\" = -s ] && echo Linux || echo x86_64\n")), 0o755)
		prefix := filepath.Join(t.TempDir(), "prefix")
		cmd := command("sh", script, dir)
		cmd.Env = []string{"PATH=" + tools + ":" + os.Getenv("PATH"), "PREFIX=" + prefix}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "neither files nor folders") {
			t.Errorf("%d: got %v and %s", i, err, out)
		}
		if _, err := os.Stat(prefix); err == nil {
			t.Errorf("%d: %s was made", i, prefix)
		}
	}
}

// TestInstallScript installs from a folder and over HTTP, with each of the tools that it can
// use, and refuses what is not whole.
func TestInstallScript(t *testing.T) {
	folder := release(t)
	script := filepath.Join(folder, "install.sh")
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	defer server.Close()
	// tools makes a folder of links to programs, which is all that the script then finds.
	tools := func(names ...string) string {
		t.Helper()
		dir := t.TempDir()
		for _, name := range append(names, "sh", "uname", "tr", "mktemp", "grep", "wc", "cut",
			"tar", "gzip", "mkdir", "cp", "chmod", "mv", "rm") {
			need(t, name)
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	install := func(path string, args ...string) (said string, prefix string, err error) {
		t.Helper()
		prefix = filepath.Join(t.TempDir(), "prefix")
		cmd := command("sh", append([]string{script}, args...)...)
		cmd.Env = []string{"PATH=" + path, "PREFIX=" + prefix, "TMPDIR=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		if left, _ := filepath.Glob(cmd.Env[2][len("TMPDIR="):] + "/*"); len(left) > 0 {
			t.Errorf("%q is left behind", left)
		}
		return string(out), prefix, err
	}
	for _, tt := range []struct {
		name, path, from string
	}{
		{"its own folder", tools("sha256sum"), ""},
		{"a folder", tools("shasum", "perl"), folder + "/"},
		{"HTTP by curl", tools("sha256sum", "curl"), server.URL},
		{"HTTP by wget", tools("sha256sum", "wget"), server.URL + "/"},
	} {
		said, prefix, err := install(tt.path, strings.Fields(tt.from)...)
		want := prefix + "/bin/reverb: reverb 1.2.3 ("
		if err != nil || !strings.HasPrefix(said, want) || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: %v\n%s", tt.name, err, said)
		}
		if info, err := os.Stat(prefix + "/bin/reverb"); err != nil || info.Mode() != 0o755 {
			t.Errorf("%s: %v, %v", tt.name, info, err)
		}
	}
	usual := tools("sha256sum", "curl")
	other := filepath.Join(t.TempDir(), "other")
	if said, _, err := install(usual, "--prefix", other); err != nil ||
		!strings.HasPrefix(said, other+"/bin/reverb: ") {
		t.Errorf("--prefix: %v\n%s", err, said)
	}
	if said, _, err := install(usual, "--help"); err != nil || !strings.HasPrefix(said, "usage: ") {
		t.Errorf("--help: %v\n%s", err, said)
	}

	// A release with one bit turned over, and one cut short.
	spoil := func(change func(archive []byte) []byte) string {
		t.Helper()
		dir := t.TempDir()
		for _, name := range []string{"SHA256SUMS", "reverb-1.2.3-linux-amd64.tar.gz"} {
			b, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			if name != "SHA256SUMS" {
				b = change(b)
			}
			write(t, dir, name, b)
		}
		return dir
	}
	turned := spoil(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	short := spoil(func(b []byte) []byte { return b[:len(b)/2] })
	mac := tools("sha256sum")
	os.Remove(mac + "/uname")
	os.Chmod(write(t, mac, "uname", []byte(
		"#!/bin/sh\n[ \"$1\" = -s ] && echo Darwin || echo arm64\n")), 0o755)
	nowhere := httptest.NewServer(http.NotFoundHandler())
	defer nowhere.Close()
	for _, tt := range []struct {
		path, from, want string
	}{
		{usual, turned, "reverb-1.2.3-linux-amd64.tar.gz has the SHA-256 sum " +
			sumOf(t, turned+"/reverb-1.2.3-linux-amd64.tar.gz") + ", but SHA256SUMS says " +
			sumOf(t, folder+"/reverb-1.2.3-linux-amd64.tar.gz") + "; nothing was installed"},
		{usual, short, "; nothing was installed"},
		{tools(), folder, "neither sha256sum nor shasum is here"},
		{tools("sha256sum"), server.URL, "neither curl nor wget is here"},
		{usual, nowhere.URL, nowhere.URL + "/SHA256SUMS cannot be fetched"},
		{tools("sha256sum", "wget"), nowhere.URL, nowhere.URL + "/SHA256SUMS cannot be fetched"},
		{usual, t.TempDir(), "/SHA256SUMS cannot be read"},
		{mac, folder, "has nothing for darwin on arm64"},
	} {
		said, prefix, err := install(tt.path, tt.from)
		// after what curl says
		last := said[strings.LastIndexByte(strings.TrimSuffix(said, "\n"), '\n')+1:]
		if err == nil || !strings.HasPrefix(last, "install.sh: ") ||
			!strings.Contains(last, tt.want) {
			t.Errorf("from %s: %v\n%s\nwant %q", tt.from, err, said, tt.want)
		}
		if _, err := os.Stat(prefix); err == nil {
			t.Errorf("from %s: %s was made", tt.from, prefix)
		}
	}

	// However much of the script has come, nothing happens before its last line.
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	prefix := filepath.Join(t.TempDir(), "prefix")
	each(len(lines), 4, func(i int) {
		cmd := command("sh", "-s", "--", folder)
		cmd.Stdin = strings.NewReader(strings.Join(lines[:i], "") + lines[i][:len(lines[i])/2])
		cmd.Env = []string{"PATH=" + usual, "PREFIX=" + prefix}
		cmd.Run()
	})
	if _, err := os.Stat(prefix); err == nil {
		t.Error("half the script has installed something")
	}
	cmd := command("sh", "-s", "--", folder)
	cmd.Stdin, cmd.Env = bytes.NewReader(text), []string{"PATH=" + usual, "PREFIX=" + prefix}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), prefix) {
		t.Errorf("the whole script from standard input: %v\n%s", err, out)
	}
}

// TestReleaseSame makes two releases from two clones in different folders, with caches of their
// own, the second without network and with settings of Go; their sums must be the same.
func TestReleaseSame(t *testing.T) {
	if !long() {
		t.Skip("takes minutes; REVERB_TEST_LONG=1 asks for it")
	}
	source, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	settings := write(t, t.TempDir(), "env", // of go env -w
		[]byte("GOEXPERIMENT=nodwarf5\nGOFIPS140=latest\nGOAMD64=v3\nGOPROXY=off\n"))
	for i, env := range [][]string{nil, {"GOENV=" + settings, "GOFLAGS=-mod=mod",
		"TZ=Pacific/Auckland", "GOAMD64=v2", "SOURCE_DATE_EPOCH=1"}} {
		clone := filepath.Join(t.TempDir(), strings.Repeat("deeper/", 3*i), "clone")
		says(t, "git", "clone", "-q", source, clone)
		folder, err := makeRelease(clone, "1.2.3", append(env, "GOCACHE="+t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(folder, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(b)
	}
	if sums[0] != sums[1] {
		t.Errorf("the sums differ:\n%s\n%s", sums[0], sums[1])
	}
	if n := strings.Count(sums[0], "\n"); n != 18 {
		// 6 archives, 6 SBOMs, 4 packages, image, install.sh
		t.Errorf("%d files:\n%s", n, sums[0])
	}
	t.Logf("two releases have the same sums:\n%s", sums[0])
}

// TestWorkflow holds the workflow to what it runs: scripts and parts that exist, and the Go of
// go.mod.
func TestWorkflow(t *testing.T) {
	b, err := os.ReadFile("../.github/workflows/ci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Container struct{ Image string }
			Strategy  struct{ Matrix struct{ Part []string } }
			Steps     []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal(b, &workflow); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)[1]
	for name, job := range workflow.Jobs {
		if !strings.HasPrefix(job.Container.Image, "golang:"+string(version)+"-") {
			t.Errorf("%s has the image %s, go.mod wants Go %s", name, job.Container.Image, version)
		}
	}
	if last := workflow.Jobs["run"].Steps; last[len(last)-1].Run != ".ci/run" {
		t.Errorf("the job run runs %q", last[len(last)-1].Run)
	}
	long, err := os.ReadFile("long")
	if err != nil {
		t.Fatal(err)
	}
	parts := workflow.Jobs["night"].Strategy.Matrix.Part
	for _, part := range parts {
		if part, _, _ = strings.Cut(part, "="); !bytes.Contains(long, []byte("\n"+part+"() {")) {
			t.Errorf("test/long has no part %s", part)
		}
	}
	if len(parts) < 4 {
		t.Errorf("the night has only %q", parts)
	}
}

// TestReleaseRefused: a release is of a commit, has a version, and overwrites nothing.
func TestReleaseRefused(t *testing.T) {
	need(t, "git")
	source, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	says(t, "git", "clone", "-q", source, clone)
	full := t.TempDir()
	write(t, full, "x", nil)
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := command(filepath.Join(clone, "deploy/release"), args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v, %s; want %q", args, err, out, want)
		}
	}
	refused("a version is missing")
	refused("v1.1 is not a version such as", "v1.1")
	refused("is not empty", "1.1.0", full)
	write(t, clone, "new.go", []byte("package main\n"))
	refused("changes that are not committed", "1.1.0", t.TempDir())
}
