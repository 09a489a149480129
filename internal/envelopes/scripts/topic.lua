-- The part that scripts about one topic share. KEYS: 1 T:nodes, 2 T:users:I, 3 T:count,
-- 4 T:members, 5 T:order, 6 T:cached, 7 P:node:I:topics, 8 P:node:I:dead. ARGV: 1 incarnation,
-- 2 the topic's channel, 3 the node's own channel.
--
-- A command that may fail on a foreign key comes before the first command that cannot be repeated.
-- So a script that has failed may run again. All scripts fail on a foreign T:nodes, so that none
-- takes effect alone: a user who is present where no node is would be counted for ever.
redis.call('HLEN', KEYS[1])
redis.call('HLEN', KEYS[4])
local function present(user, info)
  if redis.call('SISMEMBER', KEYS[2], user) == 1 then return end
  local order = redis.call('INCR', KEYS[5])
  if redis.call('HINCRBY', KEYS[3], user, 1) == 1 then
    redis.call('HSET', KEYS[4], user, order .. ':' .. info)
    publish(ARGV[2], '+', ns(user) .. ns(info))
--@     tell('a', user)
  end
  redis.call('SADD', KEYS[2], user)
end
local function absent(user)
  if redis.call('SISMEMBER', KEYS[2], user) == 0 then return end
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
    redis.call('HDEL', KEYS[4], user)
    publish(ARGV[2], '-', ns(user))
--@     tell('r', user)
  end
  redis.call('SREM', KEYS[2], user)
end
local function leave(topic)
  for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do absent(user) end
--@   local occupied = redis.call('HLEN', KEYS[1]) > 0
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('SREM', KEYS[7], topic)
  if redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) end
--@   if occupied and redis.call('EXISTS', KEYS[1]) == 0 then tell('v', '') end
end
