-- KEYS: the stream. Drops what all groups have acknowledged. Reply: how many entries.

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

local lowest
for _, group in ipairs(groups()) do
  local needed
  if group.pending > 0 then
    needed = call('XPENDING', STREAM, group.name)[2]
  else
    needed = after(group['last-delivered-id'])
  end
  if not lowest or earlier(needed, lowest) then
    lowest = needed
  end
end
return lowest and call('XTRIM', STREAM, 'MINID', '=', lowest) or 0
