-- Keeps and announces the publications of several sessions, each only while its owner and epoch match. One session does not
-- affect another. A publication that is kept already was announced before: if a call is repeated, or arrives late over an old
-- connection, it is not announced again.
--   KEYS  for each session session:{ID} and history:{ID}; session:{ID} twice if the history is not touched
--   ARGV  node, publishing command, then for each session: epoch, push channel, options ('' for the usual ones), the number of
--         publications to keep, the message in pieces (cut before and after each payload), and id and time of each publication
--   Options, separated by commas; '' is 1,,,, and an empty one keeps the present setting:
--         1 if the message is announced, 0 if not
--         1 if the history is written late from now on, 0 if it is written at once from now on
--         the size that the history is trimmed to
--         the time to live of the history in ms
--         the opcode of each publication, one digit each; empty: all are text
-- Each argument and each command costs time. So each payload is one argument, the message is joined here, and values that seldom
-- differ are one argument.
-- Answers for each session: 1; 0 if another node owns it; -1 if it was announced but not kept for lack of memory; or an error that
-- concerns this session alone.
local node, word, arg = ARGV[1], ARGV[2], ARGV
local call, pcall, concat = redis.call, redis.pcall, table.concat
local answers, at = {}, 3

-- Errors that concern one session only: a missing right (the words depend on the version of Redis) and a key of another type.
-- All other errors concern the whole server.
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

-- Returns 1 if all are kept or -1 if memory ran out, whether a publication was new, and an error or nil.
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
        -- "equal or smaller": the entry is there already, from a call whose answer was lost. It counts as done.
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
    -- late: the epoch whose end may be missing later. HDEL first: over maxmemory Redis allows it, and then the next writes too.
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
