-- KEYS: the stream. ARGV: prefix of the signs of life, group, who claims, how many entries at most, how many
-- bytes, consumers that had given no sign of life at the last look. Reply: {entries, consumers that give none
-- now}.
--
-- A consumer is dead if it has said so, or was silent at two looks: after the server was away, all are
-- silent for a moment. It is forgotten when nothing of it is left; forgotten before, it would take its
-- deliveries along.

local MOST = 1000
local MOST_DEAD = 100 -- looked after in one call; the others are still there for the next

local SIGNS, GROUP, ME = ARGV[1], ARGV[2], ARGV[3]
local LIMIT, MOST_BYTES = math.min(tonumber(ARGV[4]), MOST), tonumber(ARGV[5])
local silent_before = {}
for place = 6, #ARGV do
  silent_before[ARGV[place]] = true
end

local entries, silent = {}, {}
local bytes, buried = 0, 0

local function room()
  return #entries < LIMIT and bytes < MOST_BYTES
end

local function claim(name)
  for _, pending in ipairs(call('XPENDING', STREAM, GROUP, '-', '+', LIMIT - #entries, name)) do
    if not room() then
      return
    end
    for _, entry in ipairs(call('XCLAIM', STREAM, GROUP, ME, 0, pending[1])) do
      table.insert(entries, entry)
      bytes = bytes + #entry[2][2]
    end
  end
end

for _, flat in ipairs(call('XINFO', 'CONSUMERS', STREAM, GROUP)) do
  local name = fields(flat).name
  local sign = name ~= ME and call('GET', SIGNS .. name)
  if name ~= ME and sign ~= 'alive' then
    local dead = buried < MOST_DEAD and (sign == 'gone' or silent_before[name])
    if dead then
      buried = buried + 1
      if room() then
        claim(name)
      end
    end
    if dead and #call('XPENDING', STREAM, GROUP, '-', '+', 1, name) == 0 then
      call('XGROUP', 'DELCONSUMER', STREAM, GROUP, name)
    else
      table.insert(silent, name)
    end
  end
end
return { entries, silent }
