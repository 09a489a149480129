-- The part by which scripts put transitions into a lane (package outbox). A kind is o, v, a or r.
--
-- say puts a transition, and says how many events the lane had; nil: nothing was put. While many
-- events are there, each transition is noted in waiting (of its channel and user: kind and ID) until
-- it is part of a batch. Who takes events out until there are fewer deletes waiting, since what is
-- put then is not noted. The reverse of a noted transition is not put, and takes the noted one out:
-- what a client does and undoes takes no room of others, and the receiver's idea is right at the end.
-- Of two equal ones, which a lane has that does not want the reverse, the older one goes. A member
-- that goes and comes is told: its channel may be vacated between, and a receiver may forget the
-- member then. What goes is counted as undone.
local many = 50000
local function say(events, state, waiting, kind, channel, user)
  local length = redis.pcall('XLEN', events)
  local noting = type(length) == 'number' and length >= many
  local name = noting and channel .. ' ' .. user
  local note = noting and redis.pcall('HGET', waiting, name)
  if type(note) == 'string' then
    local was, id = string.match(note, '^(%a)(%d+%-%d+)$')
    redis.call('HDEL', waiting, name)
    if was and not (was == 'r' and kind == 'a') and redis.pcall('XDEL', events, id) == 1 then
      redis.pcall('HINCRBY', state, 'undone', was == kind and 1 or 2)
      if was ~= kind then
        if length == many then redis.pcall('UNLINK', waiting) end
        return nil
      end
      length = length - 1
    end
  end
  local before, id = put(events, state, length, 100000, 'k', kind, 'c', channel, 'u', user)
  if before and noting then
    redis.pcall('HSET', waiting, name, kind .. id)
    redis.pcall('EXPIRE', waiting, 604800)
  end
  return before
end
-- vacate ends the grace of the members of a channel that is told as vacated: they are told as
-- removed before, since a receiver may forget them then. It says whether the lane had no events, and
-- whether there may be more members than a script may tell of, so that the channel must wait.
local most = 1000
local function vacate(events, leavings, state, waiting, absent, channel)
  local from, to, empty = '[' .. channel .. ' ', '(' .. channel .. '!', false
  for _, name in ipairs(redis.pcall('ZRANGEBYLEX', absent, from, to, 'LIMIT', 0, most)) do
    most = most - 1
    redis.call('ZREM', absent, name)
    if redis.pcall('ZREM', leavings, 'r ' .. name) == 1 then
      if say(events, state, waiting, 'r', channel, string.sub(name, #channel + 2)) == 0 then empty = true end
    else
      redis.pcall('ZREM', leavings, 'R ' .. name)
    end
  end
  return empty, most == 0
end
