// Each takes one safeguard out of a Lua script. tests/contract must notice every one of them on a real redis-server.
// `from` must stand exactly once in the script; spaces and line breaks count as one. tests: where test_redis does not see it.

export const scriptMutations = [
    {
        name: 'the owner that is alive, in claim',
        script: 'claim',
        from: "if owner ~= '' and owner ~= ARGV[4] and not (owner == ARGV[5] and epoch == ARGV[6]) then",
        to: 'if false then',
    },
    {
        name: 'the epoch of the dead owner, in claim',
        script: 'claim',
        from: 'owner == ARGV[5] and epoch == ARGV[6]',
        to: 'owner == ARGV[5]',
    },
    {
        name: 'the epoch that the caller has seen, in claim',
        script: 'claim',
        from: 'math.max(tonumber(epoch or 0) + 1, tonumber(ARGV[7]) + 1, now)',
        to: 'math.max(tonumber(epoch or 0) + 1, now)',
    },
    {
        name: 'the epoch of the record, in claim',
        script: 'claim',
        from: 'math.max(tonumber(epoch or 0) + 1, tonumber(ARGV[7]) + 1, now)',
        to: 'math.max(tonumber(ARGV[7]) + 1, now)',
    },
    {
        name: 'the announcement, in claim',
        script: 'claim',
        from: 'redis.call(ARGV[1], ARGV[2], cmsgpack.pack({1, 20, ARGV[3], ARGV[4], 0, 0, tonumber(granted)}))',
        to: '',
    },
    {
        name: 'the age of the store, in claim',
        script: 'claim',
        from: "if not epoch and ARGV[8] ~= '1' then",
        to: 'if false then',
        tests: ['test_redis_faults', 'test_redis_connect', 'test_redis_trouble'],
    },
    {
        name: 'owner and epoch, in release',
        script: 'release',
        from: 'if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then',
        to: 'if false then',
    },
    {
        name: 'the epoch, in release',
        script: 'release',
        from: 'if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then',
        to: 'if record[1] ~= ARGV[1] then',
    },
    {
        name: 'the epoch, in transfer',
        script: 'transfer',
        from: 'if record[1] ~= ARGV[4] or record[2] ~= ARGV[5] then',
        to: 'if record[1] ~= ARGV[4] then',
    },
    {
        name: 'the owner, in transfer',
        script: 'transfer',
        from: 'if record[1] ~= ARGV[4] or record[2] ~= ARGV[5] then',
        to: 'if record[2] ~= ARGV[5] then',
    },
    {
        name: 'the epoch that it was handed over from, in transfer',
        script: 'transfer',
        from: 'ARGV[6], 0, tonumber(ARGV[5]), tonumber(granted)',
        to: 'ARGV[6], 0, 0, tonumber(granted)',
    },
    {
        name: 'the higher epoch, in assert',
        script: 'assert',
        from: 'if held >= tonumber(ARGV[5]) and held <= 2 ^ 52 then',
        to: 'if false then',
    },
    {
        name: 'the announcement to who is displaced, in assert',
        script: 'assert',
        from: "if owner ~= '' and owner ~= ARGV[4] then",
        to: 'if false then',
    },
    {
        name: 'the owner, in publish',
        script: 'publish',
        from: 'if record[1] ~= node or record[2] ~= epoch then',
        to: 'if record[2] ~= epoch then',
    },
    {
        name: 'the epoch, in publish',
        script: 'publish',
        from: 'if record[1] ~= node or record[2] ~= epoch then',
        to: 'if record[1] ~= node then',
    },
    {
        name: 'what is there already is not announced again, in publish',
        script: 'publish',
        from: '(news or kept < 0)',
        to: 'true',
    },
    {
        name: 'the trimming with one, in publish',
        script: 'publish',
        from: "pcall('XADD', history, 'MAXLEN', size, arg[entry],",
        to: "pcall('XADD', history, arg[entry],",
    },
    {
        name: 'the opcode of each publication, in publish',
        script: 'publish',
        from: "if opcodes ~= '' then",
        to: 'if false then',
    },
    {
        name: 'who sees a push last, in history',
        script: 'history',
        from: "'(' .. after",
        to: 'after',
    },
    {
        name: 'the score that only moves forward, in renew',
        script: 'renew',
        from: 'if before and tonumber(before) >= score then',
        to: 'if false then',
    },
    {
        name: 'owner and epoch, in record_session',
        script: 'record_session',
        from: 'if record[1] ~= ARGV[1] or record[2] ~= ARGV[2] then',
        to: 'if false then',
    },
];
