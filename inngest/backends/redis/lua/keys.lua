-- Names. What belongs to a function carries its hash tag; the rest are the server's indices.
-- ARGV[1]: the prefix of all keys. ARGV[2]: the time in ms, for tests; empty for this server's own.

local PREFIX = ARGV[1]

-- Sizes, for metrics.
-- `damaged`: records that could not be read, and were dropped.
local changes = { items = 0, pauses = 0, damaged = 0 }

local function count(what, by)
  changes[what] = changes[what] + by
end

-- How long (ms) a key of a wrong type is kept aside, for whoever wants to know.
local ASIDE = 86400000

-- Every command goes this way: a key of another type than its name says, and a number that is none, are damaged
-- records. They are put aside, and the command finds nothing there. A script that may not write only passes over.
local function call(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  local gone
  local no_number = string.find(reply.err, 'not an integer', 1, true)
  if string.find(reply.err, 'WRONGTYPE', 1, true) or (no_number and command == 'INCRBY') then
    gone = redis.pcall('RENAME', key, PREFIX .. 'damaged:' .. key)
    if not gone.err then
      redis.pcall('PEXPIRE', PREFIX .. 'damaged:' .. key, ASIDE)
    end
  elseif no_number and command == 'HINCRBY' then
    gone = redis.pcall('HDEL', key, (...))
  else
    error(reply)
  end
  count('damaged', 1)
  return redis.call(command, type(gone) == 'table' and gone.err and PREFIX .. 'nothing' or key, ...)
end

local NOW = tonumber(ARGV[2])
if not NOW then
  local time = redis.call('TIME')
  NOW = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function of(fn)
  return PREFIX .. '{' .. fn .. '}:'
end

-- Members of indices are "<function>|<name>"; a function id has no bar in it.
local function split(member)
  local bar = string.find(member, '|', 1, true)
  if not bar then
    return '', ''  -- damaged: there is no function without a name
  end
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

local function settle_counts()
  for what, by in pairs(changes) do
    if by ~= 0 then
      call('HINCRBY', PREFIX .. 'counts', what, by)
    end
  end
end

-- Whether a value is a list of these types: s(tring), n(umber), b(oolean), t(able).
local TYPES = { s = 'string', n = 'number', b = 'boolean', t = 'table' }

local function shaped(value, shape)
  if type(value) ~= 'table' then
    return false
  end
  for place = 1, #shape do
    if type(value[place]) ~= TYPES[string.sub(shape, place, place)] then
      return false
    end
  end
  return true
end

-- What a record of this shape holds, or nil if it is damaged.
local function unpacked(packed, shape)
  local good, value = pcall(cmsgpack.unpack, packed)
  if good and shaped(value, shape) then
    return value
  end
  return nil
end

-- The capacity that a partition needs: {cells, cell of the run or {}, throttle}, a cell being {name, index of its
-- limit}. nil if it is damaged.
local NO_CAPACITY = { {}, {}, '' }

local function capacity_of(packed)
  if packed == '' then
    return NO_CAPACITY
  end
  local def = packed and unpacked(packed, 'tts')
  if not def or (#def[2] > 0 and not shaped(def[2], 'sn')) then
    return nil
  end
  for _, cell in ipairs(def[1]) do
    if not shaped(cell, 'sn') then
      return nil
    end
  end
  return def
end
