-- fenced is the error of a script of an incarnation that is dead.
local function fenced() return redis.error_reply('FENCED the lease of this node has run out') end
