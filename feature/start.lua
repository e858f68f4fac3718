-- Says where reading must begin, and records the beginning of a partition that the
-- view has never seen.
--
-- KEYS  1 offsets, 2 wiping
-- ARGV  1 topic id, then per partition: partition, offset to begin at if unknown
-- Returns the next offset of each partition, in the order asked.
local call = redis.call
if call('EXISTS', KEYS[2]) == 1 then
  return redis.error_reply('WIPING the view is being wiped')
end
call('HSETNX', KEYS[1], 'topic', ARGV[1])
local topic = call('HGET', KEYS[1], 'topic')
if topic ~= ARGV[1] then
  return redis.error_reply('OTHERLOG ' .. topic)
end
local held = {}
for i = 2, #ARGV, 2 do
  call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  held[#held + 1] = call('HGET', KEYS[1], ARGV[i])
end
return held
