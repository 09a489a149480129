package laravel

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/php"
	"reverb/internal/lib/plainfile"
	"reverb/internal/lib/sqlitefile"
)

// --- Where the signal lies ---
//
// php artisan reverb:restart calls Cache::forever('laravel:reverb:restart', time()) in the default
// cache store. The store writes:
//
//	file      {path}/4f/e4/{SHA-1 of the key, without a prefix}   9999999999i:1795711802;
//	redis     key {prefix of Redis}{prefix of the cache}laravel:reverb:restart   1795711802,
//	          or the form of a serializer of phpredis; Laravel 10 has a colon behind the
//	          prefix of the cache
//	database  a row of the table cache: key {prefix}laravel:reverb:restart, value
//	          i:1795711802;, expiration in 10 years

// signal is the key of the signal in the cache.
const signal = "laravel:reverb:restart"

const (
	// maxDatabase is the number of bytes of SQLite's file that one look may read. With the index a
	// look reads a few pages; without it a look reads the whole table. A smaller bound would miss
	// the signal in a large table; a larger one would let every look occupy the disk.
	maxDatabase = 256 << 20

	// maxPrefix is how many bytes a prefix of keys may have. Larger: whoever writes the
	// configuration makes every look send much. Smaller: the prefix of an application with a long
	// name is refused.
	maxPrefix = 512

	// maxLook is how long one look at SQLite may take. A longer look would delay the next one.
	maxLook = 2 * time.Second
)

// Place tells where php artisan reverb:restart leaves its signal. Exactly one of File, Redis,
// Database and Reason is set.
type Place struct {
	File     string    // of the file store, absolute
	Redis    *RedisKey // of the Redis store
	Database string    // of SQLite, absolute
	Table    string    // in Database
	// in Redis or in the table; several if the version of Laravel decides which of them counts
	Keys   []string
	Reason string // why the signal cannot be read
	folder string // of the application
}

// RedisKey is the Redis connection that the keys of a Place belong to, with the values of
// config/database.php. A URL counts before the other fields. Port and DatabaseName are texts
// because env() returns texts.
type RedisKey struct {
	Connection                       string // its name in config/database.php
	URL, Scheme, Host, Port, Path    string
	Username, Password, DatabaseName string
}

// String tells where the signal is, for the log.
func (p Place) String() string {
	short := func(path string) string { return strings.TrimPrefix(path, p.folder+"/") }
	switch {
	case p.File != "":
		return "the file " + short(p.File)
	case p.Redis != nil:
		return fmt.Sprintf("the key %s of the Redis connection %s", p.Keys[0], p.Redis.Connection)
	case p.Database != "":
		return fmt.Sprintf("the table %s in %s", p.Table, short(p.Database))
	}
	return p.Reason
}

// RestartPlace finds out where the application's configuration puts the signal.
func (c *Config) RestartPlace() Place {
	p, err := c.restartPlace()
	if err != nil {
		p = Place{Reason: err.Error()}
	}
	p.folder = c.app.Folder
	p.File, p.Database = c.app.byName(p.File), c.app.byName(p.Database)
	return p
}

// byName is a path below the folder by the name of the folder. PHP replaces links in the path of
// the application, and a cached configuration has such paths: behind a link current, a place below
// releases/42 would vanish with that release.
func (a Application) byName(path string) string {
	folder, err := filepath.EvalSymlinks(a.Folder)
	if err != nil {
		return path
	}
	rest, below := strings.CutPrefix(path, folder+"/")
	if !below {
		return path
	}
	return filepath.Join(a.Folder, rest)
}

func (c *Config) restartPlace() (Place, error) {
	name, err := c.text("cache", "default")
	if err != nil {
		return Place{}, err
	}
	store := c.option("cache", "stores", name)
	for range 4 { // a failover store writes to the first store that works
		if store.Get("driver").Text() != "failover" {
			break
		}
		name = store.Get("stores", "0").Text()
		store = c.option("cache", "stores", name)
	}
	if err := known(store, "driver", "path", "connection", "table"); err != nil {
		return Place{}, err
	}
	switch driver := store.Get("driver").Text(); driver {
	case "file":
		sum := sha1.Sum([]byte(signal))
		hash := hex.EncodeToString(sum[:])
		folder := store.Get("path").Text()
		if !filepath.IsAbs(folder) {
			return Place{}, fmt.Errorf("the cache store %s keeps its files in a folder that is "+
				"not known here", quoted(name))
		}
		return Place{File: filepath.Join(folder, hash[:2], hash[2:4], hash)}, nil
	case "redis":
		return c.redisPlace(store)
	case "database":
		return c.databasePlace(store)
	case "":
		return Place{}, fmt.Errorf("the configuration has no cache store %s", quoted(name))
	default:
		return Place{}, fmt.Errorf("the cache store %s is %s, which cannot be read without PHP",
			quoted(name), quoted(driver))
	}
}

