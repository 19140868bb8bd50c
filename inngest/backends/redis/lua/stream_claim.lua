-- KEYS: the stream. ARGV: prefix of the signs of life, group, who claims, how many at most, consumers that
-- had given no sign of life at the last look. Reply: {entries, consumers that give none now}.
--
-- A consumer is dead if it has said so, or was silent at two looks: after the server was away, all are
-- silent for a moment. It is forgotten when nothing of it is left; forgotten before, it would take its
-- deliveries along.

local MOST = 1000

local SIGNS, GROUP, ME, LIMIT = ARGV[1], ARGV[2], ARGV[3], math.min(tonumber(ARGV[4]), MOST)
local silent_before = {}
for place = 5, #ARGV do
  silent_before[ARGV[place]] = true
end

local entries, silent = {}, {}

local function claim(name)
  local ids = {}
  for _, pending in ipairs(call('XPENDING', STREAM, GROUP, '-', '+', LIMIT - #entries, name)) do
    table.insert(ids, pending[1])
  end
  if #ids > 0 then
    for _, entry in ipairs(call('XCLAIM', STREAM, GROUP, ME, 0, unpack(ids))) do
      table.insert(entries, entry)
    end
  end
end

for _, flat in ipairs(call('XINFO', 'CONSUMERS', STREAM, GROUP)) do
  local name = fields(flat).name
  local sign = name ~= ME and call('GET', SIGNS .. name)
  if name ~= ME and sign ~= 'alive' then
    local dead = sign == 'gone' or silent_before[name]
    if dead and #entries < LIMIT then
      claim(name)
    end
    if dead and #call('XPENDING', STREAM, GROUP, '-', '+', 1, name) == 0 then
      call('XGROUP', 'DELCONSUMER', STREAM, GROUP, name)
    else
      table.insert(silent, name)
    end
  end
end
return { entries, silent }
