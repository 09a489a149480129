-- subscriptions states how many members this node has. ARGV: 4 how many.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1
