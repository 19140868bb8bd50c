-- KEYS: the registry's version. ARGV: prefix, time, version the caller has seen, app id, app, functions as
-- {{id, function, packed limits, emission or -1, tolerance}...}. Reply: the new version, or -1 if it was not
-- seen.

local version = tonumber(call('GET', PREFIX .. 'version') or nil) or 0
if version ~= tonumber(ARGV[3]) then
  return -1
end
call('HSET', PREFIX .. 'apps', ARGV[4], ARGV[5])
for _, fn in ipairs(cmsgpack.unpack(ARGV[6])) do
  local key = of(fn[1]) .. 'config'
  local before = call('HMGET', key, 'limits', 'emission', 'tolerance')
  call('HSET', PREFIX .. 'functions', fn[1], fn[2])
  call('HSET', key, 'limits', fn[3], 'emission', fn[4], 'tolerance', fn[5])
  local same = before[1] == fn[3] and tonumber(before[2] or nil) == fn[4] and tonumber(before[3] or nil) == fn[5]
  if not same and call('EXISTS', of(fn[1]) .. 'parked') == 1 then
    reconsider(fn[1])
  end
end
if reconsider_page() then
  say(CALLS_QUEUE, '0')
end
settle_counts()
send_wakes()
version = call('INCR', PREFIX .. 'version')
call('PUBLISH', PREFIX .. 'version', version)
return version
