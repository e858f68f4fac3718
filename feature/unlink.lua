-- Removes keys for as long as the wipe that asks is still the one under way.
-- KEYS 1 wiping, then the keys to remove. ARGV 1 token. Returns how many were removed.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('TAKENOVER by another wipe')
end
local removed = 0
for i = 2, #KEYS do
  removed = removed + redis.call('UNLINK', KEYS[i])
end
return removed
