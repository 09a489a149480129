-- The part by which scripts about a topic tell the application. KEYS from 9 on are the lanes that
-- want some of the channel's transitions: events, leavings and state of each. With such KEYS, ARGV
-- has three more at its end: for each lane the kinds that it wants, with a comma behind them, the
-- channel, and the milliseconds of the grace; 0: what goes is told at once.
local lanes, channel, grace = {}, '', 0
if #KEYS > 8 then
  grace, channel = tonumber(table.remove(ARGV)), table.remove(ARGV)
  for wants in string.gmatch(table.remove(ARGV), '(%a*),') do lanes[#lanes+1] = wants end
end
local reverse = {o = 'v', a = 'r'}
local function tell(kind, user)
  for i, wants in ipairs(lanes) do
    local events, leavings, state = KEYS[6+3*i], KEYS[7+3*i], KEYS[8+3*i]
    local wanted = string.find(wants, kind, 1, true)
    local leaving = (reverse[kind] or kind) .. ' ' .. channel .. ' ' .. user
    if reverse[kind] then
      -- what has gone and is back was not told, and is not told now
      wanted = redis.pcall('ZREM', leavings, leaving) ~= 1 and wanted
    elseif wanted and grace > 0 then
      local waiting = redis.pcall('ZCARD', leavings)
      if type(waiting) == 'number' and waiting < 100000 then
        redis.call('ZADD', leavings, now + grace, leaving)
        if waiting == 0 then
          redis.call('EXPIRE', leavings, 604800)
          wake(events, state, grace)
        end
        wanted = false
      end
    end
    if wanted and put(events, state, 100000, 'k', kind, 'c', channel, 'u', user) == 0 then wake(events, state, 0) end
  end
end
