-- renew renews the lease. It answers with the dead incarnations that this node shall bury, with the
-- incarnations that have said since a given time that they are ready, and with the time of Redis.
--
-- KEYS: 1 the incarnations, 2 the incarnations that are ready. ARGV: 1 incarnation,
-- 2 milliseconds of the lease, 3 "first", "ready" or "", 4 "1" to bury dead incarnations that no
-- other node buries, 5 milliseconds after which another node has failed to do so, 6 the given time,
-- 7 the channel on which all nodes learn that a node has become ready.
if ARGV[3] ~= 'first' and tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then return fenced() end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if ARGV[3] == 'ready' and redis.call('ZADD', KEYS[2], now, ARGV[1]) == 1 then publish(ARGV[7], 'n', ns(ARGV[1])) end
local dead = {}
if ARGV[4] == '1' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local taken = tonumber(redis.call('ZSCORE', KEYS[1], id))
    if taken >= 0 or now + taken > tonumber(ARGV[5]) then
      redis.call('ZADD', KEYS[1], -now, id)
      dead[#dead+1] = id
    end
  end
end
return {dead, redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[6], '+inf'), now}
