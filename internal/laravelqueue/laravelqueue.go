// Package laravelqueue puts events onto the Redis queue of a Laravel application, as jobs that
// php artisan queue:work runs. Nothing is installed in the application.
//
// # What the application gets
//
// Without a Listener a job dispatches an event of Laravel, named reverb. and the kind. With one it
// calls a method of a class. Both get one array:
//
//	Event::listen('reverb.member_added', fn (array $event) => …);
//	class ReverbEvents { public function handle(array $event): void { … } }
//
//	name                 channel_occupied, channel_vacated, member_added, member_removed,
//	                     client_event, cache_miss or subscription_count
//	channel              the name of the channel
//	user_id              of the member; of a client event on a presence channel: of the sender
//	event, data,         of a client event: its name, its data as a string, the sender
//	socket_id
//	subscription_count   how many subscribers the channel has now, a number
//	app_id               the ID of the app
//	time_ms              when it happened, in milliseconds since 1970, a number
//	id                   the same if a job comes twice, and different for every event
//
// Keys that a kind does not have are missing. All others have strings in valid UTF-8.
//
// # What is promised
//
// A push is one script in Redis: all jobs of a batch or none, in order, behind what waits, unless
// Limit jobs wait already. A push whose answer is lost may be repeated: the jobs then have the same
// bytes, with the same uuid and id.
//
// A job is unserialized by PHP without a list of classes. So class and method come from the
// Listener, which ParseListener has checked. What clients have written are values of strings,
// whose bytes are counted.
//
// Source: laravel/framework, src/Illuminate/Queue/RedisQueue.php, LuaScripts.php and Queue.php,
// src/Illuminate/Events/CallQueuedListener.php.
//
// Files:
//
//	laravelqueue.go  this contract; pushes
//	job.go           the bytes of a job
//	listener.go      which class and method are called
package laravelqueue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"reverb/internal/lib/resp"
	"reverb/internal/lib/show"
	"reverb/internal/webhooks"
)

// Redis runs a command in the application's Redis and returns its answer. An error may mean that
// the command has run nevertheless.
type Redis func(ctx context.Context, command ...string) (resp.Reply, error)

// Queue is one queue of an application. It implements webhooks.Queue. It never changes; any
// goroutine may call its methods if it may call Redis.
type Queue struct {
	Redis    Redis
	Key      string // of the list in Redis, with the prefix of the application
	Limit    int    // how many jobs may wait there; 1 or more
	Listener Listener
}

// push appends the jobs of ARGV to the list KEYS[1], and wakes a worker that waits by KEYS[2], as
// Laravel does. It returns whether it has, and how many jobs wait then. ARGV[1] is the limit. It
// asks for both lengths before it writes: if a key is not a list, nothing must be pushed.
const push = `local n = redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
if n >= tonumber(ARGV[1]) then return {0, n} end
for i = 2, #ARGV do
n = redis.call('RPUSH', KEYS[1], ARGV[i])
redis.call('RPUSH', KEYS[2], 1)
end
return {1, n}`

var errOdd = errors.New("the answer to EVAL is not that of Redis")

// String names the queue in logs and reports.
func (q *Queue) String() string { return q.Key }

// Push puts one job for each event at the end of the queue, see webhooks.Queue. A batch may go
// beyond the limit with all but its first job.
func (q *Queue) Push(ctx context.Context, id, app string,
	events iter.Seq2[time.Time, *webhooks.Event]) (full bool, err error) {
	command := []string{"EVAL", push, "2", q.Key, q.Key + ":notify", strconv.Itoa(q.Limit)}
	first := len(command)
	for at, e := range events {
		name := fmt.Sprintf("%s-%d", id, len(command)-first)
		command = append(command, string(appendJob(nil, q.Listener, name, app, at, e)))
	}
	r, err := q.Redis(ctx, command...)
	switch {
	case err != nil:
		return false, err
	case len(r.Items) != 2 || r.Items[0].Kind != resp.Int || r.Items[1].Kind != resp.Int:
		return false, errOdd
	case r.Items[0].N == 0:
		return true, fmt.Errorf("%d jobs wait in the queue, REVERB_LARAVEL_QUEUE_MAX=%d; "+
			"does php artisan queue:work run?", r.Items[1].N, q.Limit)
	}
	return false, nil
}

// Check says how many jobs wait, for reverb check.
func (q *Queue) Check(ctx context.Context) (string, error) {
	r, err := q.Redis(ctx, "LLEN", q.Key)
	switch {
	case err != nil:
		return "", err
	case r.Kind != resp.Int:
		return "", errOdd
	}
	return fmt.Sprintf("%s has %d of at most %d jobs", show.Text(q.Key), r.N, q.Limit), nil
}
