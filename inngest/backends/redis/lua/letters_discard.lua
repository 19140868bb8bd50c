-- KEYS: the stream. ARGV: ids. Reply: the ids of the letters that were there.

local removed = {}
for _, id in ipairs(ARGV) do
  local letter = find(id)
  if letter then
    remove(id, letter)
    table.insert(removed, id)
  end
end
return removed