// quoted is a text of the configuration in quotes, cut off at 64 bytes so that it fits into a line.
func quoted(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strconv.Quote(s)
}

// text returns an option as a text.
func (c *Config) text(section, key string) (string, error) {
	v := c.option(section, key)
	if err := v.Problem(); err != nil {
		return "", err
	}
	if v.Kind == php.Array {
		return "", fmt.Errorf("%s.%s is an array", section, key)
	}
	return v.Text(), nil
}

// known is an error if the value of one of these keys of an array is not known. Other keys do not
// matter.
func known(v php.Value, keys ...string) error {
	for _, key := range keys {
		if err := v.Get(key).Problem(); err != nil {
			return err
		}
	}
	return nil
}

// option is an option of a section. If the application's file lacks it, the framework's option
// counts. Laravel merges the two by the keys of a section, and by connections and stores (Laravel:
// Foundation\Bootstrap\LoadConfiguration). The option is Unknown if the section cannot be read.
func (c *Config) option(section string, keys ...string) php.Value {
	s, err := c.Section(section)
	if err != nil {
		return php.Lost(err, 0)
	}
	if c.cached != "" {
		return s.Get(keys...)
	}
	if s.Has(keys[0]) && (len(keys) == 1 || keys[0] == "redis" || s.Get(keys[0]).Has(keys[1])) {
		return s.Get(keys...)
	}
	v, err := c.app.compute("config/"+section+".php", defaults[section], map[string]bool{})
	if err != nil {
		return php.Lost(err, 0)
	}
	return v.Get(keys...)
}

// defaults are the parts of the framework's own configuration that matter here (Laravel:
// config/cache.php, config/database.php, config/queue.php). They count if an application
// has no such file. The prefixes depend on the version of Laravel; see prefixes.
var defaults = map[string]string{
	"cache": `<?php return [
	'default' => env('CACHE_STORE', env('CACHE_DRIVER', 'database')),
	'stores' => [
		'database' => ['driver' => 'database', 'connection' => env('DB_CACHE_CONNECTION'),
			'table' => env('DB_CACHE_TABLE', 'cache')],
		'file' => ['driver' => 'file', 'path' => storage_path('framework/cache/data')],
		'redis' => ['driver' => 'redis', 'connection' => env('REDIS_CACHE_CONNECTION', 'cache')],
		'array' => ['driver' => 'array'],
		'memcached' => ['driver' => 'memcached'],
		'dynamodb' => ['driver' => 'dynamodb'],
		'octane' => ['driver' => 'octane'],
		'session' => ['driver' => 'session'],
		'failover' => ['driver' => 'failover', 'stores' => ['database', 'array']],
	],
];`,
	"database": `<?php return [
	'default' => env('DB_CONNECTION', 'sqlite'),
	'connections' => [
		'sqlite' => ['driver' => 'sqlite', 'url' => env('DB_URL'),
			'database' => env('DB_DATABASE', database_path('database.sqlite'))],
		'mysql' => ['driver' => 'mysql'],
		'mariadb' => ['driver' => 'mariadb'],
		'pgsql' => ['driver' => 'pgsql'],
		'sqlsrv' => ['driver' => 'sqlsrv'],
	],
	'redis' => [
		'default' => ['url' => env('REDIS_URL'), 'host' => env('REDIS_HOST', '127.0.0.1'),
			'username' => env('REDIS_USERNAME'), 'password' => env('REDIS_PASSWORD'),
			'port' => env('REDIS_PORT', '6379'), 'database' => env('REDIS_DB', '0')],
		'cache' => ['url' => env('REDIS_URL'), 'host' => env('REDIS_HOST', '127.0.0.1'),
			'username' => env('REDIS_USERNAME'), 'password' => env('REDIS_PASSWORD'),
			'port' => env('REDIS_PORT', '6379'), 'database' => env('REDIS_CACHE_DB', '1')],
	],
];`,
	"queue": `<?php return [
	'default' => env('QUEUE_CONNECTION', 'database'),
	'connections' => [
		'redis' => ['driver' => 'redis', 'connection' => env('REDIS_QUEUE_CONNECTION', 'default'),
			'queue' => env('REDIS_QUEUE', 'default')],
	],
];`,
}

