-- KEYS: the stream. ARGV: how many letters there may be, how many bytes of them, kind, group, reason, then the id
-- and the body of each entry. Reply: {how many of the oldest were dropped, whether more have to go: 0 or 1}.

local PAGE = 1000

local MOST, MOST_BYTES, KIND, GROUP, REASON = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

for place = 6, #ARGV, 2 do
  local entry, body = ARGV[place], ARGV[place + 1]
  local name = entry_name(KIND, GROUP, entry)
  if entry == '' or call('HEXISTS', KNOWN, name) == 0 then
    local id =
      call('XADD', LETTERS, '*', 'kind', KIND, 'group', GROUP, 'entry', entry, 'reason', REASON, 'body', body)
    if entry ~= '' then
      call('HSET', KNOWN, name, id)
    end
    call('HINCRBY', SUMS, 'bytes', #body)
  end
end

local function too_many()
  local count = call('XLEN', LETTERS)
  return count > MOST or (count > 1 and tonumber(call('HGET', SUMS, 'bytes') or 0) > MOST_BYTES)
end

local dropped = 0
while dropped < PAGE and too_many() do
  local oldest = call('XRANGE', LETTERS, '-', '+', 'COUNT', 1)[1]
  remove(oldest[1], fields(oldest[2]))
  dropped = dropped + 1
end
if dropped > 0 then
  call('HINCRBY', SUMS, 'dropped', dropped)
end
return { dropped, too_many() and 1 or 0 }
