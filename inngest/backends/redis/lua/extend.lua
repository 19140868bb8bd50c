-- KEYS: the leases. ARGV: prefix, time, for ms, {{function, job, epoch}...}. Reply: for each, whether it is
-- still held.

local till = NOW + tonumber(ARGV[3])
local held = {}
for place, lease in ipairs(cmsgpack.unpack(ARGV[4])) do
  held[place] = 0
  if leased_item(lease[1], lease[2], lease[3]) then
    call('ZADD', PREFIX .. 'leases', 'XX', 'GT', till, lease[1] .. '|' .. lease[2])
    held[place] = 1
  end
end
settle_counts()
return held
