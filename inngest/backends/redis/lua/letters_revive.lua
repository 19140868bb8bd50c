-- KEYS: the stream. ARGV: the kind of letters that can go back to it, the largest entry that it takes, ids. Reply:
-- the ids of the letters that went back, each for its group alone.

local KIND, LARGEST = ARGV[1], tonumber(ARGV[2])

local known = {}
for _, group in ipairs(groups()) do
  known[group.name] = true
end

local revived = {}
for place = 3, #ARGV do
  local letter = find(ARGV[place])
  if letter and letter.kind == KIND and known[letter.group] and #letter.body <= LARGEST then
    call('XADD', STREAM, '*', 'event', letter.body, 'for', letter.group)
    remove(ARGV[place], letter)
    table.insert(revived, ARGV[place])
  end
end
return revived
