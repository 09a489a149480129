package channels

import "slices"

// roster lists the users of a presence channel: each user once, however many connections the user
// has. An M is the data of a user. The zero roster is empty. A roster has no lock.
type roster[M any] struct {
	users   map[string]*user[M]
	order   []*user[M] // in the order in which they came; nil: the user has left
	version uint64
	bytes   int
}

type user[M any] struct {
	member      M // as the first of the user's connections gave it
	connections int32
	position    int32 // in order
	size        int32
}

// Add counts one more connection of a user. first says that it is the user's only one. Then m is
// the data of the user, and Bytes counts size for m.
func (r *roster[M]) Add(id string, m M, size int) (first bool) {
	if u := r.users[id]; u != nil {
		u.connections++
		return false
	}
	if r.users == nil {
		r.users = make(map[string]*user[M])
	}
	u := &user[M]{member: m, connections: 1, position: int32(len(r.order)), size: int32(size)}
	r.users[id] = u
	r.order = append(r.order, u)
	r.version++
	r.bytes += size
	return true
}

// Replace gives a user of the roster another m. The user keeps its place.
func (r *roster[M]) Replace(id string, m M, size int) {
	if u := r.users[id]; u != nil {
		r.version++
		r.bytes += size - int(u.size)
		u.member, u.size = m, int32(size)
	}
}

// Remove counts one connection less. last says that it was the user's only one; it is false for a
// user that is not on the roster.
func (r *roster[M]) Remove(id string) (last bool) {
	u := r.users[id]
	if u == nil {
		return false
	}
	if u.connections--; u.connections > 0 {
		return false
	}
	delete(r.users, id)
	r.version++
	r.bytes -= int(u.size)
	r.order[u.position] = nil
	if len(r.order) > 2*len(r.users)+16 {
		r.order = slices.DeleteFunc(r.order, func(u *user[M]) bool { return u == nil })
		for i, u := range r.order {
			u.position = int32(i)
		}
	}
	return true
}

// Clear removes all users.
func (r *roster[M]) Clear() {
	r.version++
	r.users, r.order, r.bytes = nil, nil, 0
}

// Find returns the data of a user and the number of the user's connections; 0: the user is not on
// the roster.
func (r *roster[M]) Find(id string) (m M, connections int) {
	if u := r.users[id]; u != nil {
		return u.member, int(u.connections)
	}
	return m, 0
}

// Admits says whether a user is on the roster, or has room there. A limit of 0 is no limit.
func (r *roster[M]) Admits(id string, limit int) bool {
	return limit == 0 || len(r.users) < limit || r.users[id] != nil
}

// Len is the number of users.
func (r *roster[M]) Len() int { return len(r.users) }

// Bytes is the sum of the sizes that the users were added with.
func (r *roster[M]) Bytes() int { return r.bytes }

// Version changes whenever the result of List changes.
func (r *roster[M]) Version() uint64 { return r.version }

// List is a copy of the data of all users, in the order in which they came.
func (r *roster[M]) List() []M {
	members := make([]M, 0, len(r.users))
	for _, u := range r.order {
		if u != nil {
			members = append(members, u.member)
		}
	}
	return members
}
