-- Writes what people see of a node, with its time to live.
--   KEYS  node:ID
--   ARGV  lease in ms, then field, value, ...
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
