package envelopes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/resp"
)

// --- Hashes of nodes and members ---
//
// Every session of a process with Redis is an incarnation of its own. Its ID is the number of the
// process, in 16 hexadecimal digits, a hyphen, and which session it is.

// Incarnation is the ID of a process's nth session.
func Incarnation(process, nth uint64) string { return fmt.Sprintf("%016x-%d", process, nth) }

// ProcessOf is the part of an ID that all incarnations of one process share.
func ProcessOf(id string) string {
	process, _, _ := strings.Cut(id, "-")
	return process
}

// SumOfProcesses adds up a hash that has a number for each incarnation. Of each process the number
// of its latest incarnation counts: the former one stays in the hash until it is buried.
func SumOfProcesses(hash []resp.Reply) (sum int) {
	type said struct{ incarnation, number int }
	latest := make(map[string]said, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		process, incarnation, _ := strings.Cut(hash[i].Text, "-")
		k, _ := strconv.Atoi(incarnation) // what a stranger has written counts as 0
		number, _ := strconv.Atoi(hash[i+1].Text)
		if k >= latest[process].incarnation {
			latest[process] = said{k, number}
		}
	}
	for _, s := range latest {
		sum += s.number
	}
	return sum
}

// Users lists the users in a hash of members, in the order in which they came.
func Users(hash []resp.Reply) []string {
	users, order := []string{}, map[string]int{}
	for i := 0; i+1 < len(hash); i += 2 {
		user, digits := hash[i].Text, hash[i+1].Text
		digits, _, _ = strings.Cut(digits, ":")
		order[user], _ = strconv.Atoi(digits) // as above
		users = append(users, user)
	}
	slices.SortFunc(users, func(a, b string) int { return order[a] - order[b] })
	return users
}
