-- Queue items. One is a timer (not due yet), ready (in its partition), or leased.
--
-- The hash of an item: `blob` as it was queued, opaque; what has changed since (due, score, pid, attempt,
-- payload, epoch); what scripts need to know (run, kind, queue, def: the capacity that its partition needs);
-- who holds it (holder: worker and request).
-- Kinds here: start, call, timeout (of the run itself), cron, evict, other.
-- A member without a readable hash is damaged: it is dropped and counted, and all others go on.

local function item_key(fn, job)
  return of(fn) .. 'item:' .. job
end

local QUEUES = { executor = true, runner = true }
local STATES = { timer = true, ready = true, leased = true }

local function load_item(fn, job)
  local got = call('HMGET', item_key(fn, job), 'state', 'run', 'kind', 'queue', 'pid', 'def', 'due', 'score',
    'mark', 'epoch', 'moves', 'collector', 'name')
  local def = capacity_of(got[6])
  local item = {
    fn = fn, job = job, state = got[1], run = got[2], kind = got[3], queue = got[4], pid = got[5],
    packed = got[6], def = def, due = tonumber(got[7] or nil), score = tonumber(got[8] or nil), mark = got[9],
    epoch = tonumber(got[10] or nil), moves = got[11] == '1', collector = got[12] or '', name = got[13] or '',
  }
  if STATES[item.state] and item.run and item.kind and item.queue and item.pid and item.def and item.due and item.score
      and item.mark and item.epoch and QUEUES[item.queue] then
    return item
  end
  return nil
end

local function is_call(item)
  return item.kind == 'start' or item.kind == 'call'
end

-- A member has led to no item that can be read: what is left of it goes, and its run has no item of this id.
local function drop_damaged(fn, job)
  local tag = of(fn)
  call('UNLINK', tag .. 'item:' .. job, tag .. 'collected:' .. job)
  count('items', -1)
  count('damaged', 1)
  free_cells(fn, job)
end

-- The item that a member of an index stands for, or nil: then the member, which its caller removes, is damaged.
local function item_of(fn, job, state, mark)
  local item = load_item(fn, job)
  if not item then
    drop_damaged(fn, job)
  elseif item.state ~= state or (mark and item.mark ~= mark) then
    count('damaged', 1)  -- the item is elsewhere
    return nil
  end
  return item
end

-- The hash of a run, but for what is opaque: its fields by name, or nil if it is not there or damaged.
local RUN_FIELDS = { 'revision', 'version', 'started', 'size', 'pending', 'live', 'waits', 'priority', 'created',
  'weight', 'plan', 'evicted', 'start', 'start_def', 'work', 'work_def' }
local RUN_NUMBERS = 10  -- the first of them

local function run_fields(fn, run)
  local key = of(fn) .. 'run:' .. run
  local got = call('HMGET', key, unpack(RUN_FIELDS))
  local fields = {}
  for place = 1, RUN_NUMBERS do
    local number = tonumber(got[place] or nil)
    if not number then
      return nil
    end
    fields[RUN_FIELDS[place]] = number
  end
  fields.plan, fields.evicted = got[11] == '1', got[12] == '1'
  fields.start, fields.start_def, fields.work, fields.work_def = got[13], got[14], got[15], got[16]
  if got[13] and got[15] and capacity_of(got[14]) and capacity_of(got[16]) then
    return fields
  end
  return nil
end

-- Whether a run has neither ended nor been evicted.
local function run_alive(fn, run)
  local fields = run_fields(fn, run)
  return fields and not fields.evicted
end

local function ready_key(item)
  return of(item.fn) .. 'ready:' .. item.pid
end

local function head_of(fn, pid)
  return call('ZRANGE', of(fn) .. 'ready:' .. pid, 0, 0)[1]
end

local function make_ready(item)
  item.state = 'ready'
  call('ZADD', ready_key(item), item.score, item.mark .. item.job)
  local slot = item.packed ~= '' and parked(item.fn, item.pid)
  if not slot then
    enring(item.fn, item.pid, item.queue)
  elseif slot[3] ~= '' and head_of(item.fn, item.pid) == item.mark .. item.job then
    park(item, { slot[5], slot[6] })  -- the partition moves forward in its line
  end
