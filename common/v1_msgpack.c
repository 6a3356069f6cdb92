/*
 * The msgpack writer and reader. msgpack-c writes; what browsers send is read by msgpack_reader.
 */
#include <msgpack.h>

#include "common/msgpack_reader.h"
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
static void pack_list(msgpack_packer *packer, const struct v1_value *values, size_t len);

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
    case V1_ARRAY: pack_list(packer, value->fields, value->len); break;
    case V1_ABSENT:
    case V1_LIST:
    case V1_OTHER: break;
    }
}

static void pack_list(msgpack_packer *packer, const struct v1_value *values, size_t len)
{
    msgpack_pack_array(packer, len);
    for (size_t i = 0; i < len; i++)
        pack_value(packer, &values[i]);
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

/* Of what is read, only what a field may be. */
static struct v1_value value_of(const struct msgpack_value *value)
{
    switch (value->kind) {
    case MSGPACK_NUMBER: return (struct v1_value){.kind = V1_NUMBER, .number = value->number};
    case MSGPACK_TEXT:
        return (struct v1_value){.kind = V1_TEXT, .at = value->at, .len = value->len};
    case MSGPACK_BYTES:
        return (struct v1_value){.kind = V1_BYTES, .at = value->at, .len = value->len};
    case MSGPACK_ARRAY: return (struct v1_value){.kind = V1_LIST, .number = value->number};
    case MSGPACK_MAP:
    case MSGPACK_OTHER: break;
    }
    return (struct v1_value){.kind = V1_OTHER};
}

/* What may still come. */
struct budget {
    uint64_t values, texts;
};

static const char *take_pair(struct msgpack_cursor *c, struct budget *left,
                             struct v1_value fields[V1_REQUEST_FIELDS])
{
    static const char broken[] = "a message is one whole msgpack map, nested 16 deep at most";
    struct msgpack_value key, value;
    if (left->values == 0)
        return V1_TOO_MUCH;
    if (!msgpack_take(c, &key))
        return broken;
    if (key.kind != MSGPACK_TEXT)
        return "the keys of a message are of type str";
    enum v1_request_field field = v1_request_field((const char *)key.at, key.len);
    bool listed = field == V1_FIELD_URLS || field == V1_FIELD_SESSIONS;
    uint64_t *budget = listed ? &left->texts : &left->values;
    const uint8_t *before = c->at;
    if (!msgpack_take_within(c, budget, &value))
        return *budget == 0 ? V1_TOO_MUCH : broken;
    left->values -= listed;
    if (field == V1_REQUEST_FIELDS)
        return NULL;
    if (fields[field].kind != V1_ABSENT)
        return V1_TWICE;
    fields[field] = value_of(&value);
    if (fields[field].kind == V1_LIST) {
        fields[field].at = before;
        fields[field].len = (size_t)(c->at - before);
    }
    return NULL;
}

bool v1_msgpack_texts(const struct v1_value *list, v1_take_text *take, void *ctx)
{
    struct msgpack_cursor c = {list->at, (const uint8_t *)list->at + list->len};
    struct msgpack_value item;
    (void)msgpack_take(&c, &item); /* its head */
    for (uint64_t i = 0; i < list->number; i++) {
        if (!msgpack_take_whole(&c, &item) || item.kind != MSGPACK_TEXT)
            return false;
        take(ctx, item.at, item.len);
    }
    return true;
}

const char *v1_msgpack_read(const void *data, size_t len, struct v1_value fields[V1_REQUEST_FIELDS])
{
    struct msgpack_cursor c = {data, (const uint8_t *)data + len};
    struct budget left = {V1_VALUES_MAX, V1_TEXTS_MAX + 2}; /* and each list itself */
    struct msgpack_value map;
    if (!msgpack_take(&c, &map) || map.kind != MSGPACK_MAP)
        return "a message is a msgpack map";
    for (; map.number > 0; map.number--) {
        const char *why = take_pair(&c, &left, fields);
        if (why)
            return why;
    }
    return c.at == c.end ? NULL : "a message is one msgpack map and nothing after it";
}
