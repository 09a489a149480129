package laravel

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"reverb/internal/lib/php"
)

// --- Where the queue lies ---
//
// php artisan queue:work takes jobs from a list in Redis (Laravel: Queue\RedisQueue):
//
//	{prefix of Redis}queues:{name of the queue}   and :notify behind it, to wake a worker
//
// The connection of the queue names a connection of Redis, and a queue if nobody names one.

// QueuePlace tells where a queue of the application is.
type QueuePlace struct {
	Redis *RedisKey
	Key   string // of the list in Redis
	// Default is the connection onto which the application itself puts jobs, if its driver is not
	// redis: then a worker that is started without a connection does not see the queue. It is empty
	// if the driver is redis or the connection is not known.
	Default string
}

// OpenVariables is the configuration of an application of which nothing but the variables is
// known: Laravel's own configuration, without any file.
func OpenVariables(env Env) *Config {
	return &Config{app: Application{Folder: string(filepath.Separator), Env: env, Real: env},
		sections: map[string]Section{"queue": {}, "database": {}}}
}

// QueuePlace finds a queue by its name. Without a name it finds the queue that the configuration
// names. An error says what is not known.
func (c *Config) QueuePlace(name string) (p QueuePlace, err error) {
	connection, err := c.text("queue", "default")
	if err != nil {
		return p, err
	}
	queue := c.option("queue", "connections", connection)
	if queue.Get("driver").Text() != "redis" {
		if _, known := c.app.Env("QUEUE_CONNECTION"); known || c.IsThere() {
			p.Default = connection
		}
		connection = "redis"
		queue = c.option("queue", "connections", connection)
	}
	if err := known(queue, "driver", "connection", "queue"); err != nil {
		return p, err
	}
	if queue.Get("driver").Text() != "redis" {
		return p, errors.New("the configuration has no queue connection redis")
	}
	redis := queue.Get("connection").Text()
	if redis == "" {
		redis = "default"
	}
	var conn php.Value
	if p.Redis, conn, err = c.redisKey(redis); err != nil {
		return p, err
	}
	prefixes, err := c.redisPrefixes(conn)
	switch {
	case err != nil:
		return p, err
	case len(prefixes) != 1:
		return p, fmt.Errorf("the prefix of the application's keys in Redis is not known; set "+
			"REDIS_PREFIX, usually to %s (Laravel 12) or %s (11 and older), or run beside the "+
			"application's config/database.php", quoted(prefixes[0]), quoted(prefixes[1]))
	}
	if name == "" {
		name = queue.Get("queue").Text()
	}
	if name == "" {
		name = "default"
	}
	p.Key = prefixes[0] + "queues:" + name
	return p, nil
}

// redisPrefixes are the possible prefixes of the keys of a Redis connection with these options.
func (c *Config) redisPrefixes(conn php.Value) ([]string, error) {
	return c.prefixes("REDIS_PREFIX", "database", conn.Get("prefix"), conn.Get("options", "prefix"),
		c.option("database", "redis", "options").Get("prefix"))
}

// IsQueueName says whether a queue can have a name: a text without spaces, of at most maxPrefix
// bytes.
func IsQueueName(s string) bool {
	return s != "" && len(s) <= maxPrefix && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '\uFFFD'
	})
}
