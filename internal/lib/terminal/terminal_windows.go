package terminal

import "golang.org/x/sys/windows" // the console's mode and size

// ask says whether fd is a console, how wide it is, and whether it shows colours. Consoles of
// Windows 10 and later do so when they are told to.
func ask(fd uintptr) (terminal bool, width int, capable bool) {
	h := windows.Handle(fd)
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return false, 0, false
	}
	capable = windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
	var screen windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(h, &screen) == nil {
		width = int(screen.Window.Right) - int(screen.Window.Left) + 1
	}
	return true, width, capable
}

// byKey does nothing: reading from a console would take its keys from other programs.
func byKey(uintptr) (restore func(), ok bool) { return nil, false }
