-- cached publishes the event of a cache channel and keeps it.
--
-- KEYS: 1 the cached event. ARGV: 1 channel, 2 envelope, 3 event, 4 seconds to keep it.
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return redis.call('PUBLISH', ARGV[1], ARGV[2])
