-- The ring of each queue: the partitions that have work and are not known to lack capacity, in turns.
-- Whoever waits has seen the ring empty, so that a message is due only when it no longer is.

local sizes = {}
local woken = {}

local function ring_key(queue)
  return PREFIX .. 'ring:' .. queue
end

local function ring_size(queue)
  return call('ZCARD', ring_key(queue))
end

local function watch_ring(queue)
  if not sizes[queue] then
    sizes[queue] = ring_size(queue)
  end
end

local function enring(fn, pid, queue)
  watch_ring(queue)
  call('ZADD', ring_key(queue), 'NX', next_serial(), fn .. '|' .. pid)
end

local function unring(fn, pid, queue)
  watch_ring(queue)
  return call('ZREM', ring_key(queue), fn .. '|' .. pid) == 1
end

local function wake_workers(queue)
  woken[queue] = true
end

local function send_wakes()
  for queue, before in pairs(sizes) do
    if before == 0 and ring_size(queue) > 0 then
      woken[queue] = true
    end
  end
  for queue in pairs(woken) do
    call('PUBLISH', PREFIX .. 'ready:' .. queue, '')
  end
end
