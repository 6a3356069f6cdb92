-- Claims a session.
--   KEYS  session:{ID}, history:{ID}
--   ARGV  publishing command, push channel, session, node, owner that is dead ('' for none), its epoch, highest epoch seen,
--         1 if the caller holds the session, lease in ms, upstream, time to live in ms, age of the caller's connection in ms
-- Answers {1 granted | 0 refused | -1 the store has started too recently, owner, epoch, 1 if the history refuses entries of
-- earlier epochs from now on}.
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'late')
local owner, epoch = record[1] or '', record[2]
-- An epoch that no node can have written: the record is treated as gone.
if epoch and not (string.match(epoch, '^%d+$') and tonumber(epoch) <= 2 ^ 52) then
    owner, epoch = '', nil
end
if owner ~= '' and owner ~= ARGV[4] and not (owner == ARGV[5] and epoch == ARGV[6]) then
    return {0, owner, epoch}
end
-- A store that has just started may have lost the record of a session that another node holds. If INFO is forbidden, the age
-- of the caller's connection is used as the age of the store: a connection does not survive a restart.
if not epoch and ARGV[8] ~= '1' then
    local info = redis.pcall('INFO', 'server')
    local uptime = type(info) == 'string' and string.match(info, 'uptime_in_seconds:(%d+)')
    local age = uptime and tonumber(uptime) * 1000 or tonumber(ARGV[12] or 0)
    if age < tonumber(ARGV[9]) then
        return {-1, '', '0'}
    end
end
-- Without a record the history may tell the last epoch: entries of an earlier one would be refused as if they were there already.
-- The clock does not show it where it was set back.
local newest = 0
if not epoch then
    local last = redis.pcall('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
    newest = last and tonumber(string.match(last[1], '^%d+')) or 0
    newest = newest <= 2 ^ 52 and newest or 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local granted = string.format('%.0f', math.max(tonumber(epoch or 0) + 1, tonumber(ARGV[7]) + 1, newest + 1, now))
-- Over maxmemory Redis allows PEXPIRE as the first write of a script, and then allows the next ones too.
redis.call('PEXPIRE', KEYS[1], ARGV[11])
redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'epoch', granted, 'state', 'connecting', 'reason', '', 'upstream', ARGV[10],
    'since', string.format('%.0f', now), 'clients', '0', 'members', '0', 'offset', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[11])
-- The last owner wrote its history late and did not release the session: the end of its epoch may be missing.
if owner ~= '' and epoch == record[3] and ARGV[8] ~= '1' then
    redis.pcall('XADD', KEYS[2], 'NOMKSTREAM', epoch .. '-9007199254740991', 'e', '1')
end
-- A history that is not there holds nothing that an entry of an earlier epoch could follow.
local fenced = redis.pcall('XSETID', KEYS[2], granted .. '-0')
local failed = type(fenced) == 'table' and fenced.err
redis.call(ARGV[1], ARGV[2], cmsgpack.pack({1, 20, ARGV[3], ARGV[4], 0, 0, tonumber(granted)}))
return {1, ARGV[4], granted, failed and not string.find(failed, 'no such key', 1, true) and 0 or 1}
