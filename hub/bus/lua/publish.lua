-- Keeps publications of sessions and announces them, each while its own owner and epoch match; no session disturbs another. What is kept
-- already was announced when it was: a call that comes again, or late over an old connection, is not announced twice.
--   KEYS  of each session session:{ID} and history:{ID}; where nothing is to be kept session:{ID} twice
--   ARGV  node, publishing command, then of each session: epoch, push channel, message ('' for none), history size, its time to live in ms (0: as
--         it was),--         1 where the message is to be announced, 1 where the history is written late from here on, 0 where it is not, '' where that is
--         as it was, the number of publications to be kept, and of each of these: id, opcode, time, and at which byte of the message its
--         payload begins and ends
-- Answers of each session 1, 0 where it is another's, -1 where it was announced but, for lack of memory, not kept, or an error that
-- concerns it alone.
local node, word, arg = ARGV[1], ARGV[2], ARGV
local call, pcall = redis.call, redis.pcall
local answers, at = {}, 3

-- What an error says that concerns one session: a right that is missing, by each version's words, a key of another type. Others are the
-- server's.
local own = {'NOPERM', 'ACL failure in script', "The user executing the script can't", 'WRONGTYPE'}
local function is_its_own(message)
    for _, words in ipairs(own) do
        if string.find(message, words, 1, true) then
            return true
        end
    end
    return false
end

-- Returns 1 or -1 as it was kept, whether there was something new, and an error.
local function keep(history, message, size, first, n)
    local news = false
    for k = 1, n do
        local i = first + 5 * (k - 1)
        local payload = string.sub(message, arg[i + 3], arg[i + 4])
        local added
        if k < n then
            added = pcall('XADD', history, arg[i], 'o', arg[i + 1], 't', arg[i + 2], 'd', payload)
        else
            added = pcall('XADD', history, 'MAXLEN', size, arg[i], 'o', arg[i + 1], 't', arg[i + 2], 'd', payload)
        end
        local failed = type(added) == 'table' and added.err
        if not failed then
            news = true
        elseif string.find(failed, 'OOM', 1, true) then
            return -1, news
        elseif not string.find(failed, 'equal or smaller', 1, true) then
            return 0, news, added
        end
        -- One that is there already, from a call whose answer was lost, is done.
    end
    return 1, news
end

local function publish(session, history)
    local epoch, message, n = arg[at], arg[at + 2], tonumber(arg[at + 7])
    local record = pcall('HMGET', session, 'owner', 'epoch')
    if record.err then
        return record
    end
    if record[1] ~= node or record[2] ~= epoch then
        return 0
    end
    -- Which epoch it is that may end with something missing. Taking it out is allowed over maxmemory, and makes the next write allowed.
    if arg[at + 6] ~= '' then
        call('HDEL', session, 'late')
        if arg[at + 6] == '1' then
            call('HSET', session, 'late', epoch)
        end
    end
    local kept, news, failed = 1, n == 0, nil
    if n > 0 then
        kept, news, failed = keep(history, message, arg[at + 3], at + 8, n)
        if failed then
            return failed
        end
        if arg[at + 4] ~= '0' then
            call('PEXPIRE', history, arg[at + 4])
        end
    end
    if arg[at + 5] == '1' and (news or kept < 0) then
        local heard = pcall(word, arg[at + 1], message)
        if type(heard) == 'table' and heard.err then
            return heard
        end
    end
    return kept
end

for i = 1, #KEYS, 2 do
    local answer = publish(KEYS[i], KEYS[i + 1])
    if type(answer) == 'table' and not is_its_own(answer.err) then
        return answer
    end
    answers[#answers + 1] = answer
    at = at + 8 + 5 * tonumber(arg[at + 7])
end
return answers
