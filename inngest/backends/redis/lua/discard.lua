-- KEYS: the leases. ARGV: prefix, time, function, job, epoch. A leased item that the caller cannot read is
-- damaged, and is dropped.

local item = leased_item(ARGV[3], ARGV[4], tonumber(ARGV[5]))
if item then
  remove_item(item)
  if item.run ~= '' and call('EXISTS', of(item.fn) .. 'run:' .. item.run) == 1 then
    call('HSET', of(item.fn) .. 'jobs:' .. item.run, item.job, '0')
  end
  count('damaged', 1)
end
settle_counts()
send_wakes()
return 1
