-- KEYS: the leases. ARGV: prefix, time, {{function, job, epoch}...}. Leases that are lost stay so.

for _, lease in ipairs(cmsgpack.unpack(ARGV[3])) do
  local item = leased_item(lease[1], lease[2], lease[3])
  if item then
    unlease(item)
  end
end
settle_counts()
send_wakes()
return 1
