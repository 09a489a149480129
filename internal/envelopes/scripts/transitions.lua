-- The part by which scripts put transitions into a lane (package outbox). A kind is o, v, a or r.
--
-- say puts a transition, and says how many events the lane had; nil: nothing was put. While many
-- events are there, each transition is noted in waiting (of its channel and user: kind and ID) until
-- it is part of a batch; as soon as there are fewer, no note counts. The reverse of a noted
-- transition is not put, and takes the noted one out: what a client does and undoes takes no room of
-- others, and the receiver's idea is right at the end. Of two equal ones, which a lane has that does
-- not want the reverse, the older one goes. A member that goes and comes is told: its channel may be
-- vacated between, and a receiver may forget the member then. What goes is counted as undone.
local many = 50000
local function say(events, state, waiting, kind, channel, user)
  local name, length = channel .. ' ' .. user, redis.pcall('XLEN', events)
  local noting = type(length) == 'number' and length >= many
  local note = noting and redis.pcall('HGET', waiting, name)
  if not noting then redis.pcall('UNLINK', waiting) end
  if type(note) == 'string' then
    local was, id = string.match(note, '^(%a)(%d+%-%d+)$')
    redis.call('HDEL', waiting, name)
    if was and not (was == 'r' and kind == 'a') and redis.pcall('XDEL', events, id) == 1 then
      redis.pcall('HINCRBY', state, 'undone', was == kind and 1 or 2)
      if was ~= kind then return nil end
    end
  end
  local before, id = put(events, state, 100000, 'k', kind, 'c', channel, 'u', user)
  if before and noting then
    redis.pcall('HSET', waiting, name, kind .. id)
    redis.pcall('EXPIRE', waiting, 604800)
  end
  return before
end
-- vacate ends the grace of the members of a channel that is told as vacated: they are told as
-- removed before, since a receiver may forget them then. It says whether the lane had no events.
local function vacate(events, leavings, state, waiting, absent, channel)
  local empty = false
  for _, name in ipairs(redis.pcall('ZRANGE', absent, '[' .. channel .. ' ', '(' .. channel .. '!', 'BYLEX')) do
    redis.call('ZREM', absent, name)
    if redis.pcall('ZREM', leavings, 'r ' .. name) == 1 then
      if say(events, state, waiting, 'r', channel, string.sub(name, #channel + 2)) == 0 then empty = true end
    else
      redis.pcall('ZREM', leavings, 'R ' .. name)
    end
  end
  return empty
end
