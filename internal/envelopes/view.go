package envelopes

import (
	"maps"
	"slices"

	"reverb/internal/lib/fewmap"
)

// View is the users of a topic on all nodes, as the members of one node know them. The zero View is
// empty. It must not be copied while it is changed.
type View struct {
	users   fewmap.Map[*Member]
	missing map[string]bool // users whose node may still come back
	order   int             // of the user who came last
}

// Len is the number of users.
func (v *View) Len() int { return v.users.Len() }

// Add puts a user at the end. It says no if the user is there.
func (v *View) Add(user, info string) bool {
	delete(v.missing, user)
	if v.users.Get(user) != nil {
		return false
	}
	v.order++
	v.users.Put(user, &Member{User: user, Info: info, Order: v.order})
	return true
}

// Remove is the reverse of Add.
func (v *View) Remove(user string) bool {
	delete(v.missing, user)
	if v.users.Get(user) == nil {
		return false
	}
	v.users.Delete(user)
	return true
}

// Replace makes members the users, in the order in which they came. gone are the users who are not
// among them. With keep they stay, as missing, in front of the others. come are the users who were
// not there before; none if nobody was there. All lists are in order.
func (v *View) Replace(members []*Member, keep bool) (gone, come, all []*Member) {
	byOrder := func(a, b *Member) int { return a.Order - b.Order }
	slices.SortFunc(members, byOrder)
	before := v.users
	v.users, v.missing = fewmap.Map[*Member]{}, nil
	for _, m := range members {
		v.users.Put(m.User, m)
		if v.order = max(v.order, m.Order); before.Len() > 0 && before.Get(m.User) == nil {
			come = append(come, m)
		}
	}
	for user, m := range before.All {
		if v.users.Get(user) == nil {
			gone = append(gone, m)
		}
	}
	if slices.SortFunc(gone, byOrder); !keep || len(gone) == 0 {
		return gone, come, members
	}
	v.missing = make(map[string]bool, len(gone))
	for _, m := range gone {
		v.users.Put(m.User, m)
		v.missing[m.User] = true
	}
	return gone, come, append(gone, members...)
}

// Missing lists the users who are missing.
func (v *View) Missing() []string { return fewmap.InOrder(maps.All(v.missing)) }

// Found says that no user is missing any more.
func (v *View) Found() { v.missing = nil }

// Members lists the users in the order in which they came.
func (v *View) Members() (all []*Member) {
	for _, m := range v.users.All {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *Member) int { return a.Order - b.Order })
	return all
}
