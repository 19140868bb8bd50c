-- KEYS: the stream. ARGV: group, where counting stops. Reply: how many entries it was not given yet, or has not
-- acknowledged.

local PAGE = 10
local MOST_BYTES = 16 * 1024 * 1024

-- Where the server cannot tell (it counts by what was ever added, which deletions spoil).
local function counted(last, most)
  local count, bytes = 0, 0
  while count < most and bytes < MOST_BYTES do
    local page = call('XRANGE', STREAM, '(' .. last, '+', 'COUNT', PAGE)
    count = count + #page
    if #page < PAGE then
      return count
    end
    last = page[PAGE][1]
    for _, entry in ipairs(page) do
      bytes = bytes + #entry[2][2]
    end
  end
  return count
end

for _, group in ipairs(groups()) do
  if group.name == ARGV[1] then
    return group.pending + (group.lag or counted(group['last-delivered-id'], tonumber(ARGV[2])))
  end
end
return call('XLEN', STREAM)
