-- KEYS: the box. ARGV: prefix, time, box, token, who took. Reply: how many entries are left.
-- A token is the number of entries that ever left up to its last one, so that an old one changes nothing.

local list = PREFIX .. 'outbox:' .. ARGV[3]
local token = tonumber(ARGV[4])
local base = tonumber(call('GET', list .. ':base') or nil) or 0
if token > base then
  call('LTRIM', list, token - base, -1)
  call('SET', list .. ':base', text(token))
end
if call('GET', list .. ':claim') == ARGV[5] then
  call('DEL', list .. ':claim')
end
local left = call('LLEN', list)
settle_counts()
return left
