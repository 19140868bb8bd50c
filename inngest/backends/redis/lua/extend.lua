-- KEYS: the leases. ARGV: prefix, until, {{job, epoch}...}. Reply: for each, whether it is still held.

local UNTIL = tonumber(ARGV[2])
local held = {}
for place, lease in ipairs(cmsgpack.unpack(ARGV[3])) do
  local fn = owner_of(lease[1])
  held[place] = 0
  if fn and leased_item(fn, lease[1], lease[2]) then
    call('ZADD', PREFIX .. 'leases', 'XX', 'GT', UNTIL, fn .. '|' .. lease[1])
    held[place] = 1
  end
end
return held
