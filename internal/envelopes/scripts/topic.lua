-- What scripts about one topic share. KEYS are those of topicKeys; ARGV[1] is the
-- incarnation, ARGV[2] the topic's channel, ARGV[3] the node's own.
--
-- A command that may fail on what something else has written comes before the first that
-- cannot be repeated. So a script that has failed may be run again.
redis.call('HLEN', KEYS[4])
local function present(user, info)
  if redis.call('SISMEMBER', KEYS[2], user) == 1 then return end
  local order = redis.call('INCR', KEYS[5])
  if redis.call('HINCRBY', KEYS[3], user, 1) == 1 then
    redis.call('HSET', KEYS[4], user, order .. ':' .. info)
    publish(ARGV[2], '+', ns(user) .. ns(info))
  end
  redis.call('SADD', KEYS[2], user)
end
local function absent(user)
  if redis.call('SISMEMBER', KEYS[2], user) == 0 then return end
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
    redis.call('HDEL', KEYS[4], user)
    publish(ARGV[2], '-', ns(user))
  end
  redis.call('SREM', KEYS[2], user)
end
local function leave(topic)
  for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do absent(user) end
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('SREM', KEYS[7], topic)
  if redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) end
end
