-- Writes the record of a node for operators, and sets its time to live. PEXPIRE comes first: over maxmemory Redis allows it as
-- the first write of a script, and then allows the next ones too.
--   KEYS  node:ID
--   ARGV  lease in ms, then field, value, ...
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
