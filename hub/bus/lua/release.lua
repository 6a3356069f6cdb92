-- Empties the owner; the epoch stays.
--   KEYS  session:{ID}
--   ARGV  node, epoch, time to live in ms
-- Answers 1, or 0 if owner or epoch do not match.
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Over maxmemory Redis allows PEXPIRE as the first write of a script, and then allows the next ones too.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[1], 'owner', '', 'state', 'released', 'reason', '', 'since', string.format('%.0f', now), 'clients', '0', 'members', '0')
return 1
