// Package turns lets lines of jobs take turns: the line whose turn it is gets a share of
// work, then the next line has its turn. A line with very much to do delays another by one
// share and not by all that it has. The jobs of one line are done in order, and one job may
// take many turns.
//
// The package does no work itself and starts no goroutine. A Ring and its lines belong to
// one goroutine.
package turns

// Overhead is what a job costs of a share beside the work that it reports. Without it, jobs
// that have nothing to do would all be done in one turn.
const Overhead = 4

// keepJobs is the largest room that an empty line keeps, in jobs. More than that was a
// burst.
const keepJobs = 4096

// Line is jobs that are done in order. The zero Line is empty. It is on one Ring only.
type Line[J any] struct {
	jobs  []J
	first int // of jobs that is not done
}

// Ring is the lines that have jobs, in the order of their turns. The zero Ring is empty.
type Ring[J any] struct {
	lines []*Line[J]
	jobs  int
}

// Jobs returns the number of jobs in all lines.
func (r *Ring[J]) Jobs() int { return r.jobs }

// Add puts job behind those of l.
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

// Serve gives the line whose turn it is its share; there are jobs. do goes on with a job: it
// works about as much as share says, at least something, and returns how much it was and
// whether the job is done. do may not call the ring.
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
