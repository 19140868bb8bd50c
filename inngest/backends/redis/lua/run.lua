-- KEYS: the runs. ARGV: prefix, run, its function or '', revision the caller has. Reply: as `state_reply`.

local RUN = ARGV[2]
local fn = ARGV[3] ~= '' and ARGV[3] or call('HGET', PREFIX .. 'runs', RUN)
if not fn then
  return false
end
local state = state_reply(fn, RUN, ARGV[4], math.huge)
return state or false
