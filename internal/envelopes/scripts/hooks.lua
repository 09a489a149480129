-- The part by which scripts about a topic tell the application. KEYS from 9 on are the lanes that
-- want some of the channel's transitions: the five keys of each. With such KEYS, ARGV has three more
-- at its end: for each lane the kinds that it wants, with a comma behind them, the channel, and the
-- milliseconds of the grace; 0: what goes is told at once.
local lanes, channel, grace, lasts = {}, '', 0, {}
if #KEYS > 8 then
  grace, channel = tonumber(table.remove(ARGV)), table.remove(ARGV)
  for wants in string.gmatch(table.remove(ARGV), '(%a*),') do lanes[#lanes+1] = wants end
end
local reverse = {o = 'v', v = 'o', a = 'r', r = 'a'}
local function tell(kind, user)
  for i, wants in ipairs(lanes) do
    local events, leavings, state, waiting, absent = unpack(KEYS, 4 + 5*i, 8 + 5*i)
    local wanted, wake_now = string.find(wants, kind, 1, true), false
    local cares = wanted or string.find(wants, reverse[kind], 1, true)
    local name, comes = channel .. ' ' .. user, kind == 'o' or kind == 'a'
    local goes = comes and reverse[kind] or kind
    if comes then
      -- what has gone and is back was not told, and is not told now
      local back = redis.pcall('ZREM', leavings, goes .. ' ' .. name, string.upper(goes) .. ' ' .. name)
      if type(back) == 'number' and back > 0 then
        if kind == 'a' then redis.pcall('ZREM', absent, name) end
        wanted = false
      end
    elseif cares then
      local number = grace > 0 and redis.pcall('ZCARD', leavings)
      if type(number) == 'number' and number < 100000 then
        -- a lane that wants only the reverse has it in upper case: it is not told
        redis.call('ZADD', leavings, now + grace, (wanted and goes or string.upper(goes)) .. ' ' .. name)
        if kind == 'r' then
          redis.pcall('ZADD', absent, 0, name)
          if not lasts[i] then redis.pcall('EXPIRE', absent, 604800) end
          lasts[i] = true
        end
        if number == 0 then
          redis.call('EXPIRE', leavings, 604800)
          wake(events, state, grace)
        end
        wanted = false
      elseif kind == 'v' then
        local more
        wake_now, more = vacate(events, leavings, state, waiting, absent, channel)
        if more then -- the owner goes on
          redis.pcall('ZADD', leavings, 0, (wanted and 'v ' or 'V ') .. name)
          redis.pcall('EXPIRE', leavings, 604800)
          wanted, wake_now = false, true
        end
      end
    end
    if wanted and say(events, state, waiting, kind, channel, user) == 0 then wake_now = true end
    if wake_now then wake(events, state, 0) end
  end
end
