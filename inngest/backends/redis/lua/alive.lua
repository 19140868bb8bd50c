-- KEYS: the workers. ARGV: prefix, time, worker, for ms; 0: farewell. Reply: {whether more is to be taken up,
-- the time}.
--
-- A sign of life, and a look at those of others: the leases of one that is silent go back to the queue, a page
-- at a time. A pass over all leases that finds none of them is the last.

local PAGE = 300

local WORKERS, LEASES = PREFIX .. 'workers', PREFIX .. 'leases'
local ms = tonumber(ARGV[4])

-- A step back (ms) of the server's clock that is too small to matter.
local STEP = 100
local ARGUMENTS = 1000

-- Give the members of a sorted set new scores.
local function rescore(key, score_of)
  local flat = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for first = 1, #flat, ARGUMENTS do
    local scored = {}
    for place = first, math.min(first + ARGUMENTS, #flat + 1) - 1, 2 do
      table.insert(scored, text(score_of(tonumber(flat[place + 1]))))
      table.insert(scored, flat[place])
    end
    call('ZADD', key, unpack(scored))
  end
  return #flat > 0
end

-- Timers are due by the clock. But nobody is alive, or has a lease, for longer because it was set back, and those who
-- wait for a throttle try again.
local function set_back(by)
  local function shift(score)
    return score - by
  end
  rescore(WORKERS, shift)
  rescore(LEASES, shift)
  local function now()
    return NOW
  end
  if rescore(PREFIX .. 'wake:' .. CALLS_QUEUE, now) then
    say(CALLS_QUEUE, '0')
  end
end

local latest = tonumber(call('GET', PREFIX .. 'latest') or nil) or NOW
if latest - NOW > STEP then
  set_back(latest - NOW)
end
call('SET', PREFIX .. 'latest', text(NOW))
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
