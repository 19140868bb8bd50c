-- One transition in the making: {fn, run, lease job or '', lease epoch, effects}, as of
-- inngest/core/transition.py.

local T = cmsgpack.unpack(ARGV[3])
local FN, RUN, TAG = T[1], T[2], of(T[1])

-- The part of the run that changes; written back once, at the end.
-- An evicted run is there only for the item that tells its end: see `commit`.
local S = { alive = false, dirty = false, evicted = false }

local function run_key(part)
  return TAG .. part .. ':' .. RUN
end

local function load_state()
  local fields = run_fields(FN, RUN)
  if fields then
    for name, value in pairs(fields) do
      S[name] = value
    end
    S.alive = not S.evicted
  end
end

if RUN ~= '' then
  load_state()
end

local BEFORE = S.revision or -1

local function changed()
  S.revision = S.revision + 1
  S.dirty = true
end

local function save_state()
  if S.alive and S.dirty then
    call('HSET', run_key('run'), 'revision', S.revision, 'version', S.version, 'plan', S.plan and '1' or '0',
      'started', S.started, 'size', S.size, 'pending', S.pending, 'live', S.live, 'waits', S.waits,
      'taken', S.taken or '')
  end
end

-- The leased item that the transition is about; `last` is the newest queued call.
local leased, last

-- Timeouts of the run itself ask for no call.
local function stirs(item)
  return item.kind ~= 'timeout'
end

-- Forget an item; its job id stays used while its run lives.
local function forget(item)
  remove_item(item)
  if item == leased then
    leased = nil
  end
  if item.run == RUN and RUN ~= '' and (S.alive or S.evicted) then
    call('HSET', run_key('jobs'), item.job, '0')
    if stirs(item) then
      S.live, S.dirty = S.live - 1, true
    end
  end
end

-- An item on the wire: {job, kind, queue, run, due, score, pid, queued, name, blob}.
local function new_item(wire)
  return {
    fn = FN, job = wire[1], kind = wire[2], queue = wire[3], run = wire[4], due = wire[5], score = wire[6],
    name = wire[9], blob = wire[10], collector = '', epoch = 0, moves = false,
  }
end

local function set_partition(item, pid, packed)
  item.pid, item.packed = pid, packed
  item.def = capacity_of(packed)
end

-- Queue an item, in the partition given as {id, packed capacity}, or false for where items of its kind go.
local function push(wire, partition)
  local item = new_item(wire)
  if item.run ~= '' then
    if not S.alive or call('HSETNX', run_key('jobs'), item.job, '1') == 0 then
      return false
    end
    if stirs(item) then
      S.live, S.dirty = S.live + 1, true
    end
    item.moves = item.kind == 'start'
    if not partition and is_call(item) then
      partition = item.kind == 'start' and { S.start, S.start_def } or { S.work, S.work_def }
    end
    partition = partition or { FN .. (item.queue == 'runner' and '/r' or '/t'), '' }
  elseif call('EXISTS', item_key(FN, item.job)) == 1 then
    return false
  end
  partition = partition or { FN .. '/r', '' }
  set_partition(item, partition[1], partition[2])
  add_item(item)
  if item.kind == 'cron' and item.run == '' then
    call('HSET', TAG .. 'crons:' .. item.pid, item.name, item.job)
  end
  if is_call(item) then
    last = item
  end
  return true
end

-- Nothing of a run goes on but the item, which is made its own.
local function evict_run(run, wire)
  drop_parts(FN, run)
  local item = new_item(wire)
  item.run, item.job = run, run .. ':evict'
  set_partition(item, FN .. '/r', '')
  call('HSET', TAG .. 'run:' .. run, 'evicted', '1', 'live', 1, 'waits', 0)
  call('HSET', TAG .. 'jobs:' .. run, item.job, '1')
  add_item(item)
end

-- What leaves the engine: kept in order, pushed at the end.
local outbox = { events = {}, history = {} }

local function send_outbox()
  for box, entries in pairs(outbox) do
    if #entries > 0 then
      local key = PREFIX .. 'outbox:' .. box
      local length
      for first = 1, #entries, 1000 do
        length = call('RPUSH', key, unpack(entries, first, math.min(first + 999, #entries)))
      end
      local most = tonumber(ARGV[8])
      if box == 'history' and length > most then
        -- Nobody has fetched it for very long: the oldest goes.
        call('LTRIM', key, length - most, -1)
        call('INCRBY', key .. ':base', length - most)
        call('INCRBY', key .. ':dropped', length - most)
      end
      if length == #entries then
        call('PUBLISH', PREFIX .. 'outbox:' .. box, '')
      end
    end
  end
end

-- What each effect does, by its tag: function(arguments, place of the first) -> whether it wins.
local effects = {}
