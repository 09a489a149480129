// Package scripts has what the nodes of internal/cluster let Redis do at once, in Lua. The keys
// are described there.
package scripts

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// Script is a Lua script that Redis runs as one command.
type Script struct {
	Name, Text, SHA string
	OfTopic         bool // it works on one topic: what is wrong with that one's keys costs no other
}

// Set is all of them. In a Redis Cluster they publish on sharded channels.
type Set struct {
	Sync, Present, Absent, Leave, Subscriptions, Bury, Cached, Renew, Forget, Count Script
}

// All lists them, always in this order.
func (s *Set) All() []*Script {
	return []*Script{&s.Sync, &s.Present, &s.Absent, &s.Leave, &s.Subscriptions, &s.Bury, &s.Cached, &s.Renew, &s.Forget, &s.Count}
}

// Texts are what a node loads, in the order of All.
func (s *Set) Texts() (texts []string) {
	for _, one := range s.All() {
		texts = append(texts, one.Text)
	}
	return texts
}

// luaPublish publishes an envelope.
const luaPublish = `
local function ns(s) return #s .. ':' .. s end
local function publish(channel, kind, body)
  redis.call('PUBLISH', channel, '\1' .. kind .. string.sub(redis.sha1hex(body), 1, 8) .. body)
end
`

// luaNaming is the body of a script. When a command fails because something else has
// written one of the first keys, the error names that key: kinds are the types, quoted, that
// this program gives them.
func luaNaming(kinds, body string) string {
	return `
local ok, done = pcall(function()` + body + `
end)
if ok then return done end
for i, kind in ipairs({` + kinds + `}) do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. kind)
  end
end
if type(done) == 'table' then return done end
return redis.error_reply(string.match(done, '^%u+ .*') or 'ERR ' .. done)`
}

// topicKinds are the types of topicKeys, as luaNaming wants them.
const topicKinds = `'hash', 'set', 'hash', 'hash', 'string', 'string', 'set'`

// luaTopic holds what scripts about one topic share. KEYS are those of topicKeys;
// ARGV[1] is the incarnation, ARGV[2] the topic's channel, ARGV[3] the node's own.
//
// A command that may fail on what something else has written comes before the first that
// cannot be repeated. So a script that has failed may be run again.
const luaTopic = luaPublish + `
redis.call('HLEN', KEYS[4])
local function present(user, info)
  if redis.call('SISMEMBER', KEYS[2], user) == 1 then return end
  local order = redis.call('INCR', KEYS[5])
  if redis.call('HINCRBY', KEYS[3], user, 1) == 1 then
    redis.call('HSET', KEYS[4], user, order .. ':' .. info)
    publish(ARGV[2], '+', ns(user) .. ns(info))
  end
  redis.call('SADD', KEYS[2], user)
end
local function absent(user)
  if redis.call('SISMEMBER', KEYS[2], user) == 0 then return end
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
    redis.call('HDEL', KEYS[4], user)
    publish(ARGV[2], '-', ns(user))
  end
  redis.call('SREM', KEYS[2], user)
end
local function leave(topic)
  for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do absent(user) end
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('SREM', KEYS[7], topic)
  if redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) end
end
`

// luaFenced is the error of a script of an incarnation that is dead.
const luaFenced = `redis.error_reply('FENCED the lease of this node has run out')`

// luaFence refuses to work for the dead.
const luaFence = `
if redis.call('EXISTS', KEYS[8]) == 1 then return ` + luaFenced + ` end
`

// luaNow is the time of Redis in milliseconds.
const luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

