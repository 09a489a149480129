-- count states how many connections of an app this node has, and answers how many all nodes have.
-- If a process has several incarnations, the latest one counts.
--
-- KEYS: 1 the incarnations, 2 this one's counts. ARGV: 1 app, 2 connections, 3 incarnation,
-- 4 the beginning of the keys of counts.
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[3]) or 0) <= now then return fenced() end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local latest, numbers = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local process, incarnation = string.match(id, '^(.-)%-(%d+)$')
  local number = redis.pcall('HGET', ARGV[4] .. id .. ':counts', ARGV[1])
  number = type(number) == 'string' and tonumber(number) -- a stranger may have written another value
  if process and number and tonumber(incarnation) >= (latest[process] or 0) then
    latest[process], numbers[process] = tonumber(incarnation), number
  end
end
local sum = 0
for _, number in pairs(numbers) do sum = sum + number end
return sum
