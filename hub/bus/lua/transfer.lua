-- Hands a session over to another node.
--   KEYS  session:{ID}, history:{ID}
--   ARGV  publishing command, push channel, session, node, epoch, new owner, time to live in ms
-- Answers the new epoch, or '0' if owner or epoch do not match.
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if record[1] ~= ARGV[4] or record[2] ~= ARGV[5] then
    return '0'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local granted = string.format('%.0f', math.max(tonumber(ARGV[5]) + 1, now))
-- Over maxmemory Redis allows PEXPIRE as the first write of a script, and then allows the next ones too.
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('HSET', KEYS[1], 'owner', ARGV[6], 'epoch', granted, 'state', 'moving')
-- From now on the history refuses entries of earlier epochs.
redis.pcall('XSETID', KEYS[2], granted .. '-0')
redis.call(ARGV[1], ARGV[2], cmsgpack.pack({1, 20, ARGV[3], ARGV[6], 0, tonumber(ARGV[5]), tonumber(granted)}))
return granted
