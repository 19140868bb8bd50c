-- Effects that start runs.

local function held_until(key)
  local value = call('GET', key)
  return value and tonumber(string.match(value, '^%d+')) or 0
end

local function hold(key, till, now, holder)
  remember(key, text(till) .. ' ' .. holder, till - now)
end

function effects.unclaimed(key, now)
  return held_until(TAG .. 'claim:' .. key) <= now
end

function effects.admit(key, emission, tolerance, now, token, ttl)
  local token_key = TAG .. 'token:' .. key .. ':' .. token
  if token ~= '' and held_until(token_key) > now then
    return true
  end
  if not admit(TAG .. 'rate:' .. key, emission, tolerance, now) then
    return false
  end
  if token ~= '' then
    hold(token_key, now + ttl, now, '')
  end
  return true
end

function effects.lock(key)
  local holder = call('GET', PREFIX .. key)
  if holder and holder ~= RUN and call('HEXISTS', PREFIX .. 'runs', holder) == 1 then
    return false
  end
  call('SET', PREFIX .. key, RUN)
  return true
end

-- `state`: {revision, version, plan, started, size, stack, values, pending}.
function effects.create(id, key, created, till, head, start, work, lock, priority, state)
  local claim = TAG .. 'claim:' .. key
  if held_until(claim) > created or call('HEXISTS', PREFIX .. 'runs', id) == 1 then
    return false
  end
  hold(claim, till, created, id)
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
function effects.collect(key, wire, partition, event, ts, now, last_only, bound, max_size, max_bytes, token,
    ttl, payload)
  local token_key = TAG .. 'token:' .. key .. ':' .. token
  if token ~= '' and held_until(token_key) > now then
    return false
  end
  local collector = TAG .. 'collector:' .. key
  local open = call('HMGET', collector, 'job', 'opened', 'count', 'ts')
  if not open[1] then
    local item = new_item(wire)
    item.collector = key
    set_partition(item, partition[1], partition[2])
    local filled = full(last_only, 1, #payload, max_size, max_bytes)
    if filled then
      item.due = now
    end
    call('SET', TAG .. 'collected:' .. item.job, string.sub(payload, 1, -2))
    add_item(item, now)
    if not filled then
      call('HSET', collector, 'job', item.job, 'opened', now, 'count', 1, 'ts', ts)
    end
  else
    local item = load_item(FN, open[1])
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
        item.due = math.max(math.min(item.due, tonumber(open[2]) + bound), now + 1000)
      end
    else
      displace(item)
      local bytes = call('APPEND', events, ',' .. event) + 1
      if full(false, call('HINCRBY', collector, 'count', 1), bytes, max_size, max_bytes) then
        item.due = now
        call('DEL', collector)
      end
    end
    place(item, now)
    store_place(item)
  end
  if token ~= '' then
    hold(token_key, now + ttl, now, '')
  end
  return true
end
