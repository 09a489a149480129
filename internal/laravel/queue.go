package laravel

import (
	"cmp"
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
	// if the driver is redis or the connection is not known. Says is what says so.
	Default, Says string
	// Worker is the command that runs the jobs of the queue.
	Worker string
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
	usual := queue.Get("queue").Text()
	// a worker takes the jobs of the first connection (Laravel: Queue\FailoverQueue::pop)
	const most = 4 // connections that lead to others
	for i := 0; queue.Get("driver").Text() == "failover" && i < most; i++ {
		connection = queue.Get("connections", "0").Text()
		queue = c.option("queue", "connections", connection)
	}
	p.Worker = "php artisan queue:work"
	if queue.Get("driver").Text() != "redis" {
		if p.Says = c.sayDefault(); p.Says != "" {
			p.Default = connection
		}
		connection, p.Worker = "redis", p.Worker+" redis"
		queue = c.option("queue", "connections", connection)
		usual = queue.Get("queue").Text()
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
	usual = cmp.Or(usual, "default")
	if name != "" && name != usual {
		p.Worker += " --queue=" + name
	}
	p.Key = prefixes[0] + "queues:" + cmp.Or(name, usual)
	return p, nil
}

// sayDefault says what names the connection onto which the application puts jobs; empty: nothing
// is known of it.
func (c *Config) sayDefault() string {
	s, err := c.Section("queue")
	_, set := c.app.Env("QUEUE_CONNECTION")
	switch {
	case err == nil && s.Has("default"):
		return "queue.default of " + s.File
	case set:
		return "QUEUE_CONNECTION"
	case c.IsThere():
		return "Laravel's default of QUEUE_CONNECTION"
	}
	return ""
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
