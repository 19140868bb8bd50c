-- Names. What belongs to a function carries its hash tag; the rest are the server's indices.
-- ARGV[1]: the prefix of all keys. ARGV[2]: the time in ms, for tests; empty for this server's own.

local PREFIX = ARGV[1]
local call = redis.call

local NOW = tonumber(ARGV[2])
if not NOW then
  local time = call('TIME')
  NOW = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function of(fn)
  return PREFIX .. '{' .. fn .. '}:'
end

-- Members of indices are "<function>|<name>"; a function id has no bar in it.
local function split(member)
  local bar = string.find(member, '|', 1, true)
  return string.sub(member, 1, bar - 1), string.sub(member, bar + 1)
end

-- Numbers as text to the last digit: Lua's own conversion rounds to 14.
local function text(number)
  return string.format('%.0f', number)
end

-- How long (ms) a key that has lost its meaning may stay: the value decides.
local SLACK = 60000

local function remember(key, value, ttl)
  call('SET', key, value, 'PX', text(math.max(ttl, 0) + SLACK))
end

-- One rising number for all that needs an order, taken from the server by the dozen.
local BLOCK = 16
local serial, serials = 0, 0

local function next_serial()
  if serial == serials then
    serials = call('INCRBY', PREFIX .. 'serial', BLOCK)
    serial = serials - BLOCK
  end
  serial = serial + 1
  return serial
end

-- As the first 16 characters of a member it orders members of one score.
local MARK = 16

local function next_mark()
  return string.format('%016.0f', next_serial())
end

local function unmarked(member)
  return string.sub(member, MARK + 1)
end

-- Sizes, for metrics.
-- `damaged`: records that could not be read, and were dropped.
local changes = { items = 0, pauses = 0, damaged = 0 }

local function count(what, by)
  changes[what] = changes[what] + by
end

local function settle_counts()
  for what, by in pairs(changes) do
    if by ~= 0 then
      call('HINCRBY', PREFIX .. 'counts', what, by)
    end
  end
end

-- What a record holds, or nil if it is damaged.
local function unpacked(packed)
  local good, value = pcall(cmsgpack.unpack, packed)
  if good then
    return value
  end
  return nil
end
