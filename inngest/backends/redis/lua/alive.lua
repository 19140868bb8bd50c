-- KEYS: the workers. ARGV: prefix, time, worker, for ms; 0: farewell. Reply: {whether more is to be taken up,
-- the time}.
--
-- A sign of life, and a look at those of others: the leases of one that is silent go back to the queue, a page
-- at a time. A pass over all leases that finds none of them is the last.

local PAGE = 300

local WORKERS, LEASES = PREFIX .. 'workers', PREFIX .. 'leases'
local ms = tonumber(ARGV[4])
if ms > 0 then
  call('ZADD', WORKERS, NOW + ms, ARGV[3])
else
  call('ZREM', WORKERS, ARGV[3])
end

local silent = call('ZRANGE', WORKERS, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, 1)[1]
if not silent then
  return { 0, NOW }
end
local slot = WORKERS .. ':' .. silent
local got = call('HMGET', slot, 'offset', 'found')
local offset, found = tonumber(got[1] or nil) or 0, tonumber(got[2] or nil) or 0
local members = call('ZRANGE', LEASES, offset, offset + PAGE - 1)
local taken = 0
for _, member in ipairs(members) do
  local fn, job = split(member)
  local holder = call('HGET', item_key(fn, job), 'holder')
  if holder and string.sub(holder, 1, #silent + 1) == silent .. ' ' then
    local item = load_item(fn, job)
    if item and item.state == 'leased' then
      unlease(item)
      taken = taken + 1
    end
  end
end
if #members == PAGE then
  call('HSET', slot, 'offset', offset + PAGE - taken, 'found', found + taken)
  call('PEXPIRE', slot, SLACK)
elseif found + taken > 0 then
  call('DEL', slot)
else
  call('DEL', slot)
  call('ZREM', WORKERS, silent)
end
settle_counts()
send_wakes()
return { call('ZCOUNT', WORKERS, '-inf', NOW), NOW }
