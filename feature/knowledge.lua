-- Applies one run of a partition of the knowledge topic: what is known of items and
-- the next offset change together or not at all.
--
-- KEYS  1 offsets, 2 wiping, then one per record: the item's hash
-- ARGV  1 partition, 2 from, 3 to, then per record: offset, time (ms), n, n times a
--       field or its value; n = 0 removes
-- Returns one letter per record: a applied, o older than what the view holds or has held.
local call = redis.call
if call('EXISTS', KEYS[2]) == 1 then
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

-- An item in two partitions is there because the topic was given more of them. Then
-- times decide, and the partition where they are equal: in whatever order the
-- partitions are read, the same record stays.
local partition = tonumber(ARGV[1])
local function newer(key, time)
  local was = call('HMGET', key, 'partition', 'time')
  if not was[1] then return true end
  local from, at = tonumber(was[1]), tonumber(was[2])
  return from == partition or time > at or (time == at and partition > from)
end

local verdicts = {}
local a = 4
for k = 3, #KEYS do
  local offset, time, n = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  a = a + 3
  if offset < held or not newer(KEYS[k], time) then
    verdicts[#verdicts + 1] = 'o'
  else
    if n == 0 then
      call('DEL', KEYS[k])
    else
      call('HSET', KEYS[k], 'partition', ARGV[1], unpack(ARGV, a, a + n - 1))
    end
    verdicts[#verdicts + 1] = 'a'
  end
  a = a + n
end
if tonumber(ARGV[3]) > held then
  call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return table.concat(verdicts)
