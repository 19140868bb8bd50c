-- Effects on queue items.

function effects.enqueue(wire, partition)
  return push(wire, partition)
end

function effects.first(wires)
  for _, wire in ipairs(wires) do
    if push(wire, false) then
      return true
    end
  end
  return false
end

function effects.drop(job)
  local item = load_item(FN, job)
  if not item or item.state == 'leased' or item.run ~= RUN then
    return false
  end
  forget(item)
  return true
end

function effects.complete()
  if leased then
    forget(leased)
  end
  return true
end

function effects.retry(due, attempt, payload)
  local item = leased
  if not item then
    return true
  end
  leased = nil
  if item.run ~= '' and not S.alive then
    forget(item)  -- the run has ended meanwhile
    return true
  end
  item.score = due - (S.priority or 0) * 1000
  unlease(item, due)
  call('HSET', item_key(FN, item.job), 'attempt', attempt)
  if payload then
    call('HSET', item_key(FN, item.job), 'payload', payload)
  end
  return true
end

function effects.reset(job, epoch, ms)
  if not S.alive or not leased_item(FN, job, epoch) then
    return false
  end
  call('ZADD', PREFIX .. 'leases', 'XX', 'GT', NOW + ms, FN .. '|' .. job)
  call('HSET', item_key(FN, job), 'attempt', 0)
  return true
end

-- The schedules of a partition: the name of each, and the job of its newest item.
function effects.crons(wires, partition, version)
  local crons = TAG .. 'crons:' .. partition[1]
  local before = tonumber(call('HGET', TAG .. 'crons', partition[1]) or nil) or 0
  if version < before then
    return false
  end
  if version > before then
    call('HSET', TAG .. 'crons', partition[1], version)
  end
  local wanted, queued = {}, {}
  for _, wire in ipairs(wires) do
    wanted[wire[9]] = true
  end
  local known = call('HGETALL', crons)
  for place = 1, #known, 2 do
    local name, item = known[place], load_item(FN, known[place + 1])
    if not item then
      call('HDEL', crons, name)
      drop_damaged(FN, known[place + 1])
    else
      queued[name] = true
      relink(item)
      if not wanted[name] and item.state ~= 'leased' then
        remove_item(item)
      end
    end
  end
  for _, wire in ipairs(wires) do
    if not queued[wire[9]] then
      push(wire, partition)
    end
  end
  return true
end
