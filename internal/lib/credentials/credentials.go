// Package credentials draws what an application is known by.
package credentials

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"
)

// New draws an app at random, as Laravel's installer does.
func New() (id, key, secret string) {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	draw := func(n int) string {
		b := make([]byte, n)
		rand.Read(b) // never fails
		for i := range b {
			b[i] = letters[b[i]%32]
		}
		return string(b)
	}
	var b [4]byte
	rand.Read(b[:])
	return strconv.Itoa(100_000 + int(binary.BigEndian.Uint32(b[:])%900_000)), draw(20), draw(20)
}
