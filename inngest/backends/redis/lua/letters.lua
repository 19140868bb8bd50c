-- The dead letters: a stream of their own; the names of the entries that have one, so that an entry has one
-- only; and how much they are.

local LETTERS, KNOWN, SUMS = STREAM .. ':letters', STREAM .. ':letters:known', STREAM .. ':letters:sums'

local function entry_name(kind, group, entry)
  return kind .. '\0' .. group .. '\0' .. entry
end

local function remove(id, letter)
  call('XDEL', LETTERS, id)
  if letter.entry ~= '' then
    call('HDEL', KNOWN, entry_name(letter.kind, letter.group, letter.entry))
  end
  call('HINCRBY', SUMS, 'bytes', -#letter.body)
end

-- The letter of an id; nil if it is gone.
local function find(id)
  local found = call('XRANGE', LETTERS, id, id)[1]
  return found and fields(found[2])
end
