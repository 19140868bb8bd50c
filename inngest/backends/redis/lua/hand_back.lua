-- KEYS: the leases. ARGV: prefix, now, {{job, epoch}...}. Leases that are lost stay so.

for _, lease in ipairs(cmsgpack.unpack(ARGV[3])) do
  local fn = owner_of(lease[1])
  local item = fn and leased_item(fn, lease[1], lease[2])
  if item then
    unlease(item, tonumber(ARGV[2]))
  end
end
settle_counts()
send_wakes()
return 1