// prefixes are the possible values of a prefix. own are the values of the application's
// configuration: the first one that is set counts. If none is set, the framework's default counts:
// the value of the variable, or the slug of APP_NAME with a word, in the style of Laravel 12 or
// that of earlier versions.
func (c *Config) prefixes(variable, word string, own ...php.Value) ([]string, error) {
	set := firstSet(own...)
	switch err := set.Problem(); {
	case err != nil:
		return nil, err
	case len(set.Text()) > maxPrefix:
		return nil, fmt.Errorf("a prefix of keys has %d bytes, and %d are read here",
			len(set.Text()), maxPrefix)
	case set.Kind != php.Null, c.cached != "":
		return []string{set.Text()}, nil
	}
	if text, ok := c.app.Env(variable); ok {
		return []string{value(text).Text()}, nil
	}
	name := "laravel"
	if text, ok := c.app.Env("APP_NAME"); ok {
		name = value(text).Text()
	}
	var found []string
	for _, separator := range []string{"-", "_"} {
		s, err := slug(name, separator)
		if err != nil {
			return nil, fmt.Errorf("APP_NAME has %w; set %s", err, variable)
		}
		found = append(found, s+separator+word+separator)
	}
	return found, nil
}

func (c *Config) cachePrefixes(store php.Value) ([]string, error) {
	return c.prefixes("CACHE_PREFIX", "cache", store.Get("prefix"), c.option("cache", "prefix"))
}

func (c *Config) redisPlace(store php.Value) (Place, error) {
	name := store.Get("connection").Text()
	if name == "" {
		name = "default"
	}
	key, conn, err := c.redisKey(name)
	if err != nil {
		return Place{}, err
	}
	cache, err := c.cachePrefixes(store)
	if err != nil {
		return Place{}, err
	}
	redis, err := c.redisPrefixes(conn)
	if err != nil {
		return Place{}, err
	}
	p := Place{Redis: key}
	for _, before := range redis {
		for _, behind := range cache {
			p.Keys = append(p.Keys, before+behind+signal)
		}
	}
	for _, before := range redis {
		for _, behind := range cache {
			if behind != "" && !strings.HasSuffix(behind, ":") {
				p.Keys = append(p.Keys, before+behind+":"+signal) // Laravel 10
			}
		}
	}
	return p, nil
}

// redisKey is a Redis connection; conn are its options. An error says that it leads to no single
// Redis.
func (c *Config) redisKey(name string) (key *RedisKey, conn php.Value, err error) {
	conn = c.option("database", "redis", name)
	if conn.Kind == php.Null && c.option("database", "redis", "clusters", name).Kind == php.Array {
		return nil, conn, fmt.Errorf("the Redis connection %s leads to a Redis Cluster",
			quoted(name))
	}
	if conn.Kind == php.String { // Laravel takes it for a URL
		var made php.Builder
		key, _ := php.KeyOf(php.Of("url"))
		made.Set(key, conn)
		conn = made.Value()
	}
	if err := known(conn, "url", "scheme", "host", "port", "path", "username", "password",
		"database"); err != nil {
		return nil, conn, err
	}
	client := c.option("database", "redis", "client").Text()
	options := c.option("database", "redis", "options")
	switch {
	case conn.Kind != php.Array:
		err = fmt.Errorf("the configuration has no Redis connection %s", quoted(name))
	case client != "" && client != "phpredis" && client != "predis":
		err = fmt.Errorf("the Redis client %s is not known here", quoted(client))
	case conn.Has("0"), conn.Get("options", "replication").Truth(),
		options.Get("replication").Truth():
		err = fmt.Errorf("the Redis connection %s leads to several servers, such as sentinels",
			quoted(name))
	}
	get := func(name string) string { return connected(name, conn, options, client) }
	return &RedisKey{Connection: name, URL: get("url"), Scheme: get("scheme"), Host: get("host"),
		Port: get("port"), Path: get("path"), Username: get("username"),
		Password: get("password"), DatabaseName: get("database")}, conn, err
}

// connected is a parameter of a Redis connection as the client sees it. phpredis gets the options
// of the connection and of all connections in one array with the parameters, so that options count
// before them; predis has parameters among the options, for what a connection lacks (Laravel:
// Redis\Connectors; predis: Connection\Factory).
func connected(name string, conn, options php.Value, client string) string {
	own := conn.Get("options")
	switch {
	case client != "predis":
		return firstSet(own.Get(name), options.Get(name), conn.Get(name)).Text()
	case conn.Has(name):
		return conn.Get(name).Text()
	}
	return firstSet(own.Get("parameters", name), options.Get("parameters", name)).Text()
}

