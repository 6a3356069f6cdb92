/*
 * The msgpack writer and reader.
 *
 * msgpack-c's own unpacker allocates what an array claims to hold before it has seen a single
 * element, and browsers are not to be trusted with that. This reader walks the input once and
 * allocates nothing.
 */
#include <msgpack.h>

#include "common/v1_form.h"

static int on_write(void *ctx, const char *bytes, size_t len)
{
    v1_put(ctx, bytes, len);
    return 0;
}

static void pack_text(msgpack_packer *packer, const void *text, size_t len)
{
    msgpack_pack_str(packer, len);
    msgpack_pack_str_body(packer, text, len);
}

static void pack_map(msgpack_packer *packer, const struct v1_value *values, size_t len);

static void pack_value(msgpack_packer *packer, const struct v1_value *value)
{
    switch (value->kind) {
    case V1_NUMBER: msgpack_pack_uint64(packer, value->number); break;
    case V1_FLAG:
        if (value->number != 0)
            msgpack_pack_true(packer);
        else
            msgpack_pack_false(packer);
        break;
    case V1_TEXT: pack_text(packer, value->at, value->len); break;
    case V1_BYTES:
        msgpack_pack_bin(packer, value->len);
        msgpack_pack_bin_body(packer, value->at, value->len);
        break;
    case V1_MAP: pack_map(packer, value->fields, value->len); break;
    case V1_ABSENT:
    case V1_OTHER: break;
    }
}

static void pack_map(msgpack_packer *packer, const struct v1_value *values, size_t len)
{
    size_t present = 0;
    for (size_t i = 0; i < len; i++)
        present += values[i].kind != V1_ABSENT;
    msgpack_pack_map(packer, present);
    for (size_t i = 0; i < len; i++) {
        if (values[i].kind == V1_ABSENT)
            continue;
        pack_text(packer, values[i].name, strlen(values[i].name));
        pack_value(packer, &values[i]);
    }
}

void v1_msgpack_write(struct v1_out *out, const struct v1_value *values, size_t len)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, on_write);
    pack_map(&packer, values, len);
}

#define NESTING_MAX 16 /* of fields that this version does not know */

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

/* The first byte of each type that is told apart here (the msgpack specification, "formats"). */
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

static bool take_big_endian(struct cursor *c, size_t width, uint64_t *out)
{
    if ((size_t)(c->end - c->at) < width)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | c->at[i];
    c->at += width;
    *out = value;
    return true;
}

static bool take_bytes(struct cursor *c, enum v1_kind kind, uint64_t len, struct v1_value *out)
{
    if (len > (uint64_t)(c->end - c->at))
        return false;
    *out = (struct v1_value){.kind = kind, .at = c->at, .len = (size_t)len};
    c->at += len;
    return true;
}

static bool take_sized(struct cursor *c, enum v1_kind kind, unsigned log_width,
                       struct v1_value *out)
{
    uint64_t len;
    if (!take_big_endian(c, (size_t)1 << log_width, &len))
        return false;
    return take_bytes(c, kind, kind == V1_OTHER ? len + 1 : len, out); /* an ext has a type byte */
}

static bool take_unsigned(struct cursor *c, size_t width, struct v1_value *out)
{
    *out = (struct v1_value){.kind = V1_NUMBER};
    return take_big_endian(c, width, &out->number);
}

/* Some encoders write a positive number in a signed format. */
static bool take_signed(struct cursor *c, size_t width, struct v1_value *out)
{
    if (!take_unsigned(c, width, out))
        return false;
    if (out->number >> (8 * width - 1) != 0)
        out->kind = V1_OTHER;
    return true;
}

