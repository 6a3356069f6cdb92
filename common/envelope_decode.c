/*
 * The reader of envelopes: allocates for items only what the input can hold, and copies no string.
 */
#include "common/envelope.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/msgpack_reader.h"
#include "common/publication.h"
#include "common/text.h"

#define ITEMS_MAX 65536

static bool take_u64(struct msgpack_cursor *c, uint64_t *out)
{
    struct msgpack_value value;
    if (!msgpack_take(c, &value) || value.kind != MSGPACK_NUMBER)
        return false;
    *out = value.number;
    return true;
}

static bool take_unsigned(struct msgpack_cursor *c, unsigned *out)
{
    uint64_t value;
    if (!take_u64(c, &value) || value > UINT32_MAX)
        return false;
    *out = (unsigned)value;
    return true;
}

static bool take_slice(struct msgpack_cursor *c, struct slice *out)
{
    struct msgpack_value value;
    if (!msgpack_take(c, &value) || (value.kind != MSGPACK_TEXT && value.kind != MSGPACK_BYTES))
        return false;
    *out = (struct slice){value.len > 0 ? (const char *)value.at : NULL, value.len};
    return true;
}

/* Every element takes at least a byte, so a longer array than the rest of the input is refused
 * before anything is allocated for it. */
static bool take_array(struct msgpack_cursor *c, size_t *out)
{
    struct msgpack_value value;
    if (!msgpack_take(c, &value) || value.kind != MSGPACK_ARRAY || value.number > msgpack_left(c))
        return false;
    *out = (size_t)value.number;
    return true;
}

/* Of fields that this version does not know. */
static bool skip_values(struct msgpack_cursor *c, size_t count)
{
    struct msgpack_value value;
    while (count-- > 0) {
        if (!msgpack_take_whole(c, &value))
            return false;
    }
    return true;
}

static bool take_kind(struct msgpack_cursor *c, enum item_kind *out)
{
    unsigned kind;
    if (!take_unsigned(c, &kind))
        return false;
    *out = (enum item_kind)kind;
    return true;
}

/* What is not binary ends as a text message somewhere, and has to be UTF-8 (RFC 6455 section 5.6).
 */
static bool bytes_fit(const struct envelope_item *item)
{
    return item->opcode == OPCODE_BINARY || text_is_utf8(item->bytes.at, item->bytes.len);
}

/* Fields come in a fixed order; one that is not there any more keeps its zero. */
static bool take_item(struct msgpack_cursor *c, struct envelope_item *item)
{
    size_t fields;
    *item = (struct envelope_item){.kind = ITEM_PUBLICATION};
    if (!take_array(c, &fields))
        return false;
#define FIELD(take, member) (fields == 0 || (fields--, take(c, &item->member)))
    return FIELD(take_kind, kind) && FIELD(take_u64, number) && FIELD(take_u64, id) &&
           FIELD(take_u64, time_ms) && FIELD(take_unsigned, opcode) && FIELD(take_slice, name) &&
           FIELD(take_slice, bytes) && FIELD(take_u64, ttl_ms) && skip_values(c, fields) &&
           bytes_fit(item);
#undef FIELD
}

static enum status take_items(struct msgpack_cursor *c, struct envelope *e,
                              struct envelope_item **items)
{
    size_t len;
    if (!take_array(c, &len) || len > ITEMS_MAX)
        return STATUS_INVALID;
    if (len == 0)
        return STATUS_OK;
    *items = calloc(len, sizeof(**items));
    if (!*items)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < len; i++) {
        if (!take_item(c, &(*items)[i]))
            return STATUS_INVALID;
    }
    e->items = *items;
    e->items_len = len;
    return STATUS_OK;
}

static bool take_head(struct msgpack_cursor *c, struct envelope *e, size_t *fields_left)
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

bool envelope_is(struct slice message, enum envelope_type type)
{
    struct msgpack_cursor c = {(const uint8_t *)message.at,
                               (const uint8_t *)message.at + message.len};
    size_t fields;
    unsigned version, found;
    return take_array(&c, &fields) && fields >= 2 && take_unsigned(&c, &version) && version > 0 &&
           take_unsigned(&c, &found) && found == type;
}

enum status envelope_decode(const void *data, size_t len, struct envelope *out,
                            struct envelope_item **items)
{
    struct msgpack_cursor c = {data, (const uint8_t *)data + len};
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
