// Package servicelinks knows the variables that Kubernetes and Docker put into the environment of a
// container for every service beside it. A service called "redis" gives REDIS_SERVICE_HOST,
// REDIS_PORT=tcp://10.0.0.1:6379, REDIS_PORT_6379_TCP_ADDR and more (kubernetes.io: Service,
// Discovering services; docs.docker.com: Legacy container links). A program may have variables of
// the same names.
package servicelinks

import "strings"

// isAddress says whether value is that of NAME_PORT and of NAME_PORT_80_TCP.
func isAddress(value string) bool {
	transport, rest, _ := strings.Cut(value, "://")
	i := strings.LastIndexByte(rest, ':')
	return (transport == "tcp" || transport == "udp" || transport == "sctp") && i > 0 &&
		!strings.ContainsAny(rest[:i], "/@?#") && digits(rest[i+1:])
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// onlyPlatform says whether only the platform uses a name: NAME_SERVICE_HOST, NAME_SERVICE_PORT,
// NAME_SERVICE_PORT_X, NAME_PORT_80_TCP or NAME_PORT_80_TCP_ADDR and the like.
func onlyPlatform(name string) bool {
	if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return false
	}
	for _, mark := range []string{"_SERVICE_HOST", "_SERVICE_PORT"} {
		if strings.LastIndex(name, mark) > 0 && strings.HasSuffix(name, mark) {
			return true
		}
	}
	if name == "" {
		return false
	}
	if _, more, _ := strings.Cut(name[1:], "_SERVICE_PORT_"); more != "" {
		return true
	}
	for i := 1; i < len(name); i++ {
		if after, found := strings.CutPrefix(name[i:], "_PORT_"); found {
			number, kind, _ := strings.Cut(after, "_")
			if digits(number) && portKinds[kind] {
				return true
			}
		}
	}
	return false
}

// portKinds are the words that may follow NAME_PORT_80_.
var portKinds = func() map[string]bool {
	all := map[string]bool{}
	for _, transport := range []string{"TCP", "UDP", "SCTP"} {
		all[transport] = true
		for _, part := range []string{"PROTO", "PORT", "ADDR", "START", "END", "PORT_START",
			"PORT_END"} {
			all[transport+"_"+part] = true
		}
	}
	return all
}()

// IsPort says whether the platform has set NAME_PORT to an address; a program would expect a number
// there.
func IsPort(name, value string) bool {
	return strings.HasSuffix(name, "_PORT") && isAddress(value)
}

// IsLink says whether the platform has set a variable, by its name and its value. lookup finds
// other variables. A Docker link also passes on the other container's environment, as NAME_ENV_*;
// NAME_NAME=/container/alias shows that.
func IsLink(name, value string, lookup func(name string) string) bool {
	if IsPort(name, value) || onlyPlatform(name) || dockerName(name, value) {
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
