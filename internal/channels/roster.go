package channels

import "slices"

// roster is who is on a presence channel: each user once, however many connections the user
// has. An M is what is known of a user. The zero roster is empty. It has no lock.
type roster[M any] struct {
	users   map[string]*user[M]
	order   []*user[M] // as they came; nil where one has left
	version uint64
	bytes   int
}

type user[M any] struct {
	member      M // as the first of the user's connections gave it
	connections int32
	position    int32 // in order
	size        int32
}

// Add counts one more connection of a user. first says that it is the only one: then m is
// what is known of the user, and size is what m counts for in Bytes.
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

// Replace gives a user who is there another m, and leaves its place.
func (r *roster[M]) Replace(id string, m M, size int) {
	if u := r.users[id]; u != nil {
		r.version++
		r.bytes += size - int(u.size)
		u.member, u.size = m, int32(size)
	}
}

// Remove counts one connection less. last says that the user is gone; of a user who is not
// there it is false.
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

// Clear forgets everybody.
func (r *roster[M]) Clear() {
	r.version++
	r.users, r.order, r.bytes = nil, nil, 0
}

// Find tells what is known of a user and how many connections the user has: 0 where the
// user is not there.
func (r *roster[M]) Find(id string) (m M, connections int) {
	if u := r.users[id]; u != nil {
		return u.member, int(u.connections)
	}
	return m, 0
}

// Admits says whether a user is there already or is not one too many. 0 is no limit.
func (r *roster[M]) Admits(id string, limit int) bool {
	return limit == 0 || len(r.users) < limit || r.users[id] != nil
}

// Len is how many users are there.
func (r *roster[M]) Len() int { return len(r.users) }

// Bytes is the sum of the sizes that the users were added with.
func (r *roster[M]) Bytes() int { return r.bytes }

// Version changes whenever what List returns does.
func (r *roster[M]) Version() uint64 { return r.version }

// List is a copy of what is known of the users, in the order in which they came.
func (r *roster[M]) List() []M {
	members := make([]M, 0, len(r.users))
	for _, u := range r.order {
		if u != nil {
			members = append(members, u.member)
		}
	}
	return members
}
