-- KEYS: the ring. ARGV: prefix, queue, limit, now, until, bytes of states wanted at most, who leases.
-- Reply: {next due time or -1, whether more is ready, items, states of their runs}.

local QUEUE, LIMIT, NOW, UNTIL = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local room = tonumber(ARGV[6])

watch_ring(QUEUE)
expire(NOW)
promote(QUEUE, NOW)

local items, states, seen = {}, {}, {}
while #items < LIMIT do
  local next_part = call('ZPOPMIN', ring_key(QUEUE))
  if not next_part[1] then
    break
  end
  local fn, pid = split(next_part[1])
  local item = lease_head(fn, pid, NOW, UNTIL)
  if item then
    table.insert(items, item_reply(item))
    if item.run ~= '' and not seen[item.run] then
      seen[item.run] = true
      local state, weight = state_reply(fn, item.run, '', room)
      room = room - weight
      table.insert(states, state)
    end
  end
end

settle_counts()
send_wakes()

local next_due = -1
for _, key in ipairs({ due_key(QUEUE), PREFIX .. 'wake:' .. QUEUE, PREFIX .. 'leases' }) do
  local first = tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
  if first and (next_due < 0 or first < next_due) then
    next_due = first
  end
end
say_quiet(QUEUE, next_due, ARGV[7] or '')
return { next_due, ring_size(QUEUE) > 0 and 1 or 0, items, states }
