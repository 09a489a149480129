<?php return array (
  'app' => 
  array (
    'name' => 'My Shop',
    'env' => 'production',
    'debug' => false,
    'key' => 'base64:' . "\0" . '\'\\"
?> /* // # */ $x',
    'providers' => 
    array (
      0 => 'App\\Setting',
    ),
  ),
  'view' => 
  array (
    'compiled' => 
    \App\Setting::__set_state(array(
       'a' => 
      array (
        0 => 1,
        'b' => NULL,
      ),
       'b' => 's',
    )),
    'suit' => 
    \App\Suit::Hearts,
    'object' => 
    (object) array(
       'a' => 1,
       'b' => 
      array (
        0 => 
        \App\Setting::__set_state(array(
           'a' => 
          array (
            0 => 1,
            'b' => NULL,
          ),
           'b' => 's',
        )),
      ),
    ),
  ),
  'cache' => 
  array (
    'default' => 'redis',
    'stores' => 
    array (
      'redis' => 
      array (
        'driver' => 'redis',
        'connection' => 'cache',
      ),
      'array' => 
      array (
        'driver' => 'array',
        'serialize' => false,
      ),
    ),
    'prefix' => 'shop-cache-',
  ),
  'database' => 
  array (
    'default' => 'mysql',
    'connections' => 
    array (
      'mysql' => 
      array (
        'driver' => 'mysql',
        'options' => 
        array (
          1009 => '/ca.pem',
        ),
      ),
    ),
    'redis' => 
    array (
      'client' => 'phpredis',
      'options' => 
      array (
        'cluster' => 'redis',
        'prefix' => 'shop-database-',
      ),
      'cache' => 
      array (
        'url' => NULL,
        'host' => '10.0.0.5',
        'username' => NULL,
        'password' => 'p\'w' . "\0" . 'd',
        'port' => '6380',
        'database' => '1',
      ),
    ),
  ),
  'reverb' => 
  array (
    'default' => 'reverb',
    'servers' => 
    array (
      'reverb' => 
      array (
        'host' => '0.0.0.0',
        'port' => 8080,
        'ratio' => 0.1,
        'tiny' => 1.0E-7,
        'huge' => 1.0E+25,
        'least' => -9223372036854775807-1,
        'options' => 
        array (
          'tls' => 
          array (
          ),
        ),
        'suit' => 
        \App\Suit::Hearts,
        'setting' => 
        \App\Setting::__set_state(array(
           'a' => 
          array (
            0 => 1,
            'b' => NULL,
          ),
           'b' => 's',
        )),
        'scaling' => 
        array (
          'enabled' => true,
        ),
      ),
    ),
    'apps' => 
    array (
      'provider' => 'config',
      'apps' => 
      array (
        0 => 
        array (
          'app_id' => '1',
          'key' => 'k',
          'secret' => '' . "\0" . 's' . "\0" . 'é😀�',
          'allowed_origins' => 
          array (
            0 => '*',
          ),
        ),
      ),
    ),
  ),
  'queue' => 
  array (
    'default' => 'database',
    'connections' => 
    array (
      5 => 'five',
      '05' => 'text',
      -3 => true,
      '' => INF,
    ),
  ),
);
