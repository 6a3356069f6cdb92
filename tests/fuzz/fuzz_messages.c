/*
 * Messages in the hub's own formats: envelopes of the bus, and vinhub.v1 in JSON and msgpack, read
 * and written. The first byte chooses.
 */
#include <assert.h>
#include <jansson.h>
#include <msgpack.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "common/v1.h"
#include "fuzz.h"

/* --- envelopes --- */

static bool same_slice(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static void same_envelope(const struct envelope *a, const struct envelope *b)
{
    assert(a->type == b->type && a->life == b->life && a->number == b->number &&
           a->epoch == b->epoch && a->offset == b->offset && a->count == b->count &&
           a->status == b->status && a->items_len == b->items_len);
    assert(same_slice(a->session, b->session) && same_slice(a->node, b->node) &&
           same_slice(a->text, b->text) && same_slice(a->url, b->url));
    for (size_t i = 0; i < a->items_len; i++) {
        const struct envelope_item *x = &a->items[i], *y = &b->items[i];
        assert(x->kind == y->kind && x->number == y->number && x->id == y->id &&
               x->time_ms == y->time_ms && x->opcode == y->opcode);
        assert(same_slice(x->name, y->name) && same_slice(x->bytes, y->bytes));
    }
}

/* A message that can be read is written so that it reads the same. */
static void envelope(struct fuzz_input *input)
{
    struct slice bytes = fuzz_rest(input);
    void *exact = fuzz_copy(bytes);
    struct envelope first, second;
    struct envelope_item *items = NULL, *again = NULL;
    if (envelope_decode(exact, bytes.len, &first, &items) == STATUS_OK) {
        uint8_t *encoded;
        size_t encoded_len;
        assert(envelope_encode(&first, &encoded, &encoded_len) == STATUS_OK);
        assert(envelope_decode(encoded, encoded_len, &second, &again) == STATUS_OK);
        same_envelope(&first, &second);
        free(encoded);
    }
    free(items);
    free(again);
    free(exact);
}

/* --- what clients send --- */

/* Their bytes: base64 is read by OpenSSL, which takes more than we do. */
static bool same_payload(const struct v1_request *request, struct slice shown, bool base64)
{
    if (!base64)
        return request->len == shown.len &&
               (shown.len == 0 || memcmp(request->payload, shown.at, shown.len) == 0);
    unsigned char *plain = malloc(shown.len + 1);
    int len = EVP_DecodeBlock(plain, (const unsigned char *)shown.at, (int)shown.len);
    for (size_t end = shown.len; end > 0 && shown.at[end - 1] == '='; end--)
        len--;
    bool same = len >= 0 && request->len == (size_t)len &&
                (len == 0 || memcmp(request->payload, plain, (size_t)len) == 0);
    free(plain);
    return same;
}

static const char *word_of(enum v1_request_type type)
{
    switch (type) {
    case V1_SEND: return "SEND";
    case V1_REFRESH: return "REFRESH";
    case V1_SUBSCRIBE: return "SUBSCRIBE";
    case V1_UNSUBSCRIBE: return "UNSUBSCRIBE";
    case V1_PING: break;
    }
    return "PING";
}

/* A terminated text without a 0 in it. */
static bool is_token(const struct v1_request *request, struct slice shown)
{
    return request->len > 0 && same_payload(request, shown, false) &&
           strlen((const char *)request->payload) == request->len;
}

/* The list of a SUBSCRIBE or UNSUBSCRIBE, as another reader shows it, one text after the other. */
struct list_check {
    const struct v1_request *request;
    size_t at, len;
};

static bool is_list(const struct v1_request *request)
{
    return request->type == V1_SUBSCRIBE || request->type == V1_UNSUBSCRIBE;
}

static const char *list_of(const struct v1_request *request)
{
    return request->type == V1_SUBSCRIBE ? "urls" : "sessions";
}

static void check_next(struct list_check *check, struct slice shown)
{
    struct v1_text text;
    bool more = v1_texts_next(check->request->payload, check->request->len, &check->at, &text);
    assert(more && text.len == shown.len && text_is_utf8(text.at, text.len));
    assert(shown.len == 0 || memcmp(text.at, shown.at, shown.len) == 0);
    assert(text.at[text.len] == '\0');
}

static void check_end(struct list_check *check)
{
    struct v1_text text;
    assert(!v1_texts_next(check->request->payload, check->request->len, &check->at, &text));
    assert(check->len <= V1_TEXTS_MAX && check->request->id >= 1);
}

static void other_json_list(const struct v1_request *request, const json_t *root)
{
    const json_t *list = json_object_get(root, list_of(request)), *item;
    struct list_check check = {request, 0, json_array_size(list)};
    size_t index;
    assert(json_is_array(list));
    assert(json_integer_value(json_object_get(root, "id")) == (json_int_t)request->id);
    json_array_foreach(list, index, item)
        check_next(&check, (struct slice){json_string_value(item), json_string_length(item)});
    check_end(&check);
}

/* Its session, and its time to live. */
static void other_json_more(const struct v1_request *request, const json_t *root)
{
    const char *session = json_string_value(json_object_get(root, "session"));
    assert(session ? strcmp(session, request->session) == 0 : !request->session);
    json_int_t ttl = json_integer_value(json_object_get(root, "ttl"));
    assert(request->ttl_ms == (ttl < (json_int_t)UINT32_MAX ? (uint32_t)ttl : UINT32_MAX));
}

/* What jansson refuses in fields that have no meaning: a number that no double holds, a NUL byte in
 * a name. */
static bool is_pickier(const json_error_t *error)
{
    return json_error_code(error) == json_error_numeric_overflow ||
           json_error_code(error) == json_error_null_byte_in_key;
}

static void other_json(const struct v1_request *request, struct slice bytes)
{
    json_error_t error;
    json_t *root = json_loadb(bytes.at, bytes.len, JSON_ALLOW_NUL, &error);
    if (!root && is_pickier(&error))
        return;
    const char *type = json_string_value(json_object_get(root, "type")),
               *encoding = json_string_value(json_object_get(root, "encoding"));
    assert(type && strcmp(type, word_of(request->type)) == 0);
    if (request->type == V1_SEND) {
        const json_t *payload = json_object_get(root, "payload");
        bool base64 = encoding && strcmp(encoding, "base64") == 0;
        struct slice shown = {json_string_value(payload), json_string_length(payload)};
        assert(json_integer_value(json_object_get(root, "id")) == (json_int_t)request->id);
        assert(request->opcode == (base64 ? OPCODE_BINARY : OPCODE_TEXT));
        assert(same_payload(request, shown, base64));
        other_json_more(request, root);
    } else if (is_list(request)) {
        other_json_list(request, root);
    } else if (request->type == V1_REFRESH) {
        const json_t *token = json_object_get(root, "token");
        assert(json_integer_value(json_object_get(root, "id")) == (json_int_t)request->id);
        assert(
            is_token(request, (struct slice){json_string_value(token), json_string_length(token)}));
    }
    json_decref(root);
}

static const msgpack_object *value_of(const msgpack_object *map, const char *name)
{
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (pair->key.type == MSGPACK_OBJECT_STR && pair->key.via.str.size == strlen(name) &&
            memcmp(pair->key.via.str.ptr, name, strlen(name)) == 0)
            return &pair->val;
    }
    return NULL;
}

