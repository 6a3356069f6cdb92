-- Writes what people see of a session, while owner and epoch match.
--   KEYS  session:{ID}
--   ARGV  node, epoch, time to live in ms, then field, value, ...
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then
    return 0
end
-- Allowed over maxmemory as a first write, and makes the next one allowed.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
return 1
