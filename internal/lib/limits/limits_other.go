//go:build !unix

package limits

// Files returns 0, 0: there is no such limit here.
func Files() (soft, hard uint64) { return 0, 0 }

// RaiseFiles returns 0: there is no such limit here.
func RaiseFiles() uint64 { return 0 }