static bool is_word(const msgpack_object *value, const char *word)
{
    return value && value->type == MSGPACK_OBJECT_STR && value->via.str.size == strlen(word) &&
           memcmp(value->via.str.ptr, word, strlen(word)) == 0;
}

static void other_msgpack_list(const struct v1_request *request, const msgpack_object *map)
{
    const msgpack_object *id = value_of(map, "id"), *list = value_of(map, list_of(request));
    assert(id && id->via.u64 == request->id);
    assert(list && list->type == MSGPACK_OBJECT_ARRAY);
    struct list_check check = {request, 0, list->via.array.size};
    for (uint32_t i = 0; i < list->via.array.size; i++) {
        const msgpack_object *item = &list->via.array.ptr[i];
        assert(item->type == MSGPACK_OBJECT_STR);
        check_next(&check, (struct slice){item->via.str.ptr, item->via.str.size});
    }
    check_end(&check);
}

static void other_msgpack(const struct v1_request *request, struct slice bytes)
{
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t used = 0;
    assert(msgpack_unpack_next(&unpacked, bytes.at, bytes.len, &used) == MSGPACK_UNPACK_SUCCESS);
    assert(used == bytes.len && unpacked.data.type == MSGPACK_OBJECT_MAP);
    const msgpack_object *map = &unpacked.data;
    assert(is_word(value_of(map, "type"), word_of(request->type)));
    if (request->type == V1_SEND) {
        const msgpack_object *id = value_of(map, "id"), *payload = value_of(map, "payload");
        bool text = payload && payload->type == MSGPACK_OBJECT_STR;
        bool base64 = text && is_word(value_of(map, "encoding"), "base64");
        assert(payload && (text || payload->type == MSGPACK_OBJECT_BIN));
        struct slice shown = {payload->via.bin.ptr, payload->via.bin.size};
        assert(id && id->type == MSGPACK_OBJECT_POSITIVE_INTEGER);
        assert(id->via.u64 == request->id);
        assert(request->opcode == (text && !base64 ? OPCODE_TEXT : OPCODE_BINARY));
        assert(same_payload(request, shown, base64));
    } else if (is_list(request)) {
        other_msgpack_list(request, map);
    } else if (request->type == V1_REFRESH) {
        const msgpack_object *id = value_of(map, "id"), *token = value_of(map, "token");
        assert(id && token && id->via.u64 == request->id);
        assert(is_token(request, (struct slice){token->via.str.ptr, token->via.str.size}));
    }
    msgpack_unpacked_destroy(&unpacked);
}

