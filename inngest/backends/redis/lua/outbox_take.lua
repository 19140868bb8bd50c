-- KEYS: the box. ARGV: prefix, time, box, limit, who takes. Reply: {token, whether there is more, entries, ms
-- until the claim of another is over}.
-- One drains a box at a time: the others get nothing until it has acknowledged, or its claim is over.

local CLAIM = 10000  -- ms
local MOST_BYTES = 8 * 1024 * 1024
local CHUNK = 64

local list = PREFIX .. 'outbox:' .. ARGV[3]
local limit = tonumber(ARGV[4])
local holder = call('GET', list .. ':claim')
if holder and holder ~= ARGV[5] then
  return { 0, 0, {}, call('PTTL', list .. ':claim') + 1 }
end
local entries, bytes = {}, 0
while #entries < limit and bytes < MOST_BYTES do
  local first = #entries
  for _, entry in ipairs(call('LRANGE', list, first, math.min(first + CHUNK, limit) - 1)) do
    if bytes < MOST_BYTES then
      table.insert(entries, entry)
      bytes = bytes + #entry
    end
  end
  if #entries < first + CHUNK then
    break
  end
end
if #entries == 0 then
  settle_counts()
  return { 0, 0, entries, 0 }
end
call('SET', list .. ':claim', ARGV[5], 'PX', CLAIM)
local base = tonumber(call('GET', list .. ':base') or nil) or 0
local more = call('LLEN', list) > #entries and 1 or 0
settle_counts()
return { base + #entries, more, entries, 0 }
