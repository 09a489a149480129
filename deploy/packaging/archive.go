package main

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/flate"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// entry is a file or a folder of an archive.
type entry struct {
	name   string // with slashes; a folder's ends in one
	source string // the file that holds the content; empty for a folder
	size   int64
	mode   int64
}

// entries lists what stands in a folder, in the order of the names, the parts of a path
// compared one by one. prefix stands in front of every name.
func entries(folder, prefix string) (all []entry, err error) {
	err = filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		name := path.Join(prefix, filepath.ToSlash(rel))
		if d.IsDir() {
			if name != "." {
				all = append(all, entry{name: name + "/", mode: 0o755})
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		all = append(all, entry{name: name, source: file, size: info.Size(), mode: mode})
		return nil
	})
	return all, err
}

// archive packs a folder into a file.
func archive(folder, file string, made time.Time) error {
	all, err := entries(folder, filepath.Base(folder))
	if err != nil {
		return err
	}
	return writeFile(file, func(w io.Writer) error {
		if strings.HasSuffix(file, ".zip") {
			return writeZip(w, all, made)
		}
		packed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		if err := writeTar(packed, all, made); err != nil {
			return err
		}
		return packed.Close()
	})
}

func writeTar(w io.Writer, all []entry, made time.Time) error {
	t := tar.NewWriter(w)
	for _, e := range all {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: e.size, Mode: e.mode,
			ModTime: made, Format: tar.FormatUSTAR}
		if e.source == "" {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if err := e.copy(t); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeZip(w io.Writer, all []entry, made time.Time) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestCompression)
	})
	for _, e := range all {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: made}
		h.SetMode(fs.FileMode(e.mode))
		if e.source == "" {
			h.Method = zip.Store
			h.SetMode(fs.ModeDir | fs.FileMode(e.mode))
		}
		into, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if err := e.copy(into); err != nil {
			return err
		}
	}
	return z.Close()
}

// copy writes the content, of which a folder has none.
func (e entry) copy(w io.Writer) error {
	if e.source == "" {
		return nil
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// writeFile makes a file of what is written, and reports what goes wrong as late as at its end.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewWriter(f)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return f.Close()
}