static void request_of(enum v1_encoding form, struct fuzz_input *input)
{
    enum opcode opcode = fuzz_below(input, 2) == 0 ? OPCODE_TEXT : OPCODE_BINARY;
    struct slice bytes = fuzz_rest(input);
    /* The front lets no text in that is no UTF-8. */
    if (opcode == OPCODE_TEXT && !text_is_utf8(bytes.at, bytes.len))
        return;
    void *exact = fuzz_copy(bytes);
    struct v1_request request = {0};
    struct v1_mistake mistake = {0};
    if (v1_decode(form, opcode, exact, bytes.len, &request, &mistake) == STATUS_OK) {
        if (request.type == V1_SEND) {
            assert(request.id >= 1 && (request.len == 0 || request.payload));
            assert(form == V1_MSGPACK || request.id <= UINT64_C(1) << 53);
            assert(request.opcode == OPCODE_BINARY || text_is_utf8(request.payload, request.len));
        }
        if (form == V1_JSON)
            other_json(&request, bytes);
        else
            other_msgpack(&request, bytes);
        v1_request_fini(&request);
    } else {
        const struct v1_error error = {.id = mistake.has_id ? &mistake.id : NULL,
                                       .code = mistake.code,
                                       .message = mistake.why};
        assert(mistake.code && mistake.why);
        struct wire *wire = v1_error(form, &(struct v1_head){1, NULL}, &error);
        assert(wire);
        wire_unref(wire);
    }
    free(exact);
}

static void json_request(struct fuzz_input *input)
{
    request_of(V1_JSON, input);
}

static void msgpack_request(struct fuzz_input *input)
{
    request_of(V1_MSGPACK, input);
}

static void resume_token(struct fuzz_input *input)
{
    char *text = fuzz_text(fuzz_rest(input));
    struct position at;
    char client[V1_CLIENT_MAX + 1];
    if (v1_resume(text, &at, client) == STATUS_OK)
        assert(client[0] == '\0' || text_is_name(client, strlen(client)));
    free(text);
}

/* --- what they get --- */

static struct slice payload_of(const struct wire *wire)
{
    return (struct slice){(const char *)wire->bytes, wire->len};
}

/* Other readers understand it, and find the payload in it. */
static void check_json(const struct wire *wire, const struct publication *publication)
{
    bool text = publication->opcode == OPCODE_TEXT;
    struct v1_request sent = {.payload = publication->payload, .len = publication->len};
    struct slice body = payload_of(wire);
    json_t *root = json_loadb(body.at, body.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const json_t *shown = json_object_get(root, "payload");
    assert(json_is_string(shown));
    assert(same_payload(&sent, (struct slice){json_string_value(shown), json_string_length(shown)},
                        !text));
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"epoch", publication->at.epoch},
                   {"offset", publication->at.offset},
                   {"timestamp", publication->time_ms}};
    for (size_t i = 0; i < 3; i++)
        assert((uint64_t)json_integer_value(json_object_get(root, numbers[i].name)) ==
               numbers[i].value);
    json_decref(root);
}

static void check_msgpack(const struct wire *wire, const struct publication *publication)
{
    struct slice body = payload_of(wire);
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t used = 0;
    assert(msgpack_unpack_next(&unpacked, body.at, body.len, &used) == MSGPACK_UNPACK_SUCCESS);
    assert(used == body.len && unpacked.data.type == MSGPACK_OBJECT_MAP);
    const msgpack_object *map = &unpacked.data, *payload = value_of(map, "payload");
    assert(payload && payload->type == (publication->opcode == OPCODE_TEXT ? MSGPACK_OBJECT_STR
                                                                           : MSGPACK_OBJECT_BIN));
    assert(payload->via.bin.size == publication->len &&
           memcmp(payload->via.bin.ptr, publication->payload, publication->len) == 0);
    assert(value_of(map, "epoch")->via.u64 == publication->at.epoch);
    assert(value_of(map, "offset")->via.u64 == publication->at.offset);
    assert(value_of(map, "timestamp")->via.u64 == publication->time_ms);
    msgpack_unpacked_destroy(&unpacked);
}

static void message(struct fuzz_input *input)
{
    bool text = fuzz_below(input, 2) == 0;
    /* jansson knows no integers above. */
    struct position at = {fuzz_number(input) / 2, fuzz_number(input) / 2};
    uint64_t time_ms = fuzz_number(input) / 2;
    struct slice payload = fuzz_rest(input);
    if (text && !text_is_utf8(payload.at, payload.len))
        return;
    struct publication *publication = publication_copy(text ? OPCODE_TEXT : OPCODE_BINARY,
                                                       payload.at, payload.len);
    publication->at = at;
    publication->time_ms = time_ms;
    struct wire *json = v1_message(V1_JSON, publication, NULL),
                *msgpack = v1_message(V1_MSGPACK, publication, NULL);
    check_json(json, publication);
    check_msgpack(msgpack, publication);
    wire_unref(json);
    wire_unref(msgpack);
    publication_unref(publication);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const parts[])(struct fuzz_input *) = {envelope, json_request, msgpack_request,
                                                         resume_token, message};
    struct fuzz_input input = {data, len};
    parts[fuzz_below(&input, sizeof(parts) / sizeof(*parts))](&input);
    return 0;
}
