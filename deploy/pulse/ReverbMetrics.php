<?php

namespace App\Pulse;

use Illuminate\Support\Facades\Cache;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Http;
use Laravel\Pulse\Events\IsolatedBeat;

/**
 * Fills the card "Reverb Messages" of Laravel Pulse from /metrics of the reverb binary, which
 * REVERB_ADMIN_LISTEN opens. It runs inside `php artisan pulse:check`, on one machine at a time. To
 * install, copy it to app/Pulse and add one line to 'recorders' in config/pulse.php; several nodes
 * of a cluster are a list of URLs:
 *
 *     \App\Pulse\ReverbMetrics::class => ['url' => 'http://127.0.0.1:9090/metrics'],
 *
 * What has been sent and received since the last reading is added to Pulse's own table, with one
 * statement, however many messages there were. So neither the database nor PULSE_INGEST_DRIVER
 * matters. The cache keeps the last reading of each node.
 */
class ReverbMetrics
{
    private const INTERVAL = 15;                      // seconds between readings, as Reverb's own recorders

    private const PERIODS = [60, 360, 1440, 10080];   // seconds of a bucket; 60 buckets are an hour, 6 hours, a day, 7 days

    public string $listen = IsolatedBeat::class;

    private static int $read = 0;                     // when the last reading was

    public function record(IsolatedBeat $event): void
    {
        $now = $event->time->getTimestamp();
        if ($now - self::$read < self::INTERVAL) {
            return;
        }
        self::$read = $now;
        $counts = $readings = [];
        foreach ((array) config('pulse.recorders.'.self::class.'.url') as $url) {
            if (($text = $this->fetch($url)) === null) {
                continue; // the node is away; what it counts is read when it is back
            }
            $readings['reverb-metrics:'.md5($url)] = $reading = $this->parse($text);
            $before = Cache::get('reverb-metrics:'.md5($url));
            if (! is_array($before)) {
                continue; // nobody knows how old these totals are
            }
            foreach ($reading['totals'] as $name => $total) {
                $last = $before['started'] === $reading['started'] ? $before['totals'][$name] ?? 0 : 0;
                $counts[$name] = ($counts[$name] ?? 0) + ($total >= $last ? $total - $last : $total);
            }
        }
        $this->store($now, array_filter($counts));
        foreach ($readings as $key => $reading) {
            Cache::forever($key, $reading); // last: what could not be stored is added next time
        }
    }

    private function fetch(string $url): ?string
    {
        try {
            return Http::timeout(2)->get($url)->throw()->body();
        } catch (\Exception) {
            return null;
        }
    }

    /** The totals by way and app, and when the process began to count. */
    private function parse(string $text): array
    {
        preg_match('/^process_start_time_seconds (\S+)/m', $text, $started);
        preg_match_all('/^\w*ws_messages_(sent|received)_total\{app_id="((?:[^"\\\\]|\\\\.)*)"[^}]*\} (\S+)/m', $text, $rows, PREG_SET_ORDER);
        $totals = [];
        foreach ($rows as [, $way, $app, $total]) {
            $app = strtr($app, ['\\\\' => '\\', '\\"' => '"', '\\n' => "\n"]);
            $totals["$way:$app"] = (int) (float) $total;
        }

        return ['started' => $started[1] ?? '', 'totals' => $totals];
    }

    private function store(int $now, array $counts): void
    {
        $db = DB::connection(config('pulse.storage.database.connection'));
        $driver = $db->getDriverName();
        $rows = [];
        foreach ($counts as $name => $count) {
            [$way, $app] = explode(':', $name, 2);
            foreach (self::PERIODS as $period) {
                $rows[] = [
                    'bucket' => intdiv($now, $period) * $period,
                    'period' => $period,
                    'type' => 'reverb_message:'.$way,
                    'aggregate' => 'count',
                    'key' => $app,
                    'value' => $count,
                ] + ($driver === 'sqlite' ? ['key_hash' => md5($app)] : []); // the others compute it themselves
            }
        }
        if ($rows === []) {
            return;
        }
        $sum = in_array($driver, ['mysql', 'mariadb'])
            ? '`value` + values(`value`)'
            : '"'.$db->getTablePrefix().'pulse_aggregates"."value" + "excluded"."value"';
        $db->table('pulse_aggregates')->upsert(
            $rows, ['bucket', 'period', 'type', 'aggregate', 'key_hash'], ['value' => DB::raw($sum)]);
    }
}
