<?php
// What php artisan queue:work would call for the jobs on standard input, one payload a line, as
// JSON, one line each: the class, the method and the arguments. The class has the properties of
// Laravel's own; nothing else may come out.

namespace Illuminate\Events;

class CallQueuedListener
{
    public $class;
    public $method;
    public $data;
}

while (($line = fgets(STDIN)) !== false) {
    $job = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    foreach (['uuid', 'job', 'attempts', 'id', 'createdAt'] as $key) {
        array_key_exists($key, $job) || throw new \Exception("$key is missing");
    }
    $command = unserialize($job['data']['command'], ['allowed_classes' => [CallQueuedListener::class]]);
    $command instanceof CallQueuedListener || throw new \Exception('not a CallQueuedListener');
    echo json_encode([$command->class, $command->method, $command->data], JSON_THROW_ON_ERROR
        | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES), "\n";
}