end

local function due_key(queue)
  return PREFIX .. 'due:' .. queue
end

-- Insert by due time; the caller stores what has changed of the item.
local function place(item)
  item.mark = next_mark()
  if item.due > NOW then
    item.state = 'timer'
    local key, member = due_key(item.queue), item.mark .. item.fn .. '|' .. item.job
    call('ZADD', key, item.due, member)
    if call('ZRANK', key, member) == 0 then
      wake_workers(item.queue)  -- the next due time has moved forward
    end
  else
    make_ready(item)
  end
end

local function store_place(item)
  call('HSET', item_key(item.fn, item.job), 'state', item.state, 'due', item.due, 'score', item.score,
    'mark', item.mark, 'pid', item.pid, 'def', item.packed, 'moves', item.moves and '1' or '')
end

local function add_item(item)
  place(item)
  call('HSET', item_key(item.fn, item.job), 'blob', item.blob, 'run', item.run, 'kind', item.kind, 'queue',
    item.queue, 'pid', item.pid, 'def', item.packed, 'due', item.due, 'score', item.score, 'mark', item.mark,
    'state', item.state, 'epoch', 0, 'moves', item.moves and '1' or '', 'collector', item.collector,
    'name', item.name)
  count('items', 1)
end

-- Take an item from wherever it is; what it held is released.
local function displace(item)
  if item.state == 'leased' then
    call('ZREM', PREFIX .. 'leases', item.fn .. '|' .. item.job)
    if is_call(item) then
      release(item)
    end
  elseif item.state == 'timer' then
    call('ZREM', due_key(item.queue), item.mark .. item.fn .. '|' .. item.job)
  else
    call('ZREM', ready_key(item), item.mark .. item.job)
    if call('EXISTS', ready_key(item)) == 0 then
      if unring(item.fn, item.pid, item.queue) then
        pass_on(item, '')
      elseif item.packed ~= '' then
        leave_line(item.fn, item.pid)
      end
    end
  end
end

local function close_collector(item)
  if item.collector ~= '' then
    local key = of(item.fn) .. 'collector:' .. item.collector
    if call('HGET', key, 'job') == item.job then
      call('DEL', key)
    end
  end
end

local function remove_item(item)
  displace(item)
  local tag = of(item.fn)
  call('UNLINK', tag .. 'item:' .. item.job)
  if item.collector ~= '' then
    close_collector(item)
    call('UNLINK', tag .. 'collected:' .. item.job)
  end
  if item.kind == 'cron' and call('HGET', tag .. 'crons:' .. item.pid, item.name) == item.job then
    call('HDEL', tag .. 'crons:' .. item.pid, item.name)
  end
  count('items', -1)
end

-- What the caller needs to make the item again.
local function item_reply(item)
  local key = item_key(item.fn, item.job)
  local got = call('HMGET', key, 'blob', 'attempt', 'payload')
  local payload = got[3]
  if not payload and item.collector ~= '' then
    payload = (call('GET', of(item.fn) .. 'collected:' .. item.job) or '[') .. ']'
  end
  return { got[1], item.run, item.due, item.score, item.pid, item.epoch, got[2], payload, item.job, item.fn }
end

-- -- leasing --

-- As many damaged heads of a partition are dropped at once.
local MOST_DAMAGED = 20

-- Lease the head of a partition, which is put back in the ring, if capacity allows; else park it.
local function lease_head(fn, pid, queue, till, holder)
  for _ = 1, MOST_DAMAGED do
    local top = head_of(fn, pid)
    if not top then
      return nil
    end
    local item = item_of(fn, unmarked(top), 'ready', string.sub(top, 1, MARK))
    if item and (item.pid ~= pid or item.queue ~= queue) then
      count('damaged', 1)
    elseif item then
      if is_call(item) and not acquire(item) then
        return nil
      end
      call('ZREM', ready_key(item), top)
      close_collector(item)
      item.state, item.epoch = 'leased', item.epoch + 1
      call('HSET', item_key(fn, item.job), 'state', item.state, 'epoch', item.epoch, 'holder', holder)
      call('ZADD', PREFIX .. 'leases', till, fn .. '|' .. item.job)
      if call('EXISTS', ready_key(item)) == 1 then
        enring(fn, pid, item.queue)
      end
      return item
    end
    call('ZREM', of(fn) .. 'ready:' .. pid, top)
  end
  enring(fn, pid, queue)
  return nil
