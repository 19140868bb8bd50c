-- KEYS: a function's tag. ARGV: prefix, time, function, run. Reply: its items, as `item_reply`.

local items = {}
local jobs = call('HGETALL', of(ARGV[3]) .. 'jobs:' .. ARGV[4])
for place = 1, #jobs, 2 do
  local item = jobs[place + 1] == '1' and load_item(ARGV[3], jobs[place])
  if item then
    table.insert(items, item_reply(item))
  end
end
return items
