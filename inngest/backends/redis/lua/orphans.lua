-- KEYS: the runs. ARGV: prefix, time, older than ms, {{run, function}...}. Reply: {those that nothing will move,
-- those that are dropped since they are damaged}.
-- What an index has lost of a run is put back, and what can be read no more is dropped.

local BEFORE = NOW - tonumber(ARGV[3])

-- As many of its waits are looked at.
local SOME = 100

-- Whether a run waits for an event that can find it.
local function waits(fn, run)
  local key = pauses_key(fn, run)
  local page = call('HSCAN', key, 0, 'COUNT', SOME)
  local pauses = page[2]
  for place = 1, #pauses, 2 do
    local id, record = pauses[place], unpacked(pauses[place + 1], PAUSE)
    if record and not record[5] and call('HEXISTS', PREFIX .. record[1], id) == 1 then
      if record[2] ~= '' and call('HSETNX', PREFIX .. record[2], record[3], 1) == 1 then
        count('damaged', 1)
      end
      return true
    elseif not record or not record[5] then
      call('HDEL', key, id)
      count('pauses', -1)
      count('damaged', 1)
    end
  end
  return page[1] ~= '0'  -- the next look goes on
end

local dropped = {}

local function moves(fn, run)
  local fields = run_fields(fn, run)
  if not fields then
    if call('EXISTS', of(fn) .. 'run:' .. run) + call('HEXISTS', PREFIX .. 'runs', run) > 0
      or call('ZSCORE', of(fn) .. 'runs', run) then
      drop_run(fn, run)
      table.insert(dropped, run)
      count('damaged', 1)
    end  -- else it has ended since it was listed
    return true
  end
  local lost = call('HSETNX', PREFIX .. 'runs', run, fn) + call('ZADD', of(fn) .. 'runs', 'NX', fields.created, run)
  if lost > 0 then
    count('damaged', 1)
  end
  if fields.created >= BEFORE then
    return true
  end
  local jobs = call('HGETALL', of(fn) .. 'jobs:' .. run)
  for place = 1, #jobs, 2 do
    local item = jobs[place + 1] == '1' and load_item(fn, jobs[place])
    if item then
      relink(item)
      return true
    end
  end
  if fields.waits > 0 then
    if waits(fn, run) then
      return true
    end
    call('HSET', of(fn) .. 'run:' .. run, 'waits', 0)
  end
  return false
end

local orphans = {}
for _, pair in ipairs(cmsgpack.unpack(ARGV[4])) do
  if not moves(pair[2], pair[1]) then
    table.insert(orphans, pair[1])
  end
end
settle_counts()
send_wakes()
return { orphans, dropped }
