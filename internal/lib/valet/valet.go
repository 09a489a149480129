// Package valet finds the certificates that Laravel Herd and Valet make for the sites of a
// developer's machine (Reverb: src/Certificate.php; Herd for Windows; valet-linux).
package valet

import (
	"net"
	"path/filepath"
	"strings"
)

// folders are the folders in which Herd and Valet keep certificates.
func folders(home string) []string {
	if home == "" {
		return nil
	}
	return []string{
		filepath.Join(home, "Library", "Application Support", "Herd", "config", "valet",
			"Certificates"),
		filepath.Join(home, ".config", "herd", "config", "valet", "Certificates"),
		filepath.Join(home, ".config", "valet", "Certificates"),
		filepath.Join(home, ".valet", "Certificates"),
	}
}

// Find looks for the files of the certificate of a host, and of its key. home is the folder of the
// user; exists says whether a file is there. Herd and Valet have no certificate for an address.
func Find(host, home string, exists func(name string) bool) (certFile, keyFile string, ok bool) {
	if host == "" || net.ParseIP(strings.Trim(host, "[]")) != nil ||
		strings.ContainsAny(host, `/\:`) || host[0] == '.' {
		return "", "", false
	}
	for _, dir := range folders(home) {
		cert, key := filepath.Join(dir, host+".crt"), filepath.Join(dir, host+".key")
		if exists(cert) && exists(key) {
			return cert, key, true
		}
	}
	return "", "", false
}
