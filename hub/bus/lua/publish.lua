-- Keeps publications of sessions and announces them, each while its own owner and epoch match; no session disturbs another. What is kept
-- already was announced when it was: a call that comes again, or late over an old connection, is not announced twice.
--   KEYS  of each session session:{ID} and history:{ID}; where its history is not touched session:{ID} twice
--   ARGV  node, publishing command, then of each session: epoch, push channel, options ('': the usual ones), the number of publications to
--         be kept, the message, cut before and behind the payload of each of them, and of each of them id and time
-- Each argument and each command costs: so a payload is an argument of its own and the message is put together here, and what seldom
-- differs is in the options: 1 where the message is announced, 1 where the history is written late from here on, 0 where it is not, the size
-- it is trimmed to, its time to live in ms, a digit for the opcode of each publication. An empty one means: as it was; all are text.
-- Answers of each session 1, 0 where it is another's, -1 where it was announced but, for lack of memory, not kept, or an error that
-- concerns it alone.
local node, word, arg = ARGV[1], ARGV[2], ARGV
local call, pcall, concat = redis.call, redis.pcall, table.concat
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

local function options_of(text)
    if text == '' then
        return '1', '', '', '', ''
    end
    return string.match(text, '^(%d),(%d?),(%d*),(%d*),(%d*)$')
end

-- Returns 1 or -1 as it was kept, whether there was something new, and an error.
local function keep(history, size, opcodes, payload, entry, n)
    local news, opcode = false, '1'
    for k = 1, n do
        if opcodes ~= '' then
            opcode = string.sub(opcodes, k, k)
        end
        local added
        if k < n then
            added = pcall('XADD', history, arg[entry], 'o', opcode, 't', arg[entry + 1], 'd', arg[payload])
        else
            added = pcall('XADD', history, 'MAXLEN', size, arg[entry], 'o', opcode, 't', arg[entry + 1], 'd', arg[payload])
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
        payload, entry = payload + 2, entry + 2
    end
    return 1, news
end

local function publish(session, history, n)
    local epoch, first = arg[at], at + 4
    local record = pcall('HMGET', session, 'owner', 'epoch')
    if record.err then
        return record
    end
    if record[1] ~= node or record[2] ~= epoch then
        return 0
    end
    local announced, late, size, ttl, opcodes = options_of(arg[at + 2])
    -- Which epoch it is that may end with something missing. Taking it out is allowed over maxmemory, and makes the next write allowed.
    if late ~= '' then
        call('HDEL', session, 'late')
        if late == '1' then
            call('HSET', session, 'late', epoch)
        end
    end
    local kept, news, failed = 1, n == 0, nil
    if n > 0 then
        kept, news, failed = keep(history, size, opcodes, first + 1, first + 2 * n + 1, n)
        if failed then
            return failed
        end
        if ttl ~= '' then
            call('PEXPIRE', history, ttl)
        end
    end
    if announced == '1' and (news or kept < 0) then
        local heard = pcall(word, arg[at + 1], concat(arg, '', first, first + 2 * n))
        if type(heard) == 'table' and heard.err then
            return heard
        end
    end
    return kept
end

for i = 1, #KEYS, 2 do
    local n = tonumber(arg[at + 3])
    local answer = publish(KEYS[i], KEYS[i + 1], n)
    if type(answer) == 'table' and not is_its_own(answer.err) then
        return answer
    end
    answers[#answers + 1] = answer
    at = at + 5 + 4 * n
end
return answers
