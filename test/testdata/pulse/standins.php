<?php
// Stand-ins for the four classes of Laravel that deploy/pulse/ReverbMetrics.php uses, and a run of it.
// Standard input: {"driver", "prefix", "urls", "beats": [{"time", "bodies": {url: text or null}, "fail"}]}.
// Standard output: the table pulse_aggregates as {"rows": [...], "statements": n, "fetched": n}.

namespace Illuminate\Support\Facades {
    class Cache
    {
        public static array $kept = [];
        public static function get($key) { return isset(self::$kept[$key]) ? unserialize(self::$kept[$key]) : null; }
        public static function forever($key, $value) { self::$kept[$key] = serialize($value); }
    }
    class Http
    {
        public static array $bodies = [];
        public static int $fetched = 0;
        private function __construct(private ?string $body = null) {}
        public static function timeout(int $seconds) { return new self; }
        public function get(string $url) { self::$fetched++; return new self(self::$bodies[$url]); }
        public function throw() { return $this->body === null ? throw new \RuntimeException('refused') : $this; }
        public function body(): string { return $this->body; }
    }
    class DB
    {
        public static string $driver, $prefix;
        public static array $rows = [];
        public static int $statements = 0;
        public static bool $fail = false;
        public static function connection($name) { return $name === 'pulse-db' ? new self : throw new \Exception('another connection'); }
        public static function raw($sql) { return (object) ['sql' => $sql]; }
        public function getDriverName() { return self::$driver; }
        public function getTablePrefix() { return self::$prefix; }
        public function table($name) { return $name === 'pulse_aggregates' ? $this : throw new \Exception('another table'); }
        public function upsert(array $rows, array $unique, array $update)
        {
            if (self::$fail) { throw new \RuntimeException('the database is away'); }
            self::$statements++;
            $sum = ['mysql' => '`value` + values(`value`)', 'mariadb' => '`value` + values(`value`)'][self::$driver]
                ?? '"'.self::$prefix.'pulse_aggregates"."value" + "excluded"."value"';
            if ($unique !== ['bucket', 'period', 'type', 'aggregate', 'key_hash'] || array_keys($update) !== ['value'] || $update['value']->sql !== $sum) {
                throw new \Exception('another statement: '.json_encode([$unique, $update]));
            }
            $seen = [];
            foreach ($rows as $row) {
                if ((self::$driver === 'sqlite') !== (($row['key_hash'] ?? null) === md5($row['key']))) { throw new \Exception('key_hash'); }
                unset($row['key_hash']);
                $value = $row['value'];
                unset($row['value']);
                $id = json_encode($row);
                if (isset($seen[$id])) { throw new \Exception('a row twice in one statement, which PostgreSQL refuses'); }
                $seen[$id] = true;
                self::$rows[$id] = $row + ['value' => $value + (self::$rows[$id]['value'] ?? 0)];
            }
        }
    }
}

namespace Laravel\Pulse\Events {
    class IsolatedBeat { public function __construct(public \DateTimeImmutable $time) {} }
}

namespace {
    use Illuminate\Support\Facades\{Cache, DB, Http};

    set_error_handler(fn ($n, $text, $file, $line) => throw new ErrorException($text, 0, $n, $file, $line));
    $run = json_decode(stream_get_contents(STDIN), true, flags: JSON_THROW_ON_ERROR);
    function config($key)
    {
        return ['pulse.recorders.App\Pulse\ReverbMetrics.url' => $GLOBALS['run']['urls'], 'pulse.storage.database.connection' => 'pulse-db'][$key];
    }
    require $argv[1];
    [DB::$driver, DB::$prefix] = [$run['driver'], $run['prefix']];
    foreach ($run['beats'] as $beat) {
        Http::$bodies = $beat['bodies'];
        DB::$fail = $beat['fail'];
        $recorder = new App\Pulse\ReverbMetrics;
        if ($recorder->listen !== Laravel\Pulse\Events\IsolatedBeat::class) { throw new Exception('another event'); }
        try {
            $recorder->record(new Laravel\Pulse\Events\IsolatedBeat(new DateTimeImmutable('@'.$beat['time'])));
        } catch (RuntimeException $e) {
            if (! $beat['fail']) { throw $e; }
        }
    }
    echo json_encode(['rows' => array_values(DB::$rows), 'statements' => DB::$statements, 'fetched' => Http::$fetched]);
}
