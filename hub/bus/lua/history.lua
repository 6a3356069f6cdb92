-- Reads the publications after a position and the position of the oldest that is kept, in one atomic step.
--   KEYS  history:{ID}
--   ARGV  position as EPOCH-OFFSET, limit, bytes after which the answer is cut
-- Answers {id of the oldest or '', 1 if there are more, {id, {field, value, ...}}, ...}.
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not oldest then
    return {'', 0}
end
local answer = {oldest[1], 0}
local after, left, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- Reads in small steps, since an entry may have megabytes: an answer that is cut reads little more than it returns.
while true do
    local entries = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 16)
    for _, entry in ipairs(entries) do
        if left == 0 or bytes <= 0 then
            answer[2] = 1
            return answer
        end
        answer[#answer + 1] = entry
        after = entry[1]
        left = left - 1
        bytes = bytes - #(entry[2][6] or '')
    end
    if #entries < 16 then
        return answer
    end
end
