-- Capacity cells and throttles. A partition whose head has to wait is parked: in a line of the cell that is
-- full, until the release that makes room for it, or for a throttle, until a time.
-- Functions may share a cell, each with a limit of its own, so that those of one limit form a line, which is named
-- by it.

-- Only calls need capacity, and all calls are in this queue.
local CALLS_QUEUE = 'executor'

local configs = {}

local function config(fn)
  local known = configs[fn]
  if not known then
    local got = call('HMGET', of(fn) .. 'config', 'limits', 'emission', 'tolerance')
    local limits = got[1] and unpacked(got[1], ANY)
    if got[1] and not limits then
      call('HDEL', of(fn) .. 'config', 'limits')
      count('damaged', 1)
    end
    known = {
      limits = limits or {},
      emission = tonumber(got[2] or nil) or -1,
      tolerance = tonumber(got[3] or nil) or 0,
    }
    configs[fn] = known
  end
  return known
end

-- 0 for no limit.
local function limit_of(fn, index)
  return tonumber(config(fn).limits[index + 1]) or 0
end

local function cell_key(fn, name)
  if string.sub(name, 1, #fn + 1) == fn .. ':' then
    return of(fn) .. 'cell:' .. name
  end
  return PREFIX .. 'cell:' .. name
end

local function has_room(fn, cell, holder)
  local limit = limit_of(fn, cell[2])
  if limit == 0 then
    return true
  end
  local key = cell_key(fn, cell[1])
  return call('SCARD', key) < limit or call('SISMEMBER', key, holder) == 1
end

-- Where a partition is parked: {zset, member, index of lines or '', line, cell name, limit index}.
local SLOT = { 'string', 'string', 'string', 'string', 'string', 'number' }

local function parked(fn, pid)
  local packed = call('HGET', of(fn) .. 'parked', pid)
  local slot = packed and unpacked(packed, SLOT)
  if packed and not slot then
    call('HDEL', of(fn) .. 'parked', pid)
    count('damaged', 1)
  end
  return slot
end

local function leave_slot(slot)
  call('ZREM', slot[1], slot[2])
  if slot[3] ~= '' and call('EXISTS', slot[1]) == 0 then
    call('SREM', slot[3], slot[4])
  end
end

local function leave_line(fn, pid)
  local slot = parked(fn, pid)
  if slot then
    leave_slot(slot)
    call('HDEL', of(fn) .. 'parked', pid)
  end
end

local function unpark(fn, pid)
  leave_line(fn, pid)
  enring(fn, pid, CALLS_QUEUE)
end

-- As many as one script wakes at most, and as many as a change of limits gives another try at once. The cells at
-- which there is more to do are left to the next look for work.
local MOST_WOKEN = 200
local wakes_left = MOST_WOKEN

-- The first of those in a line whose limit leaves room: {member, score}, or nil.
local function first_in_line(key, line, taken)
  local limit = tonumber(line) or 0
  if limit > 0 and taken >= limit then
    return nil
  end
  local first = call('ZRANGE', key .. ':line:' .. line, 0, 0, 'WITHSCORES')
  if not first[1] then
    call('SREM', key .. ':lines', line)
    return nil
  end
  return { first[1], tonumber(first[2]) }
end

-- Wake as many of those who wait for a cell as there is room for, in score order.
local function wake(key)
  local lines = call('SMEMBERS', key .. ':lines')
  if #lines == 0 then
    return
  end
  local taken = call('SCARD', key)
  local heads = {}
  for place, line in ipairs(lines) do
    heads[place] = first_in_line(key, line, taken)
  end
  while true do
    local best
    for place, line in ipairs(lines) do
      local limit, head = tonumber(line) or 0, heads[place]
      if head and (limit == 0 or taken < limit) then
        local first = heads[best]
        if not first or head[2] < first[2] or (head[2] == first[2] and head[1] < first[1]) then
          best = place
        end
      end
    end
    if not best then
      return
    end
    if wakes_left == 0 then
      call('ZADD', PREFIX .. 'stirred', 'NX', next_serial(), key)
      return
    end
    wakes_left, taken = wakes_left - 1, taken + 1
    call('ZREM', key .. ':line:' .. lines[best], heads[best][1])
    unpark(split(unmarked(heads[best][1])))
    heads[best] = first_in_line(key, lines[best], taken)
  end
end

-- Go on where a script had woken its most. Whether there is more.
local function wake_more()
  while wakes_left > 0 do
    local key = call('ZPOPMIN', PREFIX .. 'stirred')[1]
    if not key then
      return false
    end
    wake(key)
    wakes_left = math.max(wakes_left - 1, 0)  -- to look is work, too
  end
  return call('EXISTS', PREFIX .. 'stirred') == 1
end

-- A woken partition does not use the capacity it was woken for: the next in line may.
local function pass_on(item, but)
  for _, cell in ipairs(item.def[1]) do
    if cell[1] ~= but then
      wake(cell_key(item.fn, cell[1]))
    end
  end
  local run_cell = item.def[2]
  if run_cell[1] and run_cell[1] ~= but then
    wake(cell_key(item.fn, run_cell[1]))
  end
end

-- Let the partition of `item`, its head, wait for a cell.
local function park(item, cell)
  leave_line(item.fn, item.pid)
  local key = cell_key(item.fn, cell[1])
  local line = text(limit_of(item.fn, cell[2]))
  local member = next_mark() .. item.fn .. '|' .. item.pid
  local slot = { key .. ':line:' .. line, member, key .. ':lines', line, cell[1], cell[2] }
  call('ZADD', slot[1], item.score, slot[2])
  call('SADD', slot[3], line)
  call('HSET', of(item.fn) .. 'parked', item.pid, cmsgpack.pack(slot))
  pass_on(item, cell[1])
end

-- The generic cell rate algorithm in microseconds (see `core/timing/gcra.py`): whether one more is admitted, and when
-- to try again.
local function admit(key, emission, tolerance)
  local us = NOW * 1000
  local stored = tonumber(call('GET', key) or nil) or 0
  local tat = math.min(math.max(stored, us), us + tolerance)
  local retry = tat + emission - tolerance
  local admitted = us >= retry
  if admitted then
    tat = tat + emission
  end
  if admitted or tat < stored then
    remember(key, text(tat), math.ceil(tat / 1000) - NOW)
  end
  return admitted, retry
end

local function pass_throttle(item)
  local limits = config(item.fn)
  if limits.emission < 0 then
    return true
  end
  local admitted, retry = admit(of(item.fn) .. 'throttle:' .. item.def[3], limits.emission, limits.tolerance)
  if admitted then
    return true
  end
  local member = next_mark() .. item.fn .. '|' .. item.pid
  local slot = { PREFIX .. 'wake:' .. CALLS_QUEUE, member, '', '', '', 0 }
  call('ZADD', slot[1], math.ceil(retry / 1000), slot[2])
  call('HSET', of(item.fn) .. 'parked', item.pid, cmsgpack.pack(slot))
  pass_on(item, '')
  return false
end

-- A full cell may be held by a run that is lost. One of them is looked at; whether its place is free now.
local function free_of_lost(fn, run_cell)
  local key = cell_key(fn, run_cell[1])
  local run = call('SRANDMEMBER', key)
  if run and not call('HGET', PREFIX .. 'runs', run) then
    call('SREM', key, run)
    count('damaged', 1)
  end
  return has_room(fn, run_cell, '')
end

-- Take the capacity for a call, or park its partition.
local function acquire(item)
  local fn, cells, run_cell = item.fn, item.def[1], item.def[2]
  local starting = item.kind == 'start'
  for _, cell in ipairs(cells) do
    if not has_room(fn, cell, item.job) then
      park(item, cell)
      return false
    end
  end
  if starting then
    if run_cell[1] and not has_room(fn, run_cell, item.run) and not free_of_lost(fn, run_cell) then
      park(item, run_cell)
      return false
    end
    if item.def[3] ~= '' and not pass_throttle(item) then
      return false
    end
  end
  for _, cell in ipairs(cells) do
    call('SADD', cell_key(fn, cell[1]), item.job)
  end
  if starting and run_cell[1] then
    call('SADD', cell_key(fn, run_cell[1]), item.run)
  end
  return true
end

local function release(item)
  for _, cell in ipairs(item.def[1]) do
    local key = cell_key(item.fn, cell[1])
    call('SREM', key, item.job)
    wake(key)
  end
end

-- A call whose item is lost gives back what it can have held: of its run one knows where its calls go.
local function free_cells(fn, job)
  local run = string.match(job, '^(.-):')
  local defs = run and call('HMGET', of(fn) .. 'run:' .. run, 'start_def', 'work_def') or {}
  for place = 1, #defs do
    local def = capacity_of(defs[place]) or NO_CAPACITY
    for _, cell in ipairs(def[1]) do
      local key = cell_key(fn, cell[1])
      if call('SREM', key, job) == 1 then
        wake(key)
      end
    end
  end
end

-- The limits of a function have changed: whoever waits for its capacity by now may have another try. It is
-- worked off in pages: `reconsider` has the functions, by the serial that ends what waits by now, and
-- `reconsidered` how far each has come.
local function reconsider(fn)
  call('ZADD', PREFIX .. 'reconsider', next_serial(), fn)
  call('HDEL', PREFIX .. 'reconsidered', fn)
end

-- Go on with it. Whether there is more.
local function reconsider_some()
  local first = call('ZRANGE', PREFIX .. 'reconsider', 0, 0, 'WITHSCORES')
  local fn = first[1]
  if not fn then
    return false
  end
  local mark = string.format('%016.0f', tonumber(first[2]))
  local cursor = string.match(call('HGET', PREFIX .. 'reconsidered', fn) or '', '^%d+$') or '0'
  local page = call('HSCAN', of(fn) .. 'parked', cursor, 'COUNT', MOST_WOKEN)
  local waiting = {}
  for place = 1, #page[2], 2 do
    local record = unpacked(page[2][place + 1], SLOT)
    if not record then
      call('HDEL', of(fn) .. 'parked', page[2][place])
      count('damaged', 1)
    elseif string.sub(record[2], 1, MARK) < mark then
      table.insert(waiting, { string.sub(record[2], 1, MARK), page[2][place] })
    end
  end
  table.sort(waiting, function(one, other) return one[1] < other[1] end)
  for _, entry in ipairs(waiting) do
    unpark(fn, entry[2])
  end
  if page[1] == '0' then
    call('ZREM', PREFIX .. 'reconsider', fn)
    call('HDEL', PREFIX .. 'reconsidered', fn)
  else
    call('HSET', PREFIX .. 'reconsidered', fn, page[1])
  end
  return call('EXISTS', PREFIX .. 'reconsider') == 1
end

-- As many pages of it as one call may do.
local MOST_PAGES = 4

local function reconsider_page()
  local more = true
  for _ = 1, MOST_PAGES do
    more = more and reconsider_some()
  end
  return more
end
