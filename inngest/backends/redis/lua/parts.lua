-- What belongs to a run, as a whole.

-- Take all that a run would go on by: its pauses, its queued items but for the leased ones, its lock.
local function drop_parts(fn, run)
  local tag = of(fn)
  local jobs_key = tag .. 'jobs:' .. run
  local pauses = call('HGETALL', pauses_key(fn, run))
  for place = 1, #pauses, 2 do
    local record = unpacked(pauses[place + 1], PAUSE)
    if record then
      unindex_pause(pauses[place], record)
    else
      count('damaged', 1)
    end
  end
  call('UNLINK', pauses_key(fn, run))
  local jobs = call('HGETALL', jobs_key)
  for place = 1, #jobs, 2 do
    if jobs[place + 1] == '1' then
      local item = load_item(fn, jobs[place])
      if not item then
        drop_damaged(fn, jobs[place])
      elseif item.state ~= 'leased' then
        remove_item(item)
        call('HSET', jobs_key, jobs[place], '0')
      end
    end
  end
  local lock = call('HGET', tag .. 'run:' .. run, 'lock')
  if lock and lock ~= '' then
    local holder = call('GET', PREFIX .. lock)
    if holder and string.sub(holder, 1, #run + 1) == run .. ' ' then
      call('DEL', PREFIX .. lock)
    end
  end
end

-- Forget a run.
local function drop_run(fn, run)
  local tag = of(fn)
  drop_parts(fn, run)
  local packed = call('HGET', tag .. 'run:' .. run, 'start_def')
  local def = capacity_of(packed) or NO_CAPACITY
  if def[2][1] then
    local key = cell_key(fn, def[2][1])
    call('SREM', key, run)
    wake(key)
  end
  call('UNLINK', tag .. 'run:' .. run, tag .. 'steps:' .. run, tag .. 'stack:' .. run, tag .. 'pending:' .. run,
    tag .. 'jobs:' .. run)
  call('HDEL', PREFIX .. 'runs', run)
  call('ZREM', tag .. 'runs', run)
end
