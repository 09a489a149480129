-- put adds an event to a lane (package outbox), of which XLEN says the length, and says how many
-- events it had, and the ID; nil: it takes no more, because it has as many events as limit. What it
-- refuses is counted: transitions as untold.
-- A foreign value under a name of a lane costs only its events. A lane that nobody uses is deleted
-- after a week.
local function put(events, state, length, limit, ...)
  local id = type(length) == 'number' and length < limit and redis.pcall('XADD', events, now .. '-*', ...)
  if type(id) == 'table' then id = redis.pcall('XADD', events, '*', ...) end -- Redis' clock was set back
  if type(id) ~= 'string' then
    redis.pcall('HINCRBY', state, (...) == 's' and 'lost' or 'untold', 1)
    return nil
  end
  if length == 0 then redis.call('EXPIRE', events, 604800) end
  return length, id
end
-- wake tells the owner of a lane that there is something to do in so many milliseconds.
local function wake(events, state, milliseconds)
  local owner = redis.pcall('HGET', state, 'wake')
  if type(owner) == 'string' then pcall(publish, owner, 'h', ns(events) .. ns(tostring(milliseconds))) end
end