/* Anything but an array or a map. */
static bool take_scalar(struct cursor *c, uint8_t first, struct v1_value *out)
{
    *out = (struct v1_value){.kind = V1_OTHER};
    if (first < FIXMAP) {
        *out = (struct v1_value){.kind = V1_NUMBER, .number = first};
        return true;
    }
    if (first < NIL)
        return take_bytes(c, V1_TEXT, first & 0x1fU, out);
    if (first < BIN8 || first >= NEGATIVE)
        return first != NEVER_USED;
    if (first <= BIN32)
        return take_sized(c, V1_BYTES, (unsigned)(first - BIN8), out);
    if (first <= EXT32)
        return take_sized(c, V1_OTHER, (unsigned)(first - EXT8), out);
    if (first <= FLOAT64)
        return take_bytes(c, V1_OTHER, first == FLOAT32 ? 4 : 8, out);
    if (first <= UINT64)
        return take_unsigned(c, (size_t)1 << (first - UINT8), out);
    if (first <= INT64)
        return take_signed(c, (size_t)1 << (first - INT8), out);
    if (first <= FIXEXT16)
        return take_bytes(c, V1_OTHER, (UINT64_C(1) << (first - FIXEXT1)) + 1, out);
    return take_sized(c, V1_TEXT, (unsigned)(first - STR8), out);
}

static bool nests(uint8_t first)
{
    return (first >= FIXMAP && first < FIXSTR) || (first >= ARRAY16 && first <= MAP32);
}

static bool is_map(uint8_t first)
{
    return (first >= FIXMAP && first < FIXARRAY) || first == MAP16 || first == MAP32;
}

/* How many elements or pairs an array or a map claims to hold. */
static bool take_count(struct cursor *c, uint8_t first, uint64_t *out)
{
    if (first >= ARRAY16)
        return take_big_endian(c, first == ARRAY16 || first == MAP16 ? 2 : 4, out);
    *out = first & 0x0fU;
    return true;
}

/* Takes one value of any type, also nested, without recursion; what nests is V1_OTHER. */
static bool take_value(struct cursor *c, struct v1_value *out)
{
    uint64_t open[NESTING_MAX] = {1};
    size_t depth = 1;
    bool nested = false;
    while (depth > 0) {
        if (open[depth - 1] == 0) {
            depth--;
            continue;
        }
        open[depth - 1]--;

        uint64_t first;
        if (!take_big_endian(c, 1, &first))
            return false;
        if (!nests((uint8_t)first)) {
            if (!take_scalar(c, (uint8_t)first, out))
                return false;
            continue;
        }
        nested = true;
        if (depth == NESTING_MAX || !take_count(c, (uint8_t)first, &open[depth]))
            return false;
        open[depth++] *= is_map((uint8_t)first) ? 2 : 1;
    }
    if (nested)
        *out = (struct v1_value){.kind = V1_OTHER};
    return true;
}

static const char *take_pair(struct cursor *c, struct v1_value fields[V1_REQUEST_FIELDS])
{
    struct v1_value key;
    struct v1_value value;
    if (!take_value(c, &key) || !take_value(c, &value))
        return "a message is one whole msgpack map, nested 16 deep at most";
    if (key.kind != V1_TEXT)
        return "the keys of a message are of type str";
    enum v1_request_field field = v1_request_field(key.at, key.len);
    if (field == V1_REQUEST_FIELDS)
        return NULL;
    if (fields[field].kind != V1_ABSENT)
        return "a message has each field once";
    fields[field] = value;
    return NULL;
}

const char *v1_msgpack_read(const void *data, size_t len, struct v1_value fields[V1_REQUEST_FIELDS])
{
    struct cursor c = {data, (const uint8_t *)data + len};
    uint64_t first;
    uint64_t pairs;
    if (!take_big_endian(&c, 1, &first) || !is_map((uint8_t)first) ||
        !take_count(&c, (uint8_t)first, &pairs))
        return "a message is a msgpack map";
    for (; pairs > 0; pairs--) {
        const char *why = take_pair(&c, fields);
        if (why != NULL)
            return why;
    }
    return c.at == c.end ? NULL : "a message is one msgpack map and nothing after it";
}
