<?php
// Writes config.php as php artisan config:cache does (Illuminate\Foundation\Console\ConfigCacheCommand),
// and config.json, what json_encode makes of the sections that are read.
namespace App { enum Suit: string { case Hearts = 'h'; } class Setting { public $a = [1, 'b' => null]; private $b = 's'; } }
namespace {
$config = [
    'app' => ['name' => 'My Shop', 'env' => 'production', 'debug' => false, 'key' => "base64:\x00\x01'\\\"\n?> /* // # */ \$x", 'providers' => [App\Setting::class]],
    'view' => ['compiled' => new App\Setting, 'suit' => App\Suit::Hearts, 'object' => (object) ['a' => 1, 'b' => [new App\Setting]]],
    'cache' => ['default' => 'redis', 'stores' => ['redis' => ['driver' => 'redis', 'connection' => 'cache'], 'array' => ['driver' => 'array', 'serialize' => false]], 'prefix' => 'shop-cache-'],
    'database' => ['default' => 'mysql', 'connections' => ['mysql' => ['driver' => 'mysql', 'options' => [1009 => '/ca.pem']]],
        'redis' => ['client' => 'phpredis', 'options' => ['cluster' => 'redis', 'prefix' => 'shop-database-'],
            'cache' => ['url' => null, 'host' => '10.0.0.5', 'username' => null, 'password' => "p'w\0d", 'port' => '6380', 'database' => '1']]],
    'reverb' => ['default' => 'reverb', 'servers' => ['reverb' => ['host' => '0.0.0.0', 'port' => 8080, 'ratio' => 0.1, 'tiny' => 1e-7, 'huge' => 1e25,
            'least' => PHP_INT_MIN, 'options' => ['tls' => []], 'suit' => App\Suit::Hearts, 'setting' => new App\Setting, 'scaling' => ['enabled' => true]]],
        'apps' => ['provider' => 'config', 'apps' => [['app_id' => '1', 'key' => 'k', 'secret' => "\0s\0é\u{1F600}\xff", 'allowed_origins' => ['*']]]]],
    'queue' => ['default' => 'database', 'connections' => [5 => 'five', '05' => 'text', -3 => true, '' => INF]],
];
file_put_contents('config.php', '<?php return '.var_export($config, true).';'.PHP_EOL);
unset($config['view'], $config['reverb']['servers']['reverb']['suit'], $config['reverb']['servers']['reverb']['setting']);
$config['queue']['connections'][''] = null;
file_put_contents('config.json', json_encode($config, JSON_INVALID_UTF8_SUBSTITUTE | JSON_PRETTY_PRINT | JSON_UNESCAPED_UNICODE));
}
