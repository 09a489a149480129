-- Redis refuses the scripts of an incarnation that is dead.
if redis.call('EXISTS', KEYS[8]) == 1 then return fenced() end