end

-- Whether the item's run has ended, or is about to by the word of another item.
local function is_over(item)
  return item.run ~= '' and item.kind ~= 'evict' and not run_alive(item.fn, item.run)
end

-- Back to the queue, by its due time, with its capacity released. A run that has its place must not wait
-- behind those who wait for theirs, and so goes on among the runs that have begun. It was due, whatever the clock
-- has been set to since, unless it is to wait until `due`.
local function unlease(item, due)
  if is_over(item) then
    remove_item(item)
    if call('EXISTS', of(item.fn) .. 'run:' .. item.run) == 1 then
      call('HSET', of(item.fn) .. 'jobs:' .. item.run, item.job, '0')
    end
    return
  end
  displace(item)
  if item.moves then
    local run = run_fields(item.fn, item.run)
    item.pid, item.packed, item.moves = run.work, run.work_def, false
    item.def = capacity_of(item.packed)
  end
  item.due = due or math.min(item.due, NOW)
  place(item)
  store_place(item)
end

-- At most this many at once: a server serves others too, and the caller comes again.
local MOST_TIMERS = 500
local MOST_LEASES = 100

local function promote(queue)
  local key = due_key(queue)
  for _, member in ipairs(call('ZRANGE', key, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, MOST_TIMERS)) do
    local fn, job = split(unmarked(member))
    call('ZREM', key, member)
    local item = item_of(fn, job, 'timer', string.sub(member, 1, MARK))
    if item then
      make_ready(item)
      call('HSET', item_key(fn, job), 'state', item.state)
    end
  end
  local wakes = PREFIX .. 'wake:' .. queue
  for _, member in ipairs(call('ZRANGE', wakes, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, MOST_TIMERS)) do
    call('ZREM', wakes, member)
    unpark(split(unmarked(member)))
  end
end

local function expire()
  local key = PREFIX .. 'leases'
  for _, member in ipairs(call('ZRANGE', key, '-inf', NOW, 'BYSCORE', 'LIMIT', 0, MOST_LEASES)) do
    local fn, job = split(member)
    local item = item_of(fn, job, 'leased')
    if item then
      unlease(item)
    else
      call('ZREM', key, member)
    end
  end
end

-- The item that is leased under this epoch.
local function leased_item(fn, job, epoch)
  local item = load_item(fn, job)
  if item and item.state == 'leased' and item.epoch == epoch then
    return item
  end
  return nil
end

-- Put an item back where its state says that it is, if an index has lost it.
local function relink(item)
  local fn, pid = item.fn, item.pid
  local lost = false
  if item.state == 'leased' then
    lost = call('ZADD', PREFIX .. 'leases', 'NX', NOW, fn .. '|' .. item.job) == 1
  elseif item.state == 'timer' then
    lost = call('ZADD', due_key(item.queue), 'NX', item.due, item.mark .. fn .. '|' .. item.job) == 1
    if lost then
      wake_workers(item.queue)
    end
  elseif not call('ZSCORE', ready_key(item), item.mark .. item.job) then
    lost = true
    make_ready(item)
  elseif not call('ZSCORE', ring_key(item.queue), fn .. '|' .. pid) then
    local slot = item.packed ~= '' and parked(fn, pid)
    if not slot or not call('ZSCORE', slot[1], slot[2]) then
      lost = true
      leave_line(fn, pid)
      enring(fn, pid, item.queue)
    elseif slot[3] ~= '' then
      lost = call('SADD', slot[3], slot[4]) == 1
      if lost then
        wake(string.sub(slot[3], 1, -#':lines' - 1))
      end
    end
  end
  if lost then
    count('damaged', 1)
  end
end
