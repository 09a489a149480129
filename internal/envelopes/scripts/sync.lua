-- sync states all that this node has in a topic, and answers with a snapshot of all nodes.
--
-- ARGV: 4 topic, 5 subscriptions, 6 token, 7 "1" for a cache channel, 8 wanted (total.lua), then
-- each user and the user's user_info.
redis.call('SADD', KEYS[7], ARGV[4])
--@ if redis.call('HLEN', KEYS[1]) == 0 then tell('o', '') end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
local wanted = {}
for i = 9, #ARGV, 2 do wanted[ARGV[i]] = true end
for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if not wanted[user] then absent(user) end
end
for i = 9, #ARGV, 2 do present(ARGV[i], ARGV[i+1]) end
local cached = ARGV[7] == '1' and redis.call('GET', KEYS[6])
local out = {ARGV[6], ns(cached and redis.call('PTTL', KEYS[6]) .. ':' .. cached or '0:')}
for _, s in ipairs(redis.call('HGETALL', KEYS[4])) do out[#out+1] = ns(s) end
publish(ARGV[3], 's', table.concat(out))
total(ARGV[8])
return 1
