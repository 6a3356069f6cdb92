-- Keeps publications and announces them, while owner and epoch match. What is kept already was announced when it was: a call that comes
-- again, or late over an old connection, is not announced twice.
--   KEYS  session:{ID}, and where something is to be kept history:{ID}
--   ARGV  node, epoch, publishing command, push channel, message ('' for none), history size, its time to live in ms,
--         1 where the message is to be announced, 1 where the history is written late from here on, 0 where it is not, '' where that is
--         as it was, then id, opcode, time of each publication that is to be kept, and at which
--         byte of the message its payload begins and ends
-- Answers 1, 0 where the session is another's, -1 where it was announced but, for lack of memory, not kept.
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then
    return 0
end
-- Which epoch it is that may end with something missing. Taking it out is allowed over maxmemory, and makes the next write allowed.
if ARGV[9] ~= '' then
    redis.call('HDEL', KEYS[1], 'late')
    if ARGV[9] == '1' then
        redis.call('HSET', KEYS[1], 'late', ARGV[2])
    end
end
local kept = 1
local news = #ARGV < 10
for i = 10, #ARGV, 5 do
    local payload = string.sub(ARGV[5], ARGV[i + 3], ARGV[i + 4])
    local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', ARGV[6], ARGV[i], 'o', ARGV[i + 1], 't', ARGV[i + 2], 'd', payload)
    if type(added) == 'table' and added.err then
        -- One that is there already, from a call whose answer was lost, is done.
        if string.find(added.err, 'OOM', 1, true) then
            kept = -1
            break
        elseif not string.find(added.err, 'equal or smaller', 1, true) then
            return added
        end
    else
        news = true
    end
end
if #ARGV >= 10 then
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
if ARGV[8] == '1' and (news or kept < 0) then
    redis.call(ARGV[3], ARGV[4], ARGV[5])
end
return kept
