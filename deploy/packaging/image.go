package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// image writes the OCI archive. What the image is stands in Containerfile.binary too; a test
// compares the two.
//
// A layout of OCI has one index.json. Here that names one index, and the index names an image for
// each platform, so a program that loads the archive takes the image of its own platform.
func image(version, revision, file string, platforms []string, made time.Time) error {
	labels := map[string]string{
		"org.opencontainers.image.title": "reverb",
		"org.opencontainers.image.description": "Realtime server for the Pusher protocol, " +
			"in place of Laravel Reverb",
		"org.opencontainers.image.version":  version,
		"org.opencontainers.image.revision": revision,
		"org.opencontainers.image.created":  made.Format(time.RFC3339),
		"org.opencontainers.image.licenses": "MIT",
	}
	index := mutate.IndexMediaType(mutate.Annotations(empty.Index, labels).(v1.ImageIndex),
		types.OCIImageIndex)
	for _, p := range platforms {
		name, binary, _ := strings.Cut(p, "=")
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return err
		}
		one, err := imageOf(*platform, binary, labels, made)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		index = mutate.AppendManifests(index,
			mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: platform}})
	}
	folder, err := os.MkdirTemp("", "reverb-image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	// The first name is for podman, the second for containerd and so for Docker.
	if err := written.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": "reverb:" + version,
		"io.containerd.image.name":          "docker.io/library/reverb:" + version,
	})); err != nil {
		return err
	}
	all, err := entries(folder, "")
	if err != nil {
		return err
	}
	for i := range all {
		all[i].mode &^= 0o111 // the library makes some of the files executable
		if all[i].source == "" {
			all[i].mode = 0o755
		}
	}
	return writeFile(file, func(w io.Writer) error { return writeTar(w, all, made) })
}

// imageOf is the image of one platform.
func imageOf(platform v1.Platform, binary string, labels map[string]string,
	made time.Time) (v1.Image, error) {
	content, err := layer(binary, made)
	if err != nil {
		return nil, err
	}
	packed, err := tarball.LayerFromOpener(func() (io.ReadCloser,
		error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	},
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression))
	if err != nil {
		return nil, err
	}
	one := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		types.OCIConfigJSON)
	one, err = mutate.Append(one, mutate.Addendum{Layer: packed, MediaType: types.OCILayer,
		History: v1.History{Created: v1.Time{Time: made}, CreatedBy: "deploy/release"}})
	if err != nil {
		return nil, err
	}
	config, err := one.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture,
		platform.Variant
	config.Created = v1.Time{Time: made}
	config.Config = v1.Config{
		User:         "65532:65532", // as a number: scratch has no /etc/passwd
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Entrypoint:   []string{"/reverb"},
		WorkingDir:   "/",
		StopSignal:   "SIGTERM",
		Labels:       labels,
		// OCI knows no health check, and allows what it does not know. Docker reads this one.
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/reverb", "health"},
			Interval: 10 * time.Second, Timeout: 5 * time.Second, StartPeriod: 5 * time.Second},
	}
	return mutate.ConfigFile(one, config)
}

// layer is the tar of the only layer: the binary, the certificates for a Redis that is reached over
// TLS, and a folder of the image's user for the control socket.
func layer(binary string, made time.Time) ([]byte, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	const control = "run/reverb/"
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"etc/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, roots()},
		{"reverb", 0o755, program},
		{"run/", 0o755, nil}, {control, 0o700, nil},
	} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode,
			Size: int64(len(f.content)), ModTime: made, Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if f.name == control {
			h.Uid, h.Gid = 65532, 65532
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.content); err != nil {
			return nil, err
		}
	}
	err = t.Close()
	return b.Bytes(), err
}

// roots are Mozilla's root certificates, PEM, as the module x509roots has them, so that an
// image does not depend on the machine that made it. The few that Mozilla trusts for old
// certificates alone are left out: a PEM file cannot say that.
func roots() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}