// firstSet is the first value that is not null; Null if there is none.
func firstSet(values ...php.Value) php.Value {
	i := slices.IndexFunc(values, func(v php.Value) bool { return v.Kind != php.Null })
	if i < 0 {
		return php.Value{}
	}
	return values[i]
}

func (c *Config) databasePlace(store php.Value) (Place, error) {
	name := store.Get("connection").Text()
	if name == "" {
		var err error
		if name, err = c.text("database", "default"); err != nil {
			return Place{}, err
		}
	}
	conn := c.option("database", "connections", name)
	if err := known(conn, "driver", "url", "database", "prefix"); err != nil {
		return Place{}, err
	}
	driver, path := conn.Get("driver").Text(), conn.Get("database").Text()
	if u, err := url.Parse(conn.Get("url").Text()); err == nil && u.Scheme != "" {
		driver = strings.TrimSuffix(u.Scheme, "3") // sqlite3 is sqlite
		if path = u.Path; u.Host != "" {
			path = u.Host + u.Path
		}
		if strings.HasPrefix(path, "//") {
			path = path[1:] // sqlite:////path
		}
	}
	if driver != "sqlite" {
		of := " (" + quoted(driver) + ")"
		if name == driver {
			of = ""
		}
		return Place{}, fmt.Errorf("the cache is in the database %s%s, which cannot be read "+
			"without PHP", quoted(name), of)
	}
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") {
		return Place{}, fmt.Errorf("the database %s is not in a file", quoted(name))
	}
	table := store.Get("table").Text()
	if table == "" {
		table = "cache"
	}
	cache, err := c.cachePrefixes(store)
	p := Place{Database: c.app.path(path), Table: conn.Get("prefix").Text() + table}
	for _, prefix := range cache {
		p.Keys = append(p.Keys, prefix+signal)
	}
	return p, err
}

// Look reads the signal from the file or from SQLite: one text for each key, empty if there is no
// signal. It must not be called for a signal in Redis. After an error the signal is not known, and
// the next look may succeed.
func (p Place) Look(now time.Time) (signals []string, err error) {
	switch {
	case p.File != "":
		s, err := lookFile(p.File, now)
		return []string{s}, err
	case p.Database != "":
		for _, key := range p.Keys {
			s, err := lookDatabase(p.Database, p.Table, key, now)
			if err != nil {
				return nil, err
			}
			signals = append(signals, s)
		}
		return signals, nil
	}
	return nil, errors.New("there is no place to look at")
}

// lookFile reads a file of the file store: ten digits of the time of expiry, and the serialized
// value. A file may be empty or incomplete while PHP writes it.
func lookFile(name string, now time.Time) (string, error) {
	b, err := plainfile.Read(name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	text := string(b)
	if len(text) < 14 || text[10:12] != "i:" || text[len(text)-1] != ';' ||
		strings.Trim(text[12:len(text)-1], "0123456789") != "" {
		return "", fmt.Errorf("%s: not what php artisan reverb:restart writes", name)
	}
	expiry, err := strconv.ParseInt(text[:10], 10, 64)
	if err != nil {
		return "", fmt.Errorf("%s: not what php artisan reverb:restart writes", name)
	}
	if now.Unix() >= expiry {
		return "", nil
	}
	return text[10:], nil
}

// lookDatabase reads a row of the database store.
func lookDatabase(name, table, key string, now time.Time) (string, error) {
	row, ok, err := sqlitefile.Find(name, sqlitefile.Query{Table: table, Column: "key", Key: key,
		Columns: []string{"value", "expiration"}, MaxBytes: maxDatabase, MaxTime: maxLook})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if !ok || err != nil {
		return "", err
	}
	text, isText := row[0].(string)
	expiry, isInt := row[1].(int64)
	if !isText || !isInt {
		return "", fmt.Errorf("%s: not what php artisan reverb:restart writes", name)
	}
	if now.Unix() >= expiry {
		return "", nil
	}
	return text, nil
}

// Watch tells which change of a signal is a restart. The zero Watch has seen nothing.
type Watch struct {
	last []string // the newest signal of each key; nil before the first look
}

// Saw takes the result of a look: one text for each key of the Place, empty if there is no signal.
// restart says that somebody has called php artisan reverb:restart since the look before. Three
// things are no restart: a signal at the first look, a signal that vanishes, as after php artisan
// cache:clear, and the same signal that comes back.
func (w *Watch) Saw(signals []string) (restart bool) {
	if len(w.last) != len(signals) {
		w.last = slices.Clone(signals)
		return false
	}
	for i, s := range signals {
		if s != "" && s != w.last[i] {
			w.last[i], restart = s, true
		}
	}
	return restart
}
