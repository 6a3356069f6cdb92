/*
 * Reads msgpack from memory, value by value.
 *
 * msgpack-c's own unpacker allocates what an array claims to hold before it has seen a single
 * element, so five hostile bytes cost gigabytes. This reader walks the input once, allocates
 * nothing and copies nothing: texts and bytes point into the input.
 */
#ifndef VINHUB_COMMON_MSGPACK_READER_H
#define VINHUB_COMMON_MSGPACK_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How deep a value that is taken whole may nest. */
#define MSGPACK_NESTING_MAX 16

struct msgpack_cursor {
    const uint8_t *at, *end;
};

enum msgpack_kind {
    MSGPACK_NUMBER, /* an integer from 0 on, in whichever format */
    MSGPACK_TEXT,   /* str: at, len; its UTF-8 is not checked */
    MSGPACK_BYTES,  /* bin: at, len */
    MSGPACK_ARRAY,  /* number: of elements that it claims to hold */
    MSGPACK_MAP,    /* number: of pairs */
    MSGPACK_OTHER,  /* nil, true, false, negative, float, ext */
};

struct msgpack_value {
    enum msgpack_kind kind;
    uint64_t number;
    const uint8_t *at;
    size_t len;
};

static inline size_t msgpack_left(const struct msgpack_cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* Takes a scalar, or the head of an array or a map, whose elements stand behind the cursor then.
 * False: the input ends within it or is not msgpack; the cursor can't be used after that. */
bool msgpack_take(struct msgpack_cursor *c, struct msgpack_value *out);
/* The same for a value and everything in it, without recursion. False also if it nests too deep. */
bool msgpack_take_whole(struct msgpack_cursor *c, struct msgpack_value *out);
/* The same with a budget: takes from *values one for each value, and is false where there are more.
 */
bool msgpack_take_within(struct msgpack_cursor *c, uint64_t *values, struct msgpack_value *out);

#endif
