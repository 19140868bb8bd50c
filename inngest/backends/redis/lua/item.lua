-- KEYS: a function's tag. ARGV: prefix, time, function, job. Reply: as `item_reply`, or false.

local item = load_item(ARGV[3], ARGV[4])
return item and item_reply(item) or false
