-- lane settles a batch of a lane (package outbox), makes the caller the owner of the lane if no other
-- node is, moves what is due from the leavings to the events, and answers with the batch that is to
-- be delivered. A batch stays as it is until it is settled, whoever asks.
--
-- The answer to another node: 0, and the milliseconds until the lane has no owner. To the owner: 1,
-- the first ID of the batch, or nothing, the milliseconds until the next leaving is due, or -1, how
-- many events and transitions were refused since the last time, and how many transitions were undone
-- (transitions.lua), how many events and leavings there are, and the events of the batch, unless the
-- caller has it already.
--
-- KEYS: 1 to 5 those of the lane, 6 P:node:I:dead. ARGV: 1 incarnation, 2 the node's own channel,
-- 3 milliseconds of the lease; 0: the caller gives the lane up, 4 the batch that is settled, or
-- nothing, 5 the batch that the caller has, or nothing, 6 how many events and 7 how many bytes a batch
-- may have, 8 milliseconds for which leavings wait, whenever they are due.
if redis.call('EXISTS', KEYS[6]) == 1 then return fenced() end
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
local notes = redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
local known = redis.call('HMGET', KEYS[3], 'owner', 'until', 'first', 'last')
local owner, till, first, last = known[1], tonumber(known[2]) or 0, known[3], known[4]
for _, id in ipairs({first, last}) do -- a stranger may have written another value
  if not string.match(id or '', '^%d+%-%d+$') then first = false end
end
-- what is there of the batch, if a stranger has not written which one that is: the bound is more
-- than any batch has, and Lua unpacks as many; what is too large for an ID has none
local function entries()
  local found = redis.pcall('XRANGE', KEYS[1], first, last, 'COUNT', 1000)
  return found.err and {} or found
end
local function fields(e)
  local f = {}
  for i = 1, #e[2], 2 do f[e[2][i]] = e[2][i+1] end
  return f
end
if first and first == ARGV[4] then
  local ids, bytes = {}, 0
  for _, e in ipairs(entries()) do
    ids[#ids+1] = e[1]
    bytes = bytes + (tonumber(fields(e).s) or 0)
  end
  if #ids > 0 then redis.call('XDEL', KEYS[1], unpack(ids)) end
  if bytes > 0 then redis.call('HINCRBY', KEYS[3], 'bytes', string.format('-%.0f', bytes)) end
  redis.call('HDEL', KEYS[3], 'first', 'last')
  first = false
  if notes > 0 and redis.call('XLEN', KEYS[1]) < many then redis.call('UNLINK', KEYS[4]) end
end
local process, nth = string.match(ARGV[1], '^(.-)%-(%d+)$')
local other, session = string.match(owner or '', '^(.-)%-(%d+)$')
if other and redis.call('EXISTS', string.sub(KEYS[6], 1, -#ARGV[1] - 6) .. owner .. ':dead') == 1 then till = 0 end
if ARGV[3] ~= '0' then till = math.min(till, now + ARGV[3]) end -- Redis' clock was set back
if other and till > now and (other ~= process or tonumber(session) > tonumber(nth)) then return {0, till - now} end
if ARGV[3] == '0' then
  if other and other == process then
    redis.call('HDEL', KEYS[3], 'owner', 'wake')
    redis.call('HSET', KEYS[3], 'until', now)
  end
  return {0, 0}
end
redis.call('HSET', KEYS[3], 'owner', ARGV[1], 'wake', ARGV[2], 'until', now + ARGV[3])
for i = 1, 5 do redis.call('EXPIRE', KEYS[i], 604800) end
local hold = tonumber(ARGV[8])
for _, leaving in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', hold > 0 and 0 or now, 'LIMIT', 0, 100)) do
  local kind, channel, user = string.match(leaving, '^(%a) (%S*) (.*)$')
  local lower = string.lower(kind or '')
  if lower == 'v' then
    local _, more = vacate(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], channel)
    if more then break end -- it is due at once
  end
  if redis.call('ZREM', KEYS[2], leaving) == 1 and kind then -- vacate may have taken it
    if lower == 'r' then redis.call('ZREM', KEYS[5], channel .. ' ' .. user) end
    if lower == kind then say(KEYS[1], KEYS[3], KEYS[4], kind, channel, user) end
  end
end
if not first then
  local noted, bytes, apart = redis.call('HLEN', KEYS[4]) > 0, 0
  for i, e in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[6])) do
    local f = fields(e)
    local name, user = f.c or '', f.u or ''
    local encrypted = string.sub(name, 1, 18) == 'private-encrypted-'
    bytes = bytes + (tonumber(f.s) or 80 + #name + 6 * #user)
    if i > 1 and (encrypted ~= apart or bytes > tonumber(ARGV[7])) then break end
    first, last, apart = first or e[1], e[1], encrypted
    local note = name .. ' ' .. user
    if noted and redis.call('HGET', KEYS[4], note) == (f.k or '') .. e[1] then redis.call('HDEL', KEYS[4], note) end
  end
  if first then redis.call('HSET', KEYS[3], 'first', first, 'last', last) end
end
local soon, due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES'), -1
if soon[2] then due = math.max(hold, soon[2] - now) end
local refused = redis.call('HMGET', KEYS[3], 'lost', 'untold', 'undone')
redis.call('HDEL', KEYS[3], 'lost', 'untold', 'undone')
local batch = {}
if first and first ~= ARGV[5] then batch = entries() end
return {1, first or '', due, tonumber(refused[1]) or 0, tonumber(refused[2]) or 0, tonumber(refused[3]) or 0,
  redis.call('XLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), batch}
