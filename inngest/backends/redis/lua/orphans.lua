-- KEYS: the runs. ARGV: prefix, created before, {{run, function}...}. Reply: those that nothing will move.

local BEFORE = tonumber(ARGV[2])

local function moves(fn, run)
  local got = call('HMGET', of(fn) .. 'run:' .. run, 'created', 'waits', 'live')
  if not got[1] or tonumber(got[1]) >= BEFORE or got[2] ~= '0' or got[3] ~= '0' then
    return true
  end
  for _, live in ipairs(call('HVALS', of(fn) .. 'jobs:' .. run)) do
    if live == '1' then
      return true
    end
  end
  return false
end

local orphans = {}
for _, pair in ipairs(cmsgpack.unpack(ARGV[3])) do
  if not moves(pair[2], pair[1]) then
    table.insert(orphans, pair[1])
  end
end
return orphans