// New makes the scripts for one server or, sharded, for a cluster.
func New(sharded bool) *Set {
	made := func(name, text string) Script {
		if sharded {
			text = strings.ReplaceAll(text, "'PUBLISH'", "'SPUBLISH'")
		}
		sum := sha1.Sum([]byte(text))
		return Script{Name: name, Text: text, SHA: hex.EncodeToString(sum[:])}
	}
	about := func(name, text string) Script {
		s := made(name, luaNaming(topicKinds, text))
		s.OfTopic = true
		return s
	}
	return &Set{
		// sync states what this node has in a topic and answers with a snapshot. ARGV: 4
		// topic, 5 subscriptions, 6 token, 7 "1" for a cache channel, then users and their
		// user_info in turn.
		Sync: about("sync", luaTopic+luaFence+`
redis.call('SADD', KEYS[7], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
local wanted = {}
for i = 8, #ARGV, 2 do wanted[ARGV[i]] = true end
for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if not wanted[user] then absent(user) end
end
for i = 8, #ARGV, 2 do present(ARGV[i], ARGV[i+1]) end
local cached = ARGV[7] == '1' and redis.call('GET', KEYS[6])
local out = {ARGV[6], ns(cached and redis.call('PTTL', KEYS[6]) .. ':' .. cached or '0:')}
for _, s in ipairs(redis.call('HGETALL', KEYS[4])) do out[#out+1] = ns(s) end
publish(ARGV[3], 's', table.concat(out))
return 1`),

		// present adds a user of this node. ARGV: 4 token, 5 user, 6 user_info.
		Present: about("present", luaTopic+luaFence+`
present(ARGV[5], ARGV[6])
publish(ARGV[3], 'm', ARGV[4])
return 1`),

		// absent removes a user of this node. ARGV: 4 user.
		Absent: about("absent", luaTopic+luaFence+`absent(ARGV[4]) return 1`),

		// leave says that this node has nobody left in a topic. ARGV: 4 topic.
		Leave: about("leave", luaTopic+luaFence+`leave(ARGV[4]) return 1`),

		// subscriptions states how many members this node has. ARGV: 4 how many.
		Subscriptions: about("subscriptions", luaFence+`redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) return 1`),

		// bury is leave for an incarnation that is dead.
		Bury: about("bury", luaTopic+`leave(ARGV[4]) return 1`),

		// cached publishes the event of a cache channel and keeps it. KEYS: 1 the cached
		// event. ARGV: 1 channel, 2 envelope, 3 event, 4 seconds to keep it.
		Cached: made("cached", `
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return redis.call('PUBLISH', ARGV[1], ARGV[2])`),

		// renew renews the lease. KEYS: 1 the incarnations, 2 those that are ready. ARGV: 1
		// incarnation, 2 milliseconds, 3 "first", "ready" or "", 4 "1" to take on dead ones
		// that nobody clears up after, 5 milliseconds after which who does so is given up,
		// 6 a time, 7 the channel on which all learn who has become ready. It answers with the dead ones taken on, with who has said since that
		// time that it is ready, and with the time.
		Renew: made("renew", luaNaming(`'zset', 'zset'`, luaPublish+luaNow+`
if ARGV[3] ~= 'first' and tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then return `+luaFenced+` end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if ARGV[3] == 'ready' and redis.call('ZADD', KEYS[2], now, ARGV[1]) == 1 then publish(ARGV[7], 'n', ns(ARGV[1])) end
local dead = {}
if ARGV[4] == '1' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local taken = tonumber(redis.call('ZSCORE', KEYS[1], id))
    if taken >= 0 or now + taken > tonumber(ARGV[5]) then
      redis.call('ZADD', KEYS[1], -now, id)
      dead[#dead+1] = id
    end
  end
end
return {dead, redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[6], '+inf'), now}`)),

		// forget removes what is left of a dead incarnation. KEYS: 1 the incarnations, 2
		// those that are ready, 3 its counts. ARGV: 1 incarnation.
		Forget: made("forget", `
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])`),

		// count states how many connections this node has of an app and answers how many
		// all have. KEYS: 1 the incarnations, 2 this one's counts. ARGV: 1 app, 2
		// connections, 3 incarnation, 4 what the keys of counts begin with. Of the
		// incarnations of one process the latest counts.
		Count: made("count", luaNaming(`'zset', 'hash'`, luaNow+`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[3]) or 0) <= now then return `+luaFenced+` end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local latest, numbers = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local process, incarnation = string.match(id, '^(.-)%-(%d+)$')
  local number = redis.pcall('HGET', ARGV[4] .. id .. ':counts', ARGV[1])
  number = type(number) == 'string' and tonumber(number) -- else a stranger's
  if process and number and tonumber(incarnation) >= (latest[process] or 0) then
    latest[process], numbers[process] = tonumber(incarnation), number
  end
end
local sum = 0
for _, number in pairs(numbers) do sum = sum + number end
return sum`)),
	}
}
