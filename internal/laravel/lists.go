package laravel

import (
	"bytes"
	"slices"

	"reverb/internal/lib/jsonraw"
)

// Member is the value of a key in a JSON object; nil: the object does not have it.
func Member(b []byte, name string) (value []byte) {
	jsonraw.Object(b, func(k, v []byte) { // a value that is not an object has no keys
		if string(k) == name {
			value = v
		}
	})
	return value
}

// IsApp says whether b is one app: an object with a text or number as its app_id, key
// or secret.
func IsApp(b []byte) bool {
	return slices.ContainsFunc([]string{"app_id", "key", "secret"}, func(name string) bool {
		s, ok := jsonraw.Scalar(Member(b, name))
		return ok && s != ""
	})
}

// IsAppList says whether b is an object of apps: all its values are objects, and at least one of
// them is an app.
func IsAppList(b []byte) bool {
	apps, others := 0, 0
	jsonraw.Object(b, func(_, value []byte) {
		if IsApp(value) {
			apps++
		} else if !bytes.HasPrefix(value, []byte("{")) {
			others++
		}
	})
	return apps > 0 && others == 0
}
