// Command packaging makes those parts of a release whose bytes must not depend on the machine:
// archives and the container image. deploy/release calls it.
//
//	packaging archive FOLDER FILE
//	packaging image VERSION REVISION FILE PLATFORM=BINARY...
//
// archive packs FOLDER, with its own name in front of every file, into FILE: a zip if that ends
// in .zip, else a tar.gz. image writes an OCI archive (a tar of an OCI image layout) with an
// image from scratch for each platform, such as linux/amd64, and an index of all of them.
//
// Names are sorted, owners are root, modes are 0755 for folders and programs and 0644 for all
// else, and every time is SOURCE_DATE_EPOCH, seconds since 1970 (reproducible-builds.org).
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	made := time.Unix(epoch, 0).UTC()
	switch {
	case len(args) == 3 && args[0] == "archive":
		return archive(args[1], args[2], made)
	case len(args) >= 5 && args[0] == "image":
		return image(args[1], args[2], args[3], args[4:], made)
	}
	return fmt.Errorf("want archive FOLDER FILE, or image VERSION REVISION FILE and " +
		"PLATFORM=BINARY for each platform")
}
