-- Keeps publications and announces them, while owner and epoch match. What is kept already was announced when it was: a call that comes
-- again, or late over an old connection, is not announced twice.
--   KEYS  session:{ID}, and where something is to be kept history:{ID}
--   ARGV  node, epoch, publishing command, push channel, message ('' for none), history size, its time to live in ms,
--         then id, opcode, time, payload of each publication that is to be kept
-- Answers 1, 0 where the session is another's, -1 where it was announced but, for lack of memory, not kept.
local record = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then
    return 0
end
local kept = 1
local news = #ARGV < 8
for i = 8, #ARGV, 4 do
    local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', ARGV[6], ARGV[i], 'o', ARGV[i + 1], 't', ARGV[i + 2], 'd', ARGV[i + 3])
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
if #ARGV >= 8 then
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
if ARGV[5] ~= '' and (news or kept < 0) then
    redis.call(ARGV[3], ARGV[4], ARGV[5])
end
return kept
