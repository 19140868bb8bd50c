-- Queue items. One is a timer (not due yet), ready (in its partition), or leased.
--
-- The hash of an item: `blob` as it was queued, opaque; what has changed since (due, score, pid, attempt,
-- payload, epoch); what scripts need to know (run, kind, queue, def: the capacity that its partition needs);
-- who holds it (holder: worker and request).
-- Kinds here: start, call, timeout (of the run itself), cron, evict, other.
-- A member without a readable hash is damaged: it is dropped and counted, and all others go on.

local NO_CAPACITY = { {}, {}, '' }

local function item_key(fn, job)
  return of(fn) .. 'item:' .. job
end

local function load_item(fn, job)
  local got = call('HMGET', item_key(fn, job), 'state', 'run', 'kind', 'queue', 'pid', 'def', 'due', 'score',
    'mark', 'epoch', 'moves', 'collector', 'name')
  local def = NO_CAPACITY
  if got[6] ~= '' then
    def = got[6] and unpacked(got[6])
  end
  local item = {
    fn = fn, job = job, state = got[1], run = got[2], kind = got[3], queue = got[4], pid = got[5],
    packed = got[6], def = def, due = tonumber(got[7] or nil), score = tonumber(got[8] or nil), mark = got[9],
    epoch = tonumber(got[10] or nil), moves = got[11] == '1', collector = got[12] or '', name = got[13] or '',
  }
  if item.state and item.run and item.kind and item.queue and item.pid and item.def and item.due and item.score
      and item.mark and item.epoch then
    return item
  end
  return nil
end

local function is_call(item)
  return item.kind == 'start' or item.kind == 'call'
end

-- Whether a run has neither ended nor been evicted.
local function run_alive(fn, run)
  local got = call('HMGET', of(fn) .. 'run:' .. run, 'revision', 'evicted')
  return got[1] and got[2] ~= '1'
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

-- Lease the head of a partition, which is put back in the ring, if capacity allows; else park it.
local function lease_head(fn, pid, till, holder)
  local top = head_of(fn, pid)
  while top do
    local item = load_item(fn, unmarked(top))
    if item then
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
    count('damaged', 1)
    top = head_of(fn, pid)
  end
  return nil
end

-- Whether the item's run has ended, or is about to by the word of another item.
local function is_over(item)
  return item.run ~= '' and item.kind ~= 'evict' and not run_alive(item.fn, item.run)
end

-- Back to the queue, by its due time, with its capacity released. A run that has its place must not wait
-- behind those who wait for theirs, and so goes on among the runs that have begun.
local function unlease(item)
  if is_over(item) then
    remove_item(item)
    if call('EXISTS', of(item.fn) .. 'run:' .. item.run) == 1 then
      call('HSET', of(item.fn) .. 'jobs:' .. item.run, item.job, '0')
    end
    return
  end
  displace(item)
  if item.moves then
    local got = call('HMGET', of(item.fn) .. 'run:' .. item.run, 'work', 'work_def')
    item.pid, item.packed, item.moves = got[1], got[2], false
    item.def = cmsgpack.unpack(item.packed)
  end
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
    local item = load_item(fn, job)
    if item then
      make_ready(item)
      call('HSET', item_key(fn, job), 'state', item.state)
    else
      count('damaged', 1)
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
    local item = load_item(split(member))
    if item and item.state == 'leased' then
      unlease(item)
    else
      call('ZREM', key, member)
      count('damaged', 1)
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
