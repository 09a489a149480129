// Package window bounds how often something may happen in a time that begins with the first
// (Laravel: Illuminate\Cache\RateLimiter).
package window

// Window counts what has happened. The zero Window has counted nothing. Times are ticks of the
// caller, such as seconds, which may wrap around.
type Window struct {
	end  uint32
	used int32
}

// Take counts one more. It returns false, and counts nothing, if most have happened in the window
// already. A window is span ticks long.
func (w *Window) Take(now, span uint32, most int) bool {
	if int32(now-w.end) >= 0 || w.used == 0 {
		w.end, w.used = now+span, 0
	}
	if int(w.used) >= most {
		return false
	}
	w.used++
	return true
}

// Empty says that nothing has been counted yet.
func (w *Window) Empty() bool { return w.used == 0 }

// State is when the window ends, and what it has counted, for Resume.
func (w *Window) State() (end, used uint32) { return w.end, uint32(w.used) }

// Resume returns the Window with a State.
func Resume(end, used uint32) Window { return Window{end, int32(used)} }
