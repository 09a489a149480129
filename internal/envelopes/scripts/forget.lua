-- forget removes the rest of a dead incarnation.
--
-- KEYS: 1 the incarnations, 2 the incarnations that are ready, 3 its counts. ARGV: 1 incarnation.
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
