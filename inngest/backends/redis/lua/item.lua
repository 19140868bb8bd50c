-- KEYS: the jobs. ARGV: prefix, job. Reply: as `item_reply`, or false.

local fn = owner_of(ARGV[2])
local item = fn and load_item(fn, ARGV[2])
return item and item_reply(item) or false
