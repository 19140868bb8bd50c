-- KEYS: the stream. ARGV: group. Reply: how many entries it was not given yet, or has not acknowledged.

local PAGE = 1000

-- Where the server cannot tell (it counts by what was ever added, which deletions spoil).
local function counted(last)
  local count = 0
  while true do
    local page = call('XRANGE', STREAM, '(' .. last, '+', 'COUNT', PAGE)
    count = count + #page
    if #page < PAGE then
      return count
    end
    last = page[PAGE][1]
  end
end

for _, group in ipairs(groups()) do
  if group.name == ARGV[1] then
    return group.pending + (group.lag or counted(group['last-delivered-id']))
  end
end
return call('XLEN', STREAM)
