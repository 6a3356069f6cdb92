#include "common/envelope.h"

#include <stdlib.h>

#include <msgpack.h>

#define ENVELOPE_FIELDS 13
#define ITEM_FIELDS     7 /* and one more that is left out where it is 0 */
#define NUMBER_BYTES    9 /* the longest encoding of a number */
#define LENGTH_BYTES    5 /* the longest head of a string or an array */

/* An upper bound of the encoded size, so that the buffer never grows while it is filled. 0: too
 * large to encode. */
static size_t size_bound(const struct envelope *e)
{
    if (e->items_len > UINT32_MAX)
        return 0;

    const struct slice strings[] = {e->session, e->node, e->text, e->url};
    size_t size = LENGTH_BYTES + ENVELOPE_FIELDS * NUMBER_BYTES;
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        if (strings[i].len > UINT32_MAX || __builtin_add_overflow(size, strings[i].len, &size))
            return 0;
    }
    for (size_t i = 0; i < e->items_len; i++) {
        const struct envelope_item *item = &e->items[i];
        if (item->name.len > UINT32_MAX || item->bytes.len > UINT32_MAX ||
            __builtin_add_overflow(size, LENGTH_BYTES + (ITEM_FIELDS + 1) * NUMBER_BYTES, &size) ||
            __builtin_add_overflow(size, item->name.len, &size) ||
            __builtin_add_overflow(size, item->bytes.len, &size))
            return 0;
    }
    return size;
}

/* The packers below can't fail: the buffer has room for size_bound bytes. */
static void pack_text(msgpack_packer *packer, struct slice text)
{
    msgpack_pack_str(packer, text.len);
    msgpack_pack_str_body(packer, text.len > 0 ? text.at : "", text.len);
}

static void pack_bytes(msgpack_packer *packer, struct slice bytes)
{
    msgpack_pack_bin(packer, bytes.len);
    msgpack_pack_bin_body(packer, bytes.len > 0 ? bytes.at : "", bytes.len);
}

static void pack_item(msgpack_packer *packer, const struct envelope_item *item)
{
    msgpack_pack_array(packer, item->ttl_ms ? ITEM_FIELDS + 1 : ITEM_FIELDS);
    msgpack_pack_uint32(packer, (uint32_t)item->kind);
    msgpack_pack_uint64(packer, item->number);
    msgpack_pack_uint64(packer, item->id);
    msgpack_pack_uint64(packer, item->time_ms);
    msgpack_pack_uint32(packer, item->opcode);
    pack_text(packer, item->name);
    pack_bytes(packer, item->bytes);
    if (item->ttl_ms)
        msgpack_pack_uint64(packer, item->ttl_ms);
}

static void pack_envelope(msgpack_packer *packer, const struct envelope *e,
                          const msgpack_sbuffer *buffer, size_t *ends)
{
    msgpack_pack_array(packer, ENVELOPE_FIELDS);
    msgpack_pack_uint32(packer, ENVELOPE_VERSION);
    msgpack_pack_uint32(packer, e->type);
    pack_text(packer, e->session);
    pack_text(packer, e->node);
    msgpack_pack_uint64(packer, e->life);
    msgpack_pack_uint64(packer, e->number);
    msgpack_pack_uint64(packer, e->epoch);
    msgpack_pack_uint64(packer, e->offset);
    msgpack_pack_uint64(packer, e->count);
    msgpack_pack_uint64(packer, e->status);
    pack_text(packer, e->text);
    pack_text(packer, e->url);
    msgpack_pack_array(packer, e->items_len);
    for (size_t i = 0; i < e->items_len; i++) {
        pack_item(packer, &e->items[i]);
        if (ends)
            ends[i] = buffer->size;
    }
}

enum status envelope_encode(const struct envelope *envelope, uint8_t **out, size_t *out_len)
{
    return envelope_encode_placed(envelope, out, out_len, NULL);
}

enum status envelope_encode_placed(const struct envelope *envelope, uint8_t **out, size_t *out_len,
                                   size_t *ends)
{
    size_t bound = size_bound(envelope);
    if (bound == 0)
        return STATUS_NO_MEMORY;

    msgpack_sbuffer buffer = {.data = malloc(bound), .alloc = bound};
    if (!buffer.data)
        return STATUS_NO_MEMORY;

    msgpack_packer packer;
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    pack_envelope(&packer, envelope, &buffer, ends);
    *out_len = buffer.size;
    *out = (uint8_t *)msgpack_sbuffer_release(&buffer);
    return STATUS_OK;
}
