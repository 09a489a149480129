-- subscriptions states how many members this node has, one at least. ARGV: 4 topic, 5 how many,
-- 6 wanted (total.lua).
redis.call('SADD', KEYS[7], ARGV[4])
--@ if redis.call('HLEN', KEYS[1]) == 0 then tell('o', '') end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
total(ARGV[6])
return 1
