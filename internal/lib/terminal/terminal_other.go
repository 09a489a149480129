//go:build !unix && !windows

package terminal

// ask knows of no terminal.
func ask(uintptr) (terminal bool, width int, capable bool) { return false, 0, false }

func byKey(uintptr) (restore func(), ok bool) { return nil, false }
