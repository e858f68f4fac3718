-- Applies one run of a partition's events: histories, popularity and the next
-- offset change together or not at all.
--
-- KEYS  1 offsets, 2 popular, 3 wiping, then per group: history, seen now, seen before
-- ARGV  1 partition, 2 from, 3 to, 4 history length, 5 history ttl (ms, 0 = none),
--       6 seen ttl (ms), 7 most ids per set, 8 popular: trim above, 9 popular: trim to,
--       then per group: n, then n times: offset, id, item
-- A group is consecutive events of one user in one window.
-- Returns one letter per event: a applied, d duplicate id, o old (its offset was applied before).
local call = redis.call
if call('EXISTS', KEYS[3]) == 1 then
  return redis.error_reply('WIPING the view is being wiped')
end
local held = call('HGET', KEYS[1], ARGV[1])
if not held then
  return redis.error_reply('BEHIND -1')
end
held = tonumber(held)
if held < tonumber(ARGV[2]) then
  return redis.error_reply('BEHIND ' .. string.format('%.0f', held))
end

local length, ttl = tonumber(ARGV[4]), tonumber(ARGV[5])
local verdicts, counts, order = {}, {}, {}
local a, k = 10, 4
while a <= #ARGV do
  local history, now, before = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  k = k + 3
  local n = tonumber(ARGV[a])
  a = a + 1
  local items, remembered, count = {}, false, false
  for _ = 1, n do
    local offset, id, item = tonumber(ARGV[a]), ARGV[a + 1], ARGV[a + 2]
    a = a + 3
    if offset < held then
      verdicts[#verdicts + 1] = 'o'
    elseif call('SADD', now, id) == 0 then
      verdicts[#verdicts + 1] = 'd'
    elseif call('SISMEMBER', before, id) == 1 then
      remembered = true
      verdicts[#verdicts + 1] = 'd'
    else
      remembered = true
      verdicts[#verdicts + 1] = 'a'
      items[#items + 1] = item
      if offset % 64 == 0 then count = true end
      if not counts[item] then
        counts[item] = 0
        order[#order + 1] = item
      end
      counts[item] = counts[item] + 1
    end
  end
  if #items > 0 then
    local kept = call('RPUSH', history, unpack(items))
    if kept > length then
      call('LTRIM', history, -length, -1)
      -- Only a user with a full history can have many ids, and counting them is dear
      -- in the embedded server: look at one event in 64.
      if count then
        local surplus = call('SCARD', now) - tonumber(ARGV[7])
        if surplus > 0 then call('SPOP', now, surplus) end
      end
    end
    if ttl > 0 then call('PEXPIRE', history, ttl) end
  end
  if remembered then call('PEXPIRE', now, ARGV[6]) end
end

for _, item in ipairs(order) do
  call('ZINCRBY', KEYS[2], counts[item], item)
end
if #order > 0 then
  local held_items = call('ZCARD', KEYS[2])
  if held_items > tonumber(ARGV[8]) then
    call('ZREMRANGEBYRANK', KEYS[2], 0, held_items - tonumber(ARGV[9]) - 1)
  end
end
if tonumber(ARGV[3]) > held then
  call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return table.concat(verdicts)
