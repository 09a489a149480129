-- publish sends an envelope (package envelopes). ns writes a text of an envelope.
local function ns(s) return #s .. ':' .. s end
local function publish(channel, kind, body)
  redis.call('PUBLISH', channel, '\1' .. kind .. string.sub(redis.sha1hex(body), 1, 8) .. body)
end
