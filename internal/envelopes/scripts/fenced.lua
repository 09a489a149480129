-- fenced is the error of such a script.
local function fenced() return redis.error_reply('FENCED the lease of this node has run out') end
