-- Writes what operators see of a session, if owner and epoch match. Answers 1, or 0 if they do not.
--   KEYS  session:{ID}
--   ARGV  node, epoch, time to live in ms, then field, value, ...
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then
    return 0
end
-- Over maxmemory Redis allows PEXPIRE as the first write of a script, and then allows the next ones too.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
return 1
