-- Effects on the run and its pauses, and what they send out.

function effects.begin(at)
  if not S.alive or S.started ~= 0 then
    return false
  end
  S.started = at
  changed()
  return true
end

function effects.adopt(version)
  if not S.alive or S.version >= 0 then
    return false
  end
  S.version = version
  changed()
  return true
end

function effects.force()
  if not S.alive then
    return false
  end
  if not S.plan then
    S.plan = true
    changed()
  end
  return true
end

function effects.save(step, value)
  if not S.alive or call('HSETNX', run_key('steps'), step, value) == 0 then
    return false
  end
  call('RPUSH', run_key('stack'), step)
  if S.pending > 0 then
    S.pending = S.pending - call('SREM', run_key('pending'), step)
  end
  S.size = S.size + #value
  changed()
  return true
end

effects['await'] = function(steps)
  if not S.alive then
    return false
  end
  call('DEL', run_key('pending'))
  S.pending = 0
  for _, step in ipairs(steps) do
    if call('HEXISTS', run_key('steps'), step) == 0 then
      S.pending = S.pending + call('SADD', run_key('pending'), step)
    end
  end
  changed()
  return S.pending > 0
end

function effects.discover(wire, race, planned)
  if not S.alive or (S.pending > 0 and not race) then
    return false
  end
  -- A step that is run at once, and not planned, must not be found by two calls.
  local others = S.live
  if leased and leased.run == RUN and stirs(leased) then
    others = others - 1
  end
  local alone = others == 0 and S.waits == 0
  if not push(wire, false) then
    return false
  end
  if alone and not planned and S.plan and S.version >= 2 then
    S.plan = false
    changed()
  end
  return true
end

function effects.pause(id, step, record, exclusive, blob)
  if not S.alive or call('HEXISTS', pauses_key(FN, RUN), id) == 1 then
    return false
  end
  if step ~= '' and call('HEXISTS', run_key('steps'), step) == 1 then
    return false
  end
  if exclusive ~= '' then
    local others = pauses_of_others(record[1], RUN)
    if #others > 0 and exclusive == 'fail' then
      return false
    end
    for _, other in ipairs(others) do
      unindex_pause(other, record)
    end
  end
  call('HSET', pauses_key(FN, RUN), id, cmsgpack.pack(record))
  index_pause(id, RUN, record, blob)
  if not record[5] then
    S.waits, S.dirty = S.waits + 1, true
  end
  return true
end

effects['signal-taken'] = function(bucket, id, step)
  if S.alive then
    if call('HEXISTS', pauses_key(FN, RUN), id) == 1 or call('HEXISTS', run_key('steps'), step) == 1 then
      return false
    end
  end
  return #pauses_of_others(bucket, RUN) > 0
end

function effects.take(id)
  local packed = S.alive and call('HGET', pauses_key(FN, RUN), id)
  if not packed then
    return false
  end
  call('HDEL', pauses_key(FN, RUN), id)
  local record = unpacked(packed, PAUSE)
  if not record then
    count('damaged', 1)
    return true
  end
  unindex_pause(id, record)
  if not record[5] then
    S.waits, S.dirty = S.waits - 1, true
  end
  local timeout = record[4] ~= '' and load_item(FN, record[4])
  if timeout and timeout.run == RUN and timeout.state ~= 'leased' then
    forget(timeout)
  end
  return true
end

function effects.evict(wire)
  if not S.alive then
    return false
  end
  save_state()
  evict_run(RUN, wire)
  S.alive, S.evicted, last = false, true, nil
  return true
end

effects['end'] = function()
  if not S.alive then
    return false
  end
  S.alive, S.evicted, last = false, false, nil
  drop_run(FN, RUN)
  return true
end

function effects.emit(event)
  table.insert(outbox.events, event)
  return true
end

function effects.record(entry)
  table.insert(outbox.history, entry)
  return true
end
