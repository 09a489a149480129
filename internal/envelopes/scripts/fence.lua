-- The dead are refused.
if redis.call('EXISTS', KEYS[8]) == 1 then return fenced() end
