-- claim is a step of a request with a key (package retries has the layout of a claim). It may
-- publish an event. It answers with how many heard the event, with "k" if there is none, with the
-- state of another request's claim ("p", or "d" and the answer), or with "x" if the key stands for
-- another request. A claim that is in progress for too long is taken over, but its event, if there
-- is one, was published with it: then only the answer is missing.
--
-- KEYS: 1 the claim, 2 the cached event. ARGV: 1 fingerprint, 2 owner, 3 state, empty to free the
-- key, 4 milliseconds to keep the claim, 5 milliseconds that it may be in progress; with an event
-- 6 channel, 7 envelope, and on a cache channel 8 the event, 9 seconds to keep it.
local was = redis.pcall('GET', KEYS[1])
local known = type(was) == 'string' and #was > 48 -- a stranger's value is overwritten
if known and string.sub(was, 1, 32) ~= ARGV[1] then return 'x' end
local own = known and string.sub(was, 33, 48) == ARGV[2]
if known and not own then
  if string.sub(was, 49, 49) == 'd' then return string.sub(was, 49) end
  if redis.call('PTTL', KEYS[1]) > ARGV[4] - ARGV[5] then return 'p' end
  if ARGV[6] then return 'd' end
end
if ARGV[3] == '' then
  if own then redis.call('DEL', KEYS[1]) end
elseif not own or string.sub(ARGV[3], 1, 1) == 'd' then
  redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2] .. ARGV[3], 'PX', ARGV[4])
end
if not ARGV[6] then return 'k' end
if ARGV[8] then redis.call('SET', KEYS[2], ARGV[8], 'EX', ARGV[9]) end
return redis.call('PUBLISH', ARGV[6], ARGV[7])
