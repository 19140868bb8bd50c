-- KEYS: a function's tag. ARGV: prefix, time, transition, lease the continuation for ms ('': do not), as whom,
-- the revision of the run that the caller has, bytes of state it wants at most, how much history may wait.
-- Reply: {stale, won, revision before, revision, version, plan, started, size, next, its state}; when stale,
-- {1, next, its state}: what a commit under this lease has leased, if its reply was lost.

local TAKE_MS, WORKER, KNOWN, WANTED = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])

-- The continuation that was leased with a commit under this lease, and still is.
local function taken_before()
  local slot = TAKE_MS ~= '' and S.revision and not S.evicted and call('HGET', run_key('run'), 'taken')
  slot = slot and slot ~= '' and unpacked(slot, 'snsn')
  if slot and slot[1] == T[3] and slot[2] == T[4] then
    return leased_item(FN, slot[3], slot[4])
  end
  return nil
end

if T[3] ~= '' then
  leased = leased_item(FN, T[3], T[4])
  if not leased then
    local item = taken_before()
    if item then
      return { 1, item_reply(item), (state_reply(FN, RUN, '', WANTED)) }
    end
    return { 1 }
  end
  if S.evicted and leased.kind == 'evict' then
    S.alive = true
  end
end

local won = {}
for place, effect in ipairs(T[5]) do
  local when, unless = effect[2], effect[3]
  if (when >= 0 and not won[when + 1]) or (unless >= 0 and won[unless + 1]) then
    won[place] = false
  else
    won[place] = effects[effect[1]](unpack(effect, 4))
  end
end

-- Lease the continuation at once, if it is next by right: no other partition has work, nor has its own before
-- it.
local function take(item)
  if item.state ~= 'ready' then
    return nil
  end
  promote(item.queue)
  if head_of(FN, item.pid) ~= item.mark .. item.job then
    return nil
  end
  if ring_size(item.queue) ~= 1 or not unring(FN, item.pid, item.queue) then
    return nil
  end
  return lease_head(FN, item.pid, item.queue, NOW + tonumber(TAKE_MS), WORKER .. ' 0')
end

local taken = last and TAKE_MS ~= '' and take(last)
if taken and T[3] ~= '' then
  S.taken, S.dirty = cmsgpack.pack({ T[3], T[4], taken.job, taken.epoch }), true
end
save_state()
settle_counts()
send_outbox()
send_wakes()

local letters = {}
for place = 1, #T[5] do
  letters[place] = won[place] and '1' or '0'
end
local state = false
if taken and KNOWN ~= BEFORE then
  state = state_reply(FN, RUN, '', WANTED)
end
return {
  0, table.concat(letters), BEFORE, S.revision or -1, S.version or -1, S.plan and 1 or 0, S.started or 0,
  S.size or 0, taken and item_reply(taken) or false, state,
}
