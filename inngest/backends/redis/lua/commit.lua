-- KEYS: a function's tag. ARGV: prefix, transition, now (0: unknown), lease the continuation until ('': do
-- not), the revision of the run that the caller has, bytes of state it wants at most.
-- Reply: {stale, won, revision before, revision, version, plan, started, size, next, its state}.

if T[3] ~= '' then
  leased = leased_item(FN, T[3], T[4])
  if not leased then
    return { 1 }
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
local function take(item, till)
  if item.state ~= 'ready' then
    return nil
  end
  promote(item.queue, NOW)
  if head_of(FN, item.pid) ~= item.mark .. item.job then
    return nil
  end
  if ring_size(item.queue) ~= 1 or not unring(FN, item.pid, item.queue) then
    return nil
  end
  return lease_head(FN, item.pid, NOW, till)
end

save_state()
local taken = last and ARGV[4] ~= '' and take(last, tonumber(ARGV[4]))
settle_counts()
send_outbox()
send_wakes()

local letters = {}
for place = 1, #T[5] do
  letters[place] = won[place] and '1' or '0'
end
local state = false
if taken and tonumber(ARGV[5]) ~= BEFORE then
  state = state_reply(FN, RUN, '', tonumber(ARGV[6]))
end
return {
  0, table.concat(letters), BEFORE, S.revision or -1, S.version or -1, S.plan and 1 or 0, S.started or 0,
  S.size or 0, taken and item_reply(taken) or false, state,
}
