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

-- The next due time of a queue has moved forward.
local function wake_workers(queue)
  woken[queue] = true
end

-- What is said on the channel of a queue stands in bell.py: here, in how many ms there is something to do.
local function say(queue, words)
  call('PUBLISH', PREFIX .. 'ready:' .. queue, words)
end

local function in_ms(due)
  return text(math.max(due - NOW, 0))
end

local function send_wakes()
  for queue, before in pairs(sizes) do
    if before == 0 and ring_size(queue) > 0 then
      say(queue, '0')
      woken[queue] = nil
    end
  end
  for queue in pairs(woken) do
    local first = call('ZRANGE', PREFIX .. 'due:' .. queue, 0, 0, 'WITHSCORES')[2]
    if first then
      say(queue, in_ms(tonumber(first)))
    end
  end
end

-- One has looked and leaves nothing behind that is due within `ms` (-1: nothing is planned): the others need not
-- look.
local function say_quiet(queue, ms, who)
  say(queue, '=' .. (ms >= 0 and text(ms) or '-') .. ' ' .. who)
end
