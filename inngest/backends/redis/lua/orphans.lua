-- KEYS: the runs. ARGV: prefix, time, older than ms, {{run, function}...}. Reply: those that nothing will move.

local BEFORE = NOW - tonumber(ARGV[3])

local function moves(fn, run)
  local got = call('HMGET', of(fn) .. 'run:' .. run, 'created', 'waits')
  if not got[1] or tonumber(got[1]) >= BEFORE or got[2] ~= '0' then
    return true
  end
  local jobs = call('HGETALL', of(fn) .. 'jobs:' .. run)
  for place = 1, #jobs, 2 do
    if jobs[place + 1] == '1' and call('EXISTS', of(fn) .. 'item:' .. jobs[place]) == 1 then
      return true
    end
  end
  return false
end

local orphans = {}
for _, pair in ipairs(cmsgpack.unpack(ARGV[4])) do
  if not moves(pair[2], pair[1]) then
    table.insert(orphans, pair[1])
  end
end
return orphans
