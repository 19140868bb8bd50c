-- Pauses. Each is found by its run (hash of its records), and by what it waits for: a bucket for each event
-- name, or name, path and value; and for each name the paths that its buckets use.
-- In a bucket stands the run, a line feed, and the pause itself, opaque.

-- A record: {bucket, key of the paths or '', path, timeout job, whether it only cancels}.
local PAUSE = 'ssssb'

local function pauses_key(fn, run)
  return of(fn) .. 'pauses:' .. run
end

local function index_pause(id, run, record, blob)
  if call('HSET', PREFIX .. record[1], id, run .. '\n' .. blob) == 1 then
    count('pauses', 1)
    if record[2] ~= '' then
      call('HINCRBY', PREFIX .. record[2], record[3], 1)
    end
  end
end

local function unindex_pause(id, record)
  if call('HDEL', PREFIX .. record[1], id) == 1 then
    count('pauses', -1)
    if record[2] ~= '' and call('HINCRBY', PREFIX .. record[2], record[3], -1) <= 0 then
      call('HDEL', PREFIX .. record[2], record[3])
    end
  end
end

-- The pauses in a bucket that are other runs', as a list of ids.
local function pauses_of_others(bucket, run)
  local others = {}
  local entries = call('HGETALL', PREFIX .. bucket)
  for place = 1, #entries, 2 do
    if string.sub(entries[place + 1], 1, #run + 1) ~= run .. '\n' then
      table.insert(others, entries[place])
    end
  end
  return others
end
