// Package turns lets lines of jobs take turns. In its turn a line gets a share of work; then it is
// the turn of the next line. A line with many jobs delays another line only by one share. The jobs
// of one line are done in order, and one job may take many turns.
//
// The package does no work itself and starts no goroutine. A Ring and its lines belong to
// one goroutine.
package turns

// Overhead is how much of a share a job costs besides the work that it reports. Larger: lines of
// small jobs get less work done. At 0, any number of jobs without work would be done in one turn.
const Overhead = 4

// keepJobs bounds, in jobs, the memory that an empty line keeps. Larger: after a burst more memory
// stays. Smaller: busy lines allocate.
const keepJobs = 4096

// Line is a list of jobs that are done in order. The zero Line is empty. A Line belongs to one
// Ring.
type Line[J any] struct {
	jobs  []J
	first int // the first job that is not done
}

// Ring has the lines that have jobs, in the order of their turns. The zero Ring is empty.
type Ring[J any] struct {
	lines []*Line[J]
	jobs  int
}

// Jobs returns the number of jobs in all lines.
func (r *Ring[J]) Jobs() int { return r.jobs }

// Add puts job at the end of l.
func (r *Ring[J]) Add(l *Line[J], job J) {
	if l.first == len(l.jobs) {
		r.lines = append(r.lines, l)
	}
	if l.first > 0 && len(l.jobs) == cap(l.jobs) && l.first >= len(l.jobs)/2 {
		n := copy(l.jobs, l.jobs[l.first:])
		clear(l.jobs[n:])
		l.jobs, l.first = l.jobs[:n], 0
	}
	l.jobs = append(l.jobs, job)
	r.jobs++
}

// Serve gives the next line its turn. The ring must have jobs. do works on a job: about as much as
// share says, and at least a little. It returns how much it worked and whether the job is done. do
// must not call the ring.
func (r *Ring[J]) Serve(share int, do func(job J, share int) (used int, done bool)) {
	l := r.lines[0]
	for share > 0 && l.first < len(l.jobs) {
		used, done := do(l.jobs[l.first], share)
		share -= used + Overhead
		if done {
			clear(l.jobs[l.first : l.first+1])
			l.first++
			r.jobs--
		}
	}
	rest := r.lines[:copy(r.lines, r.lines[1:])]
	if l.first < len(l.jobs) {
		r.lines = append(rest, l)
		return
	}
	r.lines[len(rest)], r.lines = nil, rest
	if l.jobs, l.first = l.jobs[:0], 0; cap(l.jobs) > keepJobs {
		l.jobs = nil
	}
}
