-- total tells all nodes of a topic how many members they have together, if wanted is "1". If a
-- process has several incarnations, the latest one counts.
local function total(wanted)
  if wanted ~= '1' then return end
  local hash, latest, numbers, sum = redis.call('HGETALL', KEYS[1]), {}, {}, 0
  for i = 1, #hash, 2 do
    local process, incarnation = string.match(hash[i], '^(.-)%-(%d+)$')
    local number = tonumber(hash[i+1]) -- a stranger may have written another value
    if process and number and tonumber(incarnation) >= (latest[process] or 0) then
      latest[process], numbers[process] = tonumber(incarnation), number
    end
  end
  for _, number in pairs(numbers) do sum = sum + number end
  if sum > 0 then publish(ARGV[2], 'c', ns(tostring(sum))) end
end
