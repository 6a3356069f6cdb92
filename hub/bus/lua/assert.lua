-- Writes an owner's record back if the record is gone or has an older epoch.
--   KEYS  session:{ID}, history:{ID}
--   ARGV  publishing command, push channel, session, node, epoch, upstream, time to live in ms
-- Answers {1 | 0 if another node owns the record, owner, epoch}.
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
local owner, epoch = record[1] or '', record[2] or '0'
if owner == ARGV[4] and epoch == ARGV[5] then
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
    return {1, owner, epoch}
end
-- An epoch that no node can have written is ignored.
local held = string.match(epoch, '^%d+$') and tonumber(epoch) or 0
if held >= tonumber(ARGV[5]) and held <= 2 ^ 52 then
    return {0, owner, epoch}
end
-- Over maxmemory Redis allows PEXPIRE as the first write of a script, and then allows the next ones too.
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'epoch', ARGV[5], 'state', 'connecting', 'reason', '', 'upstream', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
-- From now on the history refuses entries of earlier epochs.
redis.pcall('XSETID', KEYS[2], ARGV[5] .. '-0')
-- After a fail-over that lost writes there may be an owner with a lower epoch: this announcement ends its ownership.
if owner ~= '' and owner ~= ARGV[4] then
    redis.call(ARGV[1], ARGV[2], cmsgpack.pack({1, 20, ARGV[3], ARGV[4], 0, 0, tonumber(ARGV[5])}))
end
return {1, ARGV[4], ARGV[5]}
