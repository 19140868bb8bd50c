-- KEYS: the stream. ARGV: groups. Those that are not there get all that the stream holds.

local known = {}
for _, group in ipairs(groups()) do
  known[group.name] = true
end
for _, name in ipairs(ARGV) do
  if not known[name] then
    call('XGROUP', 'CREATE', STREAM, name, '0', 'MKSTREAM')
  end
end
return 1
