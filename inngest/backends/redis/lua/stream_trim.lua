-- KEYS: the stream. ARGV: bytes of memory that it may take, groups that may lose entries. Reply: {how many
-- entries were dropped, how many of them a group was never given}. No call drops more than a page; 0 says that
-- nothing is left to drop.
--
-- Groups lose entries only while the stream is larger than it may be, the oldest first, a slice at a time, and
-- never what another group needs.

local PAGE, SLICE = 1000, 100

local function parts(id)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(time), tonumber(number)
end

local function earlier(one, other)
  local time, number = parts(one)
  local other_time, other_number = parts(other)
  return time < other_time or (time == other_time and number < other_number)
end

local function after(id)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  return time .. '-' .. string.format('%.0f', tonumber(number) + 1)
end

local function before(id)
  local time, number = parts(id)
  if number > 0 then
    return string.format('%.0f-%.0f', time, number - 1)
  end
  return string.format('%.0f-18446744073709551615', time - 1)
end

local function first_needed(group)
  return group.pending > 0 and lowest_pending(group) or after(group['last-delivered-id'])
end

-- The server drops whole nodes of its tree only, and so knows how to stop; what is left stands in one node.
local function trim(id)
  local count = call('XTRIM', STREAM, 'MINID', '~', id, 'LIMIT', PAGE)
  return count > 0 and count or call('XTRIM', STREAM, 'MINID', '=', id)
end

-- What the group was not given it will not be given any more, and its backlog has to know.
local function count_lost(group, first, ever)
  if earlier(group['last-delivered-id'], before(first)) then
    local lost = math.max(ever - (group['entries-read'] or ever), 0)
    call('XGROUP', 'SETID', STREAM, group.name, before(first), 'ENTRIESREAD', ever)
    call('HINCRBY', STREAM .. ':dropped', group.name, lost)
    return lost
  end
  return 0
end

local function shed(lossy, id)
  local count = 0
  for _, most in ipairs({ SLICE, PAGE }) do -- a node may hold more than a slice
    count = count > 0 and count or call('XTRIM', STREAM, 'MINID', '~', id, 'LIMIT', most)
  end
  if count == 0 then
    return { 0, 0 }
  end
  local first = call('XRANGE', STREAM, '-', '+', 'COUNT', 1)[1]
  local ever = fields(call('XINFO', 'STREAM', STREAM))['entries-added'] - call('XLEN', STREAM)
  local lost = 0
  for _, group in ipairs(lossy) do
    lost = math.max(lost, count_lost(group, first and first[1] or id, ever))
  end
  return { count, lost }
end

local may_lose = {}
for place = 2, #ARGV do
  may_lose[ARGV[place]] = true
end
local lossy, lowest, vital = {}, nil, nil
for _, group in ipairs(groups()) do
  local needed = first_needed(group)
  if not lowest or earlier(needed, lowest) then
    lowest = needed
  end
  if may_lose[group.name] then
    table.insert(lossy, group)
  elseif not vital or earlier(needed, vital) then
    vital = needed
  end
end
if not lowest then
  return { 0, 0 }
end
local trimmed = trim(lowest)
if trimmed == 0 and vital and earlier(lowest, vital) then
  if (call('MEMORY', 'USAGE', STREAM) or 0) > tonumber(ARGV[1]) then
    return shed(lossy, vital)
  end
end
return { trimmed, 0 }
