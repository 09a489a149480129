-- subscriptions states how many members this node has. ARGV: 4 how many, 5 wanted (total.lua).
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
total(ARGV[5])
return 1
