package envelopes

import (
	"fmt"
	"maps"
	"slices"
	"sort"
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
	all := numbered{users: []string{}}
	for i := 0; i+1 < len(hash); i += 2 {
		digits, _, _ := strings.Cut(hash[i+1].Text, ":")
		number, _ := strconv.Atoi(digits) // as above
		all.users, all.numbers = append(all.users, hash[i].Text), append(all.numbers, number)
	}
	sort.Sort(all)
	return all.users
}

// numbered has users and the number of each. sort.Sort orders them by number.
type numbered struct {
	users   []string
	numbers []int
}

func (n numbered) Len() int           { return len(n.users) }
func (n numbered) Less(i, j int) bool { return n.numbers[i] < n.numbers[j] }
func (n numbered) Swap(i, j int) {
	n.users[i], n.users[j] = n.users[j], n.users[i]
	n.numbers[i], n.numbers[j] = n.numbers[j], n.numbers[i]
}

// Others lists the processes among ids but one, each by its latest incarnation.
func Others(ids []resp.Reply, but uint64) (others []string) {
	latest, own := map[string]int{}, ProcessOf(Incarnation(but, 0))
	for _, id := range ids {
		process, incarnation, _ := strings.Cut(id.Text, "-")
		if k, bad := strconv.Atoi(incarnation); bad == nil && process != own {
			latest[process] = max(latest[process], k)
		}
	}
	for _, process := range slices.Sorted(maps.Keys(latest)) {
		others = append(others, process+"-"+strconv.Itoa(latest[process]))
	}
	return others
}

// Question is a command to Redis that changes nothing.
type Question struct {
	Bucket int // that the command is about
	Args   []string
}

// Stats reads three replies for each topic: the hash of subscriptions, how many users there are,
// and the cached event. It tells -1 subscriptions where one of them is an error.
func Stats(r []resp.Reply) (subscriptions, users []int, cached []string) {
	for three := range slices.Chunk(r, 3) {
		sum, count, last := SumOfProcesses(three[0].Items), int(three[1].N), three[2].Text
		if slices.ContainsFunc(three, func(r resp.Reply) bool { return r.Err() != nil }) {
			sum, count, last = -1, 0, ""
		}
		subscriptions, users = append(subscriptions, sum), append(users, count)
		cached = append(cached, last)
	}
	return subscriptions, users, cached
}
