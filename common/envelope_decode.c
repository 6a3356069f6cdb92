/*
 * The reader of envelopes.
 *
 * msgpack-c's own unpacker allocates what an array claims to hold before it has seen a single
 * element, so five hostile bytes cost gigabytes. This one walks the input once, allocates for items
 * only what the input can hold, and copies no string.
 */
#include "common/envelope.h"

#include <stdbool.h>
#include <stdlib.h>

#define ITEMS_MAX   65536
#define NESTING_MAX 32 /* of fields that this version does not know */

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

/* The first byte of each msgpack type that is read here (the msgpack specification, "formats"). */
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

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static bool take_byte(struct cursor *c, uint8_t *out)
{
    if (c->at == c->end)
        return false;
    *out = *c->at++;
    return true;
}

static bool take_big_endian(struct cursor *c, size_t width, uint64_t *out)
{
    if (left(c) < width)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | c->at[i];
    c->at += width;
    *out = value;
    return true;
}

static bool take_u64(struct cursor *c, uint64_t *out)
{
    uint8_t first;
    if (!take_byte(c, &first))
        return false;
    if (first < FIXMAP) {
        *out = first;
        return true;
    }
    if (first >= UINT8 && first <= UINT64)
        return take_big_endian(c, (size_t)1 << (first - UINT8), out);

    /* Some encoders write a positive number in a signed format. */
    if (first < INT8 || first > INT64)
        return false;
    uint64_t value;
    size_t width = (size_t)1 << (first - INT8);
    if (!take_big_endian(c, width, &value) || value >> (8 * width - 1) != 0)
        return false;
    *out = value;
    return true;
}

static bool take_unsigned(struct cursor *c, unsigned *out)
{
    uint64_t value;
    if (!take_u64(c, &value) || value > UINT32_MAX)
        return false;
    *out = (unsigned)value;
    return true;
}

/* The length of a str or bin, whose body stands behind the cursor then. */
static bool take_length(struct cursor *c, uint8_t first, uint64_t *len)
{
    if (first >= FIXSTR && first < NIL) {
        *len = first & 0x1fU;
        return true;
    }
    if (first >= STR8 && first <= STR32)
        return take_big_endian(c, (size_t)1 << (first - STR8), len);
    if (first >= BIN8 && first <= BIN32)
        return take_big_endian(c, (size_t)1 << (first - BIN8), len);
    return false;
}

static bool take_slice(struct cursor *c, struct slice *out)
{
    uint8_t first;
    uint64_t len;
    if (!take_byte(c, &first) || !take_length(c, first, &len) || len > left(c))
        return false;
    *out = (struct slice){len > 0 ? (const char *)c->at : NULL, (size_t)len};
    c->at += len;
    return true;
}

/* Every element takes at least a byte, so a longer array than the rest of the input is refused
 * before anything is allocated for it. */
static bool take_array(struct cursor *c, size_t *out)
{
    uint8_t first;
    uint64_t len;
    if (!take_byte(c, &first))
        return false;
    if (first >= FIXARRAY && first < FIXSTR)
        len = first & 0x0fU;
    else if ((first != ARRAY16 && first != ARRAY32) ||
             !take_big_endian(c, first == ARRAY16 ? 2 : 4, &len))
        return false;
    if (len > left(c))
        return false;
    *out = (size_t)len;
    return true;
}

static bool skip_bytes(struct cursor *c, uint64_t len)
{
    if (len > left(c))
        return false;
    c->at += len;
    return true;
}

/* How many values an array or a map holds; false where first is neither. */
static bool take_children(struct cursor *c, uint8_t first, uint64_t *children)
{
    bool map = first < FIXARRAY || first >= MAP16;
    if (first >= FIXMAP && first < FIXSTR)
        *children = first & 0x0fU;
    else if (first < ARRAY16 || first > MAP32 ||
             !take_big_endian(c, first == ARRAY16 || first == MAP16 ? 2 : 4, children))
        return false;
    *children *= map ? 2 : 1;
    return true;
}

