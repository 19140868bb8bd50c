-- The event stream and its consumer groups.

local call = redis.call
local STREAM = KEYS[1]

-- A flat reply of names and values, as a table.
local function fields(flat)
  local found = {}
  for place = 1, #flat, 2 do
    found[flat[place]] = flat[place + 1]
  end
  return found
end

local function groups()
  if call('EXISTS', STREAM) == 0 then
    return {}
  end
  local found = {}
  for place, flat in ipairs(call('XINFO', 'GROUPS', STREAM)) do
    found[place] = fields(flat)
  end
  return found
end

local function lowest_pending(group)
  return call('XPENDING', STREAM, group.name)[2]
end
