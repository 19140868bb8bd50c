-- KEYS: a function's tag. ARGV: prefix, time, function, run, revision the caller has. Reply: as `state_reply`.

local state = state_reply(ARGV[3], ARGV[4], ARGV[5], math.huge)
return state or false
