-- Renews a node's lease and answers with all nodes.
--   KEYS  nodes
--   ARGV  node, Unix ms of its clock, then pairs (id, score) of entries that the caller has seen untouched for ten leases
-- Answers {1 where the entry was there, {id, score, ...}}.
-- The first write is one that Redis allows while it is over maxmemory; after a write it allows the others of this script too.
redis.call('ZREM', KEYS[1], '')
for i = 3, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if score and tonumber(score) == tonumber(ARGV[i + 1]) then
        redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local score = tonumber(ARGV[2])
-- It only moves forward, also where the node's wall clock was set back.
if before and tonumber(before) >= score then
    score = tonumber(before) + 1
end
redis.call('ZADD', KEYS[1], string.format('%.0f', score), ARGV[1])
return {before and 1 or 0, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
