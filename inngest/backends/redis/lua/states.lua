-- The state of a run, for the caller: the part that never changes is opaque, and made by the caller.

-- {run, revision, version, plan, started, size, head, stack, steps, pending}, or only the first two if the
-- caller has this revision, or if it is larger than `room` bytes. nil if there is no such run. Then the bytes
-- that came along, and those of the run.
local function state_reply(fn, run, known, room)
  local tag = of(fn)
  local got = call('HMGET', tag .. 'run:' .. run, 'revision', 'version', 'plan', 'started', 'size', 'weight')
  local weight = (tonumber(got[5] or nil) or 0) + (tonumber(got[6] or nil) or 0)
  for place = 1, 6 do
    if not got[place] then
      return nil, 0, 0
    end
  end
  if got[1] == known or weight > room then
    return { run, got[1] }, 0, weight
  end
  return {
    run, got[1], got[2], got[3], got[4], got[5],
    call('HGET', tag .. 'run:' .. run, 'head'),
    call('LRANGE', tag .. 'stack:' .. run, 0, -1),
    call('HGETALL', tag .. 'steps:' .. run),
    call('SMEMBERS', tag .. 'pending:' .. run),
  }, weight, weight
end
