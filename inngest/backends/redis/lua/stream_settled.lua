-- KEYS: the stream. ARGV: group. Reply: the time of the oldest entry that it was given and has not acknowledged,
-- or if there is none, of the last one that it was given; as text.

for _, group in ipairs(groups()) do
  if group.name == ARGV[1] then
    local id = group.pending > 0 and lowest_pending(group) or group['last-delivered-id']
    return string.match(id, '^%d+')
  end
end
return '0'
