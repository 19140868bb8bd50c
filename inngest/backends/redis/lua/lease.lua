-- KEYS: the ring. ARGV: prefix, time, queue, limit, for ms, worker, request, '1' if the reply to it was lost,
-- bytes of states wanted at most, who listens, bytes of runs with which it is enough.
-- Reply: {ms until more falls due or -1, whether more is ready, items, states of their runs, the time}.

local QUEUE, LIMIT, MS = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local HOLDER, room, left = ARGV[6] .. ' ' .. ARGV[7], tonumber(ARGV[9]), tonumber(ARGV[11])

-- As many partitions are looked at, and items handed out, at once: a server serves others too.
local MOST_TRIES = 200
local MOST_ITEMS = 100
-- Among as many of the newest leases that of a lost reply is looked for.
local MOST_LOST = 1000

watch_ring(QUEUE)
expire()
promote(QUEUE)
local reconsidering = reconsider_page()
local waking = wake_more()

local items, states, seen = {}, {}, {}

local function hand_out(item)
  table.insert(items, item_reply(item))
  if item.run ~= '' and not seen[item.run] then
    seen[item.run] = true
    local state, sent, weight = state_reply(item.fn, item.run, '', room)
    room, left = room - sent, left - weight
    if state then
      table.insert(states, state)
    end
  end
end

if ARGV[8] == '1' then
  for _, member in ipairs(call('ZRANGE', PREFIX .. 'leases', 0, MOST_LOST - 1, 'REV')) do
    local fn, job = split(member)
    if call('HGET', item_key(fn, job), 'holder') == HOLDER then
      local item = load_item(fn, job)
      local leased = item and item.queue == QUEUE and item.state == 'leased'
      if leased and is_over(item) then
        unlease(item)
      elseif leased then
        call('ZADD', PREFIX .. 'leases', 'XX', 'GT', NOW + MS, member)
        hand_out(item)
      end
    end
  end
end

local most = math.min(LIMIT, MOST_ITEMS)
for _ = 1, MOST_TRIES do
  if #items >= most or left <= 0 then
    break
  end
  local next_part = call('ZPOPMIN', ring_key(QUEUE))
  if not next_part[1] then
    break
  end
  local fn, pid = split(next_part[1])
  local item = lease_head(fn, pid, QUEUE, NOW + MS, HOLDER)
  if item then
    hand_out(item)
  end
end

settle_counts()
send_wakes()

local next_in = -1
for _, key in ipairs({ due_key(QUEUE), PREFIX .. 'wake:' .. QUEUE, PREFIX .. 'leases' }) do
  local first = tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
  if first and (next_in < 0 or first - NOW < next_in) then
    next_in = math.max(first - NOW, 0)
  end
end
local more = reconsidering or waking or ring_size(QUEUE) > 0
if not more then
  say_quiet(QUEUE, next_in, ARGV[10])
end
return { next_in, more and 1 or 0, items, states, NOW }
