-- Keeps a revocation, or removes it if its time is over. Of the stored and the new times the later ones count.
--   KEYS  revoked
--   ARGV  field, end of the revocation in Unix s, for a sub: tokens issued before this Unix time in s ('' for a jti)
-- Answers 1.
local ends, before = tonumber(ARGV[2]), tonumber(ARGV[3])
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
    local held_ends, held_before = string.match(held, '^(%d+) ?(%d*)$')
    ends = math.max(ends, tonumber(held_ends or 0))
    before = before and math.max(before, tonumber(held_before or 0) or 0)
end
if ends <= tonumber(redis.call('TIME')[1]) then
    redis.call('HDEL', KEYS[1], ARGV[1])
else
    local content = string.format('%.0f', ends)
    redis.call('HSET', KEYS[1], ARGV[1], before and content .. string.format(' %.0f', before) or content)
end
return 1
