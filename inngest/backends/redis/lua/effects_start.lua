-- Effects that start runs.

local function held_until(key)
  local value = call('GET', key)
  return value and tonumber(string.match(value, '^%d+')) or 0
end

local function hold(key, ttl, holder)
  remember(key, text(NOW + ttl) .. ' ' .. holder, ttl)
end

-- As many of those that nobody will ask for any more are forgotten at once.
local FORGOTTEN = 64

-- The member without a name has as its score the time before which all is forgotten: an event of before
-- comes from a runner that stood still for very long, and was decided on by another.
function effects.once(key, at, forget, mark)
  local seen = TAG .. 'seen'
  local got = call('ZMSCORE', seen, key, '')
  local horizon = tonumber(got[2] or 0)
  if got[1] or at < horizon then
    return false
  end
  if mark then
    call('ZADD', seen, at, key)
    if forget > horizon then
      call('ZADD', seen, 'GT', forget, '')
    end
    if forget > 0 then
      local old = call('ZRANGE', seen, '-inf', '(' .. text(forget), 'BYSCORE', 'LIMIT', 0, FORGOTTEN)
      if #old > 0 then
        call('ZREM', seen, unpack(old))
      end
    end
  end
  return true
end

function effects.remember(name, event, at, ttl, most)
  local key = TAG .. 'cancelling:' .. name
  call('ZADD', key, at, event)
  call('ZREMRANGEBYRANK', key, 0, -1 - most)
  call('PEXPIRE', key, ttl)
  return true
end

function effects.recall(names, since, wire)
  if not S.alive then
    return false
  end
  for _, name in ipairs(names) do
    local found = call('ZRANGE', TAG .. 'cancelling:' .. name, text(since), '+inf', 'BYSCORE', 'LIMIT', 0, 1)
    if #found > 0 then
      return push(wire, false)
    end
  end
  return false
end

function effects.unclaimed(key)
  return held_until(TAG .. 'claim:' .. key) <= NOW
end

function effects.admit(key, emission, tolerance)
  return (admit(TAG .. 'rate:' .. key, emission, tolerance))
end

-- The value of a lock: the run that holds it, a space, and when that run's event arrived.
function effects.lock(key, order, evict)
  local value = call('GET', PREFIX .. key)
  if value then
    local space = string.find(value, ' ', 1, true) or (#value + 1)
    local holder, held_order = string.sub(value, 1, space - 1), string.sub(value, space + 1)
    if holder ~= RUN and run_alive(FN, holder) then
      if not evict or held_order >= order then
        return false
      end
      evict_run(holder, evict)
    end
  end
  call('SET', PREFIX .. key, RUN .. ' ' .. order)
  return true
end

-- `state`: {revision, version, plan, started, size, stack, values, pending}.
function effects.create(id, key, created, ttl, head, start, work, lock, priority, state)
  if call('EXISTS', TAG .. 'run:' .. id) == 1 then
    return false
  end
  if ttl > 0 then
    local claim = TAG .. 'claim:' .. key
    if held_until(claim) > NOW then
      return false
    end
    hold(claim, ttl, id)
  end
  call('HSET', PREFIX .. 'runs', id, FN)
  call('ZADD', TAG .. 'runs', created, id)
  call('HSET', TAG .. 'run:' .. id, 'head', head, 'weight', #head, 'created', created, 'start', start[1],
    'start_def', start[2], 'work', work[1], 'work_def', work[2], 'lock', lock, 'priority', priority,
    'revision', state[1], 'version', state[2], 'plan', state[3] and '1' or '0', 'started', state[4],
    'size', state[5], 'pending', #state[8], 'live', 0, 'waits', 0)
  for place, step in ipairs(state[6]) do
    call('RPUSH', TAG .. 'stack:' .. id, step)
    call('HSET', TAG .. 'steps:' .. id, step, state[7][place])
  end
  for _, step in ipairs(state[8]) do
    call('SADD', TAG .. 'pending:' .. id, step)
  end
  load_state()
  return true
end

local function full(last_only, count, bytes, max_size, max_bytes)
  if last_only then
    return false
  end
  return (max_size > 0 and count >= max_size) or (max_bytes > 0 and bytes >= max_bytes)
end

-- The events of an open collector are a string without its closing bracket.
function effects.collect(key, wire, partition, event, ts, last_only, bound, max_size, max_bytes, payload)
  local collector = TAG .. 'collector:' .. key
  local open = call('HMGET', collector, 'job', 'opened', 'count', 'ts')
  local item = open[1] and load_item(FN, open[1])
  if open[1] and not (item and tonumber(open[2] or nil) and tonumber(open[3] or nil) and tonumber(open[4] or nil)) then
    -- What was collected goes its way alone, if it can.
    call('DEL', collector)
    if item then
      count('damaged', 1)
    else
      drop_damaged(FN, open[1])
    end
    item = nil
  end
  if not item then
    item = new_item(wire)
    item.collector = key
    set_partition(item, partition[1], partition[2])
    local filled = full(last_only, 1, #payload, max_size, max_bytes)
    if filled then
      item.due = NOW
    end
    call('SET', TAG .. 'collected:' .. item.job, string.sub(payload, 1, -2))
    add_item(item)
    if not filled then
      call('HSET', collector, 'job', item.job, 'opened', NOW, 'count', 1, 'ts', ts)
    end
    return true
  end
  relink(item)
  local events = TAG .. 'collected:' .. item.job
  if last_only then
    if ts < tonumber(open[4]) then
      return false
    end
    displace(item)
    call('SET', events, '[' .. event)
    call('HSET', collector, 'ts', ts)
    item.due = wire[5]
    if bound > 0 then
      item.due = math.min(item.due, tonumber(open[2]) + bound)
    end
  else
    local bytes = call('APPEND', events, ',' .. event) + 1
    if bytes == #event + 2 then
      call('SET', events, '[' .. event)  -- those before it are lost
      count('damaged', 1)
    end
    if not full(false, call('HINCRBY', collector, 'count', 1), bytes, max_size, max_bytes) then
      return true
    end
    displace(item)
    item.due = NOW
    call('DEL', collector)
  end
  place(item)
  store_place(item)
  return true
end
