// Package nearest finds the word that somebody has probably meant.
//
// It counts the letters that differ. It has no state.
package nearest

import "slices"

// Of returns the known word that takes the fewest edits, and their number. An edit adds, drops or
// changes a letter (Levenshtein). Of several words Of returns the first. known is not empty.
func Of(word string, known []string) (best string, edits int) {
	best = slices.MinFunc(known, func(a, b string) int {
		return distance(word, a) - distance(word, b)
	})
	return best, distance(word, best)
}

// Guess returns the word of Of if it takes one edit, or two where word has at least four letters.
// Otherwise it returns nothing.
func Guess(word string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	best, edits := Of(word, known)
	if edits > 2 || len(word) < 2*edits {
		return ""
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
