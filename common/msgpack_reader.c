#include "common/msgpack_reader.h"

/* The first byte of each type that is distinguished here (the msgpack specification, "formats"). */
enum format {
    FIXMAP = 0x80,
    FIXARRAY = 0x90,
    FIXSTR = 0xa0,
    NIL = 0xc0,
    NEVER_USED = 0xc1,
    BIN8 = 0xc4,
    BIN32 = 0xc6,
    EXT8 = 0xc7,
    EXT32 = 0xc9,
    FLOAT32 = 0xca,
    FLOAT64 = 0xcb,
    UINT8 = 0xcc,
    UINT64 = 0xcf,
    INT8 = 0xd0,
    INT64 = 0xd3,
    FIXEXT1 = 0xd4,
    FIXEXT16 = 0xd8,
    STR8 = 0xd9,
    STR32 = 0xdb,
    ARRAY16 = 0xdc,
    ARRAY32 = 0xdd,
    MAP16 = 0xde,
    MAP32 = 0xdf,
    NEGATIVE = 0xe0,
};

static bool take_big_endian(struct msgpack_cursor *c, size_t width, uint64_t *out)
{
    if (msgpack_left(c) < width)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | c->at[i];
    c->at += width;
    *out = value;
    return true;
}

static bool take_bytes(struct msgpack_cursor *c, enum msgpack_kind kind, uint64_t len,
                       struct msgpack_value *out)
{
    if (len > msgpack_left(c))
        return false;
    *out = (struct msgpack_value){.kind = kind, .at = c->at, .len = (size_t)len};
    c->at += len;
    return true;
}

static bool take_sized(struct msgpack_cursor *c, enum msgpack_kind kind, unsigned log_width,
                       struct msgpack_value *out)
{
    uint64_t len;
    if (!take_big_endian(c, (size_t)1 << log_width, &len))
        return false;
    /* An ext has a type byte. */
    return take_bytes(c, kind, kind == MSGPACK_OTHER ? len + 1 : len, out);
}

/* Some encoders write a positive number in a signed format. */
static bool take_number(struct msgpack_cursor *c, unsigned log_width, bool has_sign,
                        struct msgpack_value *out)
{
    *out = (struct msgpack_value){.kind = MSGPACK_NUMBER};
    if (!take_big_endian(c, (size_t)1 << log_width, &out->number))
        return false;
    if (has_sign && out->number >> ((8U << log_width) - 1) != 0)
        out->kind = MSGPACK_OTHER;
    return true;
}

static bool take_count(struct msgpack_cursor *c, enum msgpack_kind kind, size_t width,
                       struct msgpack_value *out)
{
    *out = (struct msgpack_value){.kind = kind};
    return take_big_endian(c, width, &out->number);
}

/* Values whose first byte says everything, but for the bytes of a short str. */
static bool take_short(struct msgpack_cursor *c, uint8_t first, struct msgpack_value *out)
{
    *out = (struct msgpack_value){.kind = MSGPACK_OTHER};
    if (first < FIXMAP)
        *out = (struct msgpack_value){.kind = MSGPACK_NUMBER, .number = first};
    else if (first < FIXARRAY)
        *out = (struct msgpack_value){.kind = MSGPACK_MAP, .number = first & 0x0fU};
    else if (first < FIXSTR)
        *out = (struct msgpack_value){.kind = MSGPACK_ARRAY, .number = first & 0x0fU};
    else if (first < NIL)
        return take_bytes(c, MSGPACK_TEXT, first & 0x1fU, out);
    return first != NEVER_USED;
}

bool msgpack_take(struct msgpack_cursor *c, struct msgpack_value *out)
{
    if (c->at == c->end)
        return false;
    uint8_t first = *c->at++;
    if (first < BIN8 || first >= NEGATIVE)
        return take_short(c, first, out);
    if (first <= BIN32)
        return take_sized(c, MSGPACK_BYTES, (unsigned)(first - BIN8), out);
    if (first <= EXT32)
        return take_sized(c, MSGPACK_OTHER, (unsigned)(first - EXT8), out);
    if (first <= FLOAT64)
        return take_bytes(c, MSGPACK_OTHER, first == FLOAT32 ? 4 : 8, out);
    if (first <= UINT64)
        return take_number(c, (unsigned)(first - UINT8), false, out);
    if (first <= INT64)
        return take_number(c, (unsigned)(first - INT8), true, out);
    if (first <= FIXEXT16)
        return take_bytes(c, MSGPACK_OTHER, (UINT64_C(1) << (first - FIXEXT1)) + 1, out);
    if (first <= STR32)
        return take_sized(c, MSGPACK_TEXT, (unsigned)(first - STR8), out);
    enum msgpack_kind kind = first <= ARRAY32 ? MSGPACK_ARRAY : MSGPACK_MAP;
    return take_count(c, kind, first == ARRAY16 || first == MAP16 ? 2 : 4, out);
}

/* How many values stand in an array or a map. */
static uint64_t children(const struct msgpack_value *value)
{
    return value->kind == MSGPACK_MAP ? 2 * value->number : value->number;
}

static bool spend(uint64_t *values)
{
    if (*values == 0)
        return false;
    --*values;
    return true;
}

bool msgpack_take_whole(struct msgpack_cursor *c, struct msgpack_value *out)
{
    uint64_t values = UINT64_MAX;
    return msgpack_take_within(c, &values, out);
}

bool msgpack_take_within(struct msgpack_cursor *c, uint64_t *values, struct msgpack_value *out)
{
    uint64_t open[MSGPACK_NESTING_MAX];
    size_t depth = 0;
    struct msgpack_value value;
    if (!spend(values) || !msgpack_take(c, out))
        return false;
    value = *out;
    for (;;) {
        if (value.kind == MSGPACK_ARRAY || value.kind == MSGPACK_MAP) {
            if (depth == MSGPACK_NESTING_MAX - 1)
                return false;
            open[depth++] = children(&value);
        }
        while (depth > 0 && open[depth - 1] == 0)
            depth--;
        if (depth == 0)
            return true;
        open[depth - 1]--;
        if (!spend(values) || !msgpack_take(c, &value))
            return false;
    }
}
