-- naming runs a script, BODY. When a command fails because something else has written the value of
-- one of the first keys, the error names that key. KINDS are the types of these keys.
local ok, done = pcall(function()
$BODY
end)
if ok then return done end
for i, kind in ipairs({$KINDS}) do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. kind)
  end
end
if type(done) == 'table' then return done end
return redis.error_reply(string.match(done, '^%u+ .*') or 'ERR ' .. done)
