-- KEYS: the runs. ARGV: prefix, run. Reply: its items, as `item_reply`.

local RUN = ARGV[2]
local fn = call('HGET', PREFIX .. 'runs', RUN)
local items = {}
if fn then
  local jobs = call('HGETALL', of(fn) .. 'jobs:' .. RUN)
  for place = 1, #jobs, 2 do
    if jobs[place + 1] == '1' then
      table.insert(items, item_reply(load_item(fn, jobs[place])))
    end
  end
end
return items
