-- tell puts an event that is not a transition into a lane (package outbox), unless the lane has too
-- many events, or too many bytes of such events. A count that the last one told of its channel was
-- equal to, within 10 seconds, is passed over: each node with subscribers tells it.
--
-- KEYS: 1 the events, 2 the state, and of a count 3 the last one of its channel. ARGV: 1 how many events, 2 how many bytes, 3 bytes of the event,
-- then its fields and their values.
if KEYS[3] then
  if redis.pcall('GET', KEYS[3]) == ARGV[#ARGV] then return 1 end
  redis.call('SET', KEYS[3], ARGV[#ARGV], 'PX', 10000)
end
local known = redis.call('HGET', KEYS[2], 'bytes')
local length = redis.call('XLEN', KEYS[1])
if length == 0 then known = '0' end
local bytes = (tonumber(known) or 0) + ARGV[3]
if bytes > tonumber(ARGV[2]) then
  redis.call('HINCRBY', KEYS[2], 'lost', 1)
  return 0
end
if not put(KEYS[1], KEYS[2], length, tonumber(ARGV[1]), 's', ARGV[3], unpack(ARGV, 4)) then return 0 end
redis.call('HSET', KEYS[2], 'bytes', string.format('%.0f', bytes))
if length == 0 then wake(KEYS[1], KEYS[2], 0) end
return 1
