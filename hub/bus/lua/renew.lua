-- Renews a node's lease and answers with all nodes.
--   KEYS  nodes
--   ARGV  node, its wall clock in Unix ms, then pairs (id, score): entries that have not changed for ten leases, to be removed
-- Answers {1 if the entry was there | 0, {id, score, ...}}.
-- Over maxmemory Redis allows ZREM as the first write of a script, and then allows the next ones too.
redis.call('ZREM', KEYS[1], '')
for i = 3, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if score and tonumber(score) == tonumber(ARGV[i + 1]) then
        redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local score = tonumber(ARGV[2])
-- The score only grows, even if the node's wall clock was set back.
if before and tonumber(before) >= score then
    score = tonumber(before) + 1
end
redis.call('ZADD', KEYS[1], string.format('%.0f', score), ARGV[1])
return {before and 1 or 0, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