static bool skip_scalar(struct cursor *c, uint8_t first)
{
    uint64_t len;
    if (first < FIXMAP || first >= NEGATIVE || (first >= NIL && first < BIN8))
        return first != NEVER_USED;
    if (first >= FLOAT32 && first <= FLOAT64)
        return skip_bytes(c, first == FLOAT32 ? 4 : 8);
    if (first >= UINT8 && first <= UINT64)
        return skip_bytes(c, UINT64_C(1) << (first - UINT8));
    if (first >= INT8 && first <= INT64)
        return skip_bytes(c, UINT64_C(1) << (first - INT8));
    if (first >= FIXEXT1 && first <= FIXEXT16)
        return skip_bytes(c, (UINT64_C(1) << (first - FIXEXT1)) + 1);
    if (first >= EXT8 && first <= EXT32)
        return take_big_endian(c, (size_t)1 << (first - EXT8), &len) && skip_bytes(c, len + 1);
    return take_length(c, first, &len) && skip_bytes(c, len);
}

/* Skips one value of any type, also nested, without recursion. */
static bool skip_value(struct cursor *c)
{
    uint64_t open[NESTING_MAX] = {1};
    size_t depth = 1;
    while (depth > 0) {
        if (open[depth - 1] == 0) {
            depth--;
            continue;
        }
        open[depth - 1]--;

        uint8_t first;
        if (!take_byte(c, &first))
            return false;
        bool nests = (first >= FIXMAP && first < FIXSTR) || (first >= ARRAY16 && first <= MAP32);
        if (!nests) {
            if (!skip_scalar(c, first))
                return false;
        } else if (depth == NESTING_MAX || !take_children(c, first, &open[depth++])) {
            return false;
        }
    }
    return true;
}

static bool skip_values(struct cursor *c, size_t count)
{
    while (count-- > 0) {
        if (!skip_value(c))
            return false;
    }
    return true;
}

static bool take_kind(struct cursor *c, enum item_kind *out)
{
    unsigned kind;
    if (!take_unsigned(c, &kind))
        return false;
    *out = (enum item_kind)kind;
    return true;
}

/* Fields come in a fixed order; one that is not there any more keeps its zero. */
static bool take_item(struct cursor *c, struct envelope_item *item)
{
    size_t fields;
    *item = (struct envelope_item){.kind = ITEM_PUBLICATION};
    if (!take_array(c, &fields))
        return false;
#define FIELD(take, member) (fields == 0 || (fields--, take(c, &item->member)))
    return FIELD(take_kind, kind) && FIELD(take_u64, number) && FIELD(take_u64, id) &&
           FIELD(take_u64, time_ms) && FIELD(take_unsigned, opcode) && FIELD(take_slice, name) &&
           FIELD(take_slice, bytes) && skip_values(c, fields);
#undef FIELD
}

static enum status take_items(struct cursor *c, struct envelope *e, struct envelope_item **items)
{
    size_t len;
    if (!take_array(c, &len) || len > ITEMS_MAX)
        return STATUS_INVALID;
    if (len == 0)
        return STATUS_OK;
    *items = calloc(len, sizeof(**items));
    if (*items == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < len; i++) {
        if (!take_item(c, &(*items)[i]))
            return STATUS_INVALID;
    }
    e->items = *items;
    e->items_len = len;
    return STATUS_OK;
}

static bool take_head(struct cursor *c, struct envelope *e, size_t *fields_left)
{
    size_t fields;
    unsigned version;
    if (!take_array(c, &fields) || fields < 2 || !take_unsigned(c, &version) || version == 0 ||
        !take_unsigned(c, &e->type))
        return false;
    fields -= 2;
#define FIELD(take, member) (fields == 0 || (fields--, take(c, &e->member)))
    bool good = FIELD(take_slice, session) && FIELD(take_slice, node) && FIELD(take_u64, life) &&
                FIELD(take_u64, number) && FIELD(take_u64, epoch) && FIELD(take_u64, offset) &&
                FIELD(take_u64, count) && FIELD(take_u64, status) && FIELD(take_slice, text) &&
                FIELD(take_slice, url);
#undef FIELD
    *fields_left = fields;
    return good;
}

enum status envelope_decode(const void *data, size_t len, struct envelope *out,
                            struct envelope_item **items)
{
    struct cursor c = {data, (const uint8_t *)data + len};
    struct envelope e = {0};
    struct envelope_item *found = NULL;
    size_t fields;
    enum status status = STATUS_INVALID;
    if (take_head(&c, &e, &fields)) {
        status = fields > 0 ? take_items(&c, &e, &found) : STATUS_OK;
        if (status == STATUS_OK && (!skip_values(&c, fields > 0 ? fields - 1 : 0) || c.at != c.end))
            status = STATUS_INVALID;
    }
    if (status != STATUS_OK) {
        free(found);
        return status;
    }
    *out = e;
    *items = found;
    return STATUS_OK;
}
