// Package servicelinks knows the variables that Kubernetes and Docker put into the environment of a
// container for every service beside it. A service called "redis" gives REDIS_SERVICE_HOST,
// REDIS_PORT=tcp://10.0.0.1:6379, REDIS_PORT_6379_TCP_ADDR and more (kubernetes.io: Service,
// Discovering services; docs.docker.com: Legacy container links). A program may have variables of
// the same names.
package servicelinks

import (
	"regexp"
	"strings"
)

// address is the value of NAME_PORT and of NAME_PORT_80_TCP.
var address = regexp.MustCompile(`^(tcp|udp|sctp)://[^/@?#]+:[0-9]+$`)

// named matches names that only the platform uses.
var named = regexp.MustCompile(
	`^[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
		`PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR|START|END|PORT_START|PORT_END))?)$`)

// IsPort says whether the platform has set NAME_PORT to an address; a program would expect a number
// there.
func IsPort(name, value string) bool {
	return strings.HasSuffix(name, "_PORT") && address.MatchString(value)
}

// IsLink says whether the platform has set a variable, by its name and its value. lookup finds
// other variables. A Docker link also passes on the other container's environment, as NAME_ENV_*;
// NAME_NAME=/container/alias shows that.
func IsLink(name, value string, lookup func(name string) string) bool {
	if IsPort(name, value) || named.MatchString(name) || dockerName(name, value) {
		return true
	}
	service, _, ok := strings.Cut(name, "_ENV_")
	return ok && dockerName(service+"_NAME", lookup(service+"_NAME"))
}

// dockerName says whether a variable is the NAME_NAME=/container/alias of a Docker link.
func dockerName(name, value string) bool {
	return strings.HasSuffix(name, "_NAME") && strings.HasPrefix(value, "/") &&
		strings.Count(value, "/") == 2
}
