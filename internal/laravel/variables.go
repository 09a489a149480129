package laravel

import (
	"errors"
	"unicode/utf8"

	"reverb/internal/lib/php"
)

// ServerKeys are variables of this program, and the keys of a server of config/reverb.php that mean
// the same.
func ServerKeys() map[string][]string {
	return map[string][]string{
		"REVERB_SERVER_HOST":      {"host"},
		"REVERB_SERVER_PORT":      {"port"},
		"REVERB_SERVER_PATH":      {"path"},
		"REVERB_HOST":             {"hostname"},
		"REVERB_MAX_REQUEST_SIZE": {"max_request_size"},
		"REVERB_SCALING_ENABLED":  {"scaling", "enabled"},
		"REVERB_SCALING_CHANNEL":  {"scaling", "channel"},
	}
}

// PublicKeys are variables, and the keys of the options of the first app that mean the same: where
// clients connect.
func PublicKeys() map[string]string {
	return map[string]string{
		"REVERB_HOST":   "host",
		"REVERB_PORT":   "port",
		"REVERB_SCHEME": "scheme",
	}
}

// TLSKeys are variables, and the keys of the tls options of a server that mean the same.
func TLSKeys() map[string]string {
	return map[string]string{
		"REVERB_TLS_CERT":       "local_cert",
		"REVERB_TLS_KEY":        "local_pk",
		"REVERB_TLS_PASSPHRASE": "passphrase",
		"REVERB_TLS_CA":         "cafile",
	}
}

// RedisKeys are variables, and the keys of a Redis connection that mean the same.
func RedisKeys() map[string]string {
	return map[string]string{
		"REVERB_REDIS_URL":      "url",
		"REVERB_REDIS_SCHEME":   "scheme",
		"REVERB_REDIS_HOST":     "host",
		"REVERB_REDIS_PORT":     "port",
		"REVERB_REDIS_PATH":     "path",
		"REVERB_REDIS_USERNAME": "username",
		"REVERB_REDIS_PASSWORD": "password",
		"REVERB_REDIS_DB":       "database",
		"REVERB_REDIS_TIMEOUT":  "timeout",
	}
}

// AppKeys are variables of the one app, and the keys of an app that mean the same.
func AppKeys() map[string][]string {
	return map[string][]string{
		"REVERB_APP_ID":                        {"app_id"},
		"REVERB_APP_KEY":                       {"key"},
		"REVERB_APP_SECRET":                    {"secret"},
		"REVERB_ALLOWED_ORIGINS":               {"allowed_origins"},
		"REVERB_APP_PING_INTERVAL":             {"ping_interval"},
		"REVERB_APP_ACTIVITY_TIMEOUT":          {"activity_timeout"},
		"REVERB_APP_MAX_CONNECTIONS":           {"max_connections"},
		"REVERB_APP_PRESENCE_MAX_MEMBERS":      {"presence_max_members"},
		"REVERB_APP_PRESENCE_MAX_MEMBER_SIZE":  {"presence_max_member_size"},
		"REVERB_APP_DISCONNECT_GRACE_MS":       {"disconnect_grace_ms"},
		"REVERB_RESUME_SECONDS":                {"resume_seconds"},
		"REVERB_APP_MAX_MESSAGE_SIZE":          {"max_message_size"},
		"REVERB_APP_MAX_SUBSCRIPTIONS":         {"max_subscriptions"},
		"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM": {"accept_client_events_from"},
		"REVERB_APP_AUTHORIZATION_TIMEOUT":     {"authorization_timeout"},
		"REVERB_APP_SUBSCRIPTION_COUNT":        {"subscription_count"},
		"REVERB_APP_RATE_LIMITING_ENABLED":     {"rate_limiting", "enabled"},
		"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS":   {"rate_limiting", "max_attempts"},
		"REVERB_APP_RATE_LIMIT_DECAY_SECONDS":  {"rate_limiting", "decay_seconds"},
		"REVERB_APP_RATE_LIMIT_TERMINATE":      {"rate_limiting", "terminate_on_limit"},
	}
}

// OursAlone are the variables of AppKeys that the published config/reverb.php does not read. If the
// application's file does not read them either, their values in .env count before the file.
func OursAlone() []string {
	return []string{"REVERB_ALLOWED_ORIGINS", "REVERB_APP_PRESENCE_MAX_MEMBERS",
		"REVERB_APP_PRESENCE_MAX_MEMBER_SIZE", "REVERB_APP_MAX_SUBSCRIPTIONS",
		"REVERB_APP_DISCONNECT_GRACE_MS", "REVERB_APP_AUTHORIZATION_TIMEOUT",
		"REVERB_APP_SUBSCRIPTION_COUNT", "REVERB_RESUME_SECONDS"}
}

// TLSVersion reads STREAM_CRYPTO_METHOD_…_SERVER, a set of bits, as PHP dumps
// it: 32 is TLS 1.2, 64 is TLS 1.3; older ones are not served.
func TLSVersion(bits int) (string, error) {
	switch {
	case bits&32 != 0:
		return "1.2", nil
	case bits&64 != 0:
		return "1.3", nil
	}
	return "", errors.New("allows only TLS 1.0 and 1.1, which are not served; leave it out or " +
		"allow TLS 1.2")
}

// NotUTF8 is the line of a text that is not UTF-8, or 0. JSON cannot hold it.
func NotUTF8(v php.Value) (line int) {
	if v.Kind == php.String && !utf8.ValidString(v.Text()) {
		return max(v.Line, 1)
	}
	v.Each(func(_ string, element php.Value) {
		if line == 0 {
			line = NotUTF8(element)
		}
	})
	return line
}
