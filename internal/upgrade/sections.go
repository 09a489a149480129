package upgrade

import (
	"errors"
	"iter"

	"reverb/internal/lib/recordlog"
)

// Section is a part of a server's state that is no connection.
type Section struct {
	name  string // never gets another meaning
	state func(send func([]byte) error) error
	set   func([]byte) (ok bool)
}

// Sections are the parts, in the order in which they travel.
type Sections []Section

// One is a section of one record. set takes over what state has told in another process; ok is
// false if the record makes no sense.
func One(name string, state func() []byte, set func([]byte) (ok bool)) Section {
	return Section{name, func(send func([]byte) error) error { return send(state()) }, set}
}

// Records is a section of any number of records.
func Records(name string, state func(send func([]byte) error) error,
	set func([]byte) (ok bool)) Section {
	return Section{name, state, set}
}

// Many is a section of the records that state returns.
func Many(name string, state func() [][]byte, set func([]byte) (ok bool)) Section {
	return Records(name, func(send func([]byte) error) (err error) {
		for _, record := range state() {
			if err = send(record); err != nil {
				break
			}
		}
		return err
	}, set)
}

// Each is a section with a record for each of all. The record begins with the item's id, by which
// find finds the item in another process. An item that is not found there is left out.
func Each[T any](name string, all iter.Seq[T], id func(T) string, find func(id string) (T, bool),
	state func(T) []byte, set func(T, []byte) (ok bool)) Section {
	give := func(send func([]byte) error) error {
		for v := range all {
			record := append(recordlog.AppendField(nil, id(v)), state(v)...)
			if err := send(record); err != nil {
				return err
			}
		}
		return nil
	}
	return Section{name, give, func(record []byte) bool {
		f := recordlog.Fields{B: record}
		v, found := find(f.Text())
		return !f.Bad && (!found || set(v, f.B))
	}}
}

// Give gives send the state of all sections.
func (all Sections) Give(send func(name string, state []byte, fds ...int) error) error {
	for _, s := range all {
		err := s.state(func(record []byte) error { return send(s.name, record) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Take takes over what Give has told in another process. It ignores a name that it does not know.
func (all Sections) Take(name string, state []byte) error {
	for _, s := range all {
		if s.name == name && !s.set(state) {
			return errors.New("it makes no sense")
		}
	}
	return nil
}
