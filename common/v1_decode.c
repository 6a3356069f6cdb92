/*
 * What a protocol client may say: the checks that are the same for both forms.
 */
#include <stdlib.h>

#include "common/base64.h"
#include "common/text.h"
#include "common/v1_form.h"

#define JSON_ID_MAX (UINT64_C(1) << 53) /* where a browser's numbers stop being exact */

enum v1_request_field v1_request_field(const char *name, size_t len)
{
    static const char *const names[V1_REQUEST_FIELDS] = {
        [V1_FIELD_TYPE] = "type",         [V1_FIELD_ID] = "id",
        [V1_FIELD_PAYLOAD] = "payload",   [V1_FIELD_ENCODING] = "encoding",
        [V1_FIELD_TOKEN] = "token",       [V1_FIELD_SESSION] = "session",
        [V1_FIELD_TTL] = "ttl",           [V1_FIELD_URLS] = "urls",
        [V1_FIELD_SESSIONS] = "sessions",
    };
    enum v1_request_field field = V1_FIELD_TYPE;
    while (field < V1_REQUEST_FIELDS &&
           (strlen(names[field]) != len || memcmp(names[field], name, len) != 0))
        field++;
    return field;
}

static bool is_text(const struct v1_value *value, const char *text)
{
    return value->kind == V1_TEXT && value->len == strlen(text) &&
           memcmp(value->at, text, value->len) == 0;
}

static enum status mistaken(struct v1_mistake *mistake, const char *code, const char *why)
{
    mistake->code = code;
    mistake->why = why;
    return STATUS_INVALID;
}

/* What a message was read from, and what its reader made of it. */
struct v1_source {
    enum v1_encoding encoding;
    const uint8_t *data;
    size_t len;
    uint8_t *scratch; /* of the JSON reader; may be NULL */
};

static bool stands_in(const struct v1_source *source, const void *bytes)
{
    uintptr_t at = (uintptr_t)bytes, data = (uintptr_t)source->data;
    return at >= data && at - data <= source->len;
}

/* The payload of a SEND is needed only while the message is there: it stays where it stands. */
static void borrow(const void *bytes, size_t len, struct v1_request *out)
{
    out->payload = len > 0 ? (uint8_t *)(uintptr_t)bytes : NULL;
    out->len = len;
    out->borrowed = true;
}

/* Makes bytes the payload, with a 0 behind them. They are copied, unless scratch begins with them:
 * then it is the payload, since copying costs as much as reading where a message is large. */
static enum status take(struct v1_source *source, const void *bytes, size_t len,
                        struct v1_request *out)
{
    bool made = source->scratch && bytes == source->scratch;
    uint8_t *payload = NULL;
    if (len > 0) {
        payload = realloc(made ? source->scratch : NULL, len + 1);
        if (!payload)
            return STATUS_NO_MEMORY;
        if (made)
            source->scratch = NULL;
        else
            memcpy(payload, bytes, len);
        payload[len] = '\0';
    }
    out->payload = payload;
    out->len = len;
    return STATUS_OK;
}

/* The bytes of a payload that is a string or, in msgpack, a bin. */
static enum status read_payload(struct v1_source *source, const struct v1_value *payload,
                                bool base64, struct v1_request *out, struct v1_mistake *mistake)
{
    out->opcode = payload->kind == V1_BYTES || base64 ? OPCODE_BINARY : OPCODE_TEXT;
    if (payload->kind == V1_TEXT && base64) {
        enum status status = base64_decode(payload->at, payload->len, &out->payload, &out->len);
        if (status == STATUS_INVALID)
            mistaken(mistake, "invalid_payload",
                     "base64 is of A-Z a-z 0-9 + / with padding and without line breaks");
        return status;
    }
    if (payload->kind == V1_TEXT && source->encoding == V1_MSGPACK &&
        !text_is_utf8(payload->at, payload->len))
        return mistaken(mistake, "invalid_payload", "a payload of type str is UTF-8");
    if (stands_in(source, payload->at)) {
        borrow(payload->at, payload->len, out);
        return STATUS_OK;
    }
    return take(source, payload->at, payload->len, out);
}

/* STATUS_INVALID: *mistake says what is wrong with session or ttl. */
static enum status read_send_more(const struct v1_value fields[V1_REQUEST_FIELDS],
                                  struct v1_request *out, struct v1_mistake *mistake)
{
    const struct v1_value *session = &fields[V1_FIELD_SESSION], *ttl = &fields[V1_FIELD_TTL];
    if (ttl->kind != V1_ABSENT && (ttl->kind != V1_NUMBER || ttl->number == 0))
        return mistaken(mistake, "invalid_ttl", "ttl is an integer from 1 on, in milliseconds");
    if (ttl->kind == V1_NUMBER)
        out->ttl_ms = ttl->number < UINT32_MAX ? (uint32_t)ttl->number : UINT32_MAX;
    if (session->kind == V1_ABSENT)
        return STATUS_OK;
    if (session->kind != V1_TEXT || memchr(session->at, '\0', session->len))
        return mistaken(mistake, "invalid_session",
                        "session is a string: the session of a WELCOME");
    out->session = strndup(session->at, session->len);
    return out->session ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status read_send(struct v1_source *source,
                             const struct v1_value fields[V1_REQUEST_FIELDS],
                             struct v1_request *out, struct v1_mistake *mistake)
{
    if (!mistake->has_id)
        return mistaken(mistake, "invalid_id",
                        source->encoding == V1_JSON
                            ? "a SEND has an id, an integer from 1 to 9007199254740992"
                            : "a SEND has an id, an integer from 1 to 18446744073709551615");

    const struct v1_value *payload = &fields[V1_FIELD_PAYLOAD];
    if (payload->kind != V1_TEXT && payload->kind != V1_BYTES)
        return mistaken(mistake, "invalid_payload",
                        source->encoding == V1_JSON ? "a SEND has a payload, a string"
                                                    : "a SEND has a payload of type str or bin");

    const struct v1_value *named = &fields[V1_FIELD_ENCODING];
    bool base64 = is_text(named, "base64");
    if (named->kind != V1_ABSENT && !base64 && !is_text(named, "text"))
        return mistaken(mistake, "invalid_encoding", "encoding is \"text\" or \"base64\"");
    if (payload->kind == V1_BYTES && is_text(named, "text"))
        return mistaken(mistake, "invalid_encoding",
                        "a payload of type bin is not text: leave encoding out");

    struct v1_request request = {.type = V1_SEND, .id = mistake->id};
    enum status status = read_send_more(fields, &request, mistake);
    if (status == STATUS_OK)
        status = read_payload(source, payload, base64, &request, mistake);
    if (status == STATUS_OK)
        *out = request;
    else
        v1_request_fini(&request);
    return status;
}

/* A missing token gets the same code as a refused one: unauthorized. */
static enum status read_refresh(struct v1_source *source,
                                const struct v1_value fields[V1_REQUEST_FIELDS],
                                struct v1_request *out, struct v1_mistake *mistake)
{
    if (!mistake->has_id)
        return mistaken(mistake, "invalid_id",
                        source->encoding == V1_JSON
                            ? "a REFRESH has an id, an integer from 1 to 9007199254740992"
                            : "a REFRESH has an id, an integer from 1 to 18446744073709551615");
    const struct v1_value *token = &fields[V1_FIELD_TOKEN];
    if (token->kind != V1_TEXT || token->len == 0 || memchr(token->at, '\0', token->len))
        return mistaken(mistake, "unauthorized", "a REFRESH has a token, a string");
    struct v1_request request = {.type = V1_REFRESH, .id = mistake->id};
    enum status status = take(source, token->at, token->len, &request);
    if (status == STATUS_OK)
        *out = request;
    return status;
}

/* ---- lists of texts ---- */

/* Each text: its length, its bytes, a 0. Measures only while at is NULL. */
struct texts {
    uint8_t *at;
    size_t len;
    bool utf8;
};

static void put_text(void *ctx, const void *text, size_t len)
{
    struct texts *texts = ctx;
    const uint32_t length = (uint32_t)len; /* of a message, which is at most 1 GiB */
    if (texts->at) {
        memcpy(texts->at + texts->len, &length, sizeof(length));
        memcpy(texts->at + texts->len + sizeof(length), text, len);
        texts->at[texts->len + sizeof(length) + len] = '\0';
    } else {
        texts->utf8 = texts->utf8 && text_is_utf8(text, len);
    }
    texts->len += sizeof(length) + len + 1;
}

bool v1_texts_next(const uint8_t *payload, size_t len, size_t *at, struct v1_text *out)
{
    uint32_t length;
    if (*at == len)
        return false;
    memcpy(&length, payload + *at, sizeof(length));
    *out = (struct v1_text){(const char *)payload + *at + sizeof(length), length};
    *at += sizeof(length) + length + 1;
    return true;
}

static enum status copy_msgpack_texts(const struct v1_value *list, struct v1_request *out)
{
    struct texts texts = {.utf8 = true};
    if (!v1_msgpack_texts(list, put_text, &texts) || !texts.utf8)
        return STATUS_INVALID;
    if (texts.len > 0 && !(texts.at = malloc(texts.len)))
        return STATUS_NO_MEMORY;
    texts.len = 0;
    (void)v1_msgpack_texts(list, put_text, &texts);
    out->payload = texts.at;
    out->len = texts.len;
    return STATUS_OK;
}

/* A SUBSCRIBE or an UNSUBSCRIBE; what is wrong with its list has that code. */
static enum status read_list(struct v1_source *source, enum v1_request_type type,
                             const struct v1_value *list, const struct v1_mistake *wrong,
                             struct v1_request *out, struct v1_mistake *mistake)
{
    struct v1_request request = {.type = type, .id = mistake->id};
    if (!mistake->has_id)
        return mistaken(mistake, "invalid_id", "it has an id, an integer from 1 on");
    if (list->kind != V1_LIST || list->number > V1_TEXTS_MAX)
        return mistaken(mistake, wrong->code, wrong->why);
    enum status status = source->encoding == V1_JSON ? take(source, list->at, list->len, &request)
                                                     : copy_msgpack_texts(list, &request);
    if (status == STATUS_INVALID)
        return mistaken(mistake, wrong->code, wrong->why);
    if (status == STATUS_OK)
        *out = request;
    return status;
}

static enum status read_subscribe(struct v1_source *source,
                                  const struct v1_value fields[V1_REQUEST_FIELDS],
                                  struct v1_request *out, struct v1_mistake *mistake)
{
    static const struct v1_mistake wrong = {
        .code = "invalid_urls", .why = "a SUBSCRIBE has urls, a list of at most 10000 strings"};
    return read_list(source, V1_SUBSCRIBE, &fields[V1_FIELD_URLS], &wrong, out, mistake);
}

static enum status read_unsubscribe(struct v1_source *source,
                                    const struct v1_value fields[V1_REQUEST_FIELDS],
                                    struct v1_request *out, struct v1_mistake *mistake)
{
    static const struct v1_mistake wrong = {
        .code = "invalid_sessions",
        .why = "an UNSUBSCRIBE has sessions, a list of at most 10000 strings"};
    return read_list(source, V1_UNSUBSCRIBE, &fields[V1_FIELD_SESSIONS], &wrong, out, mistake);
}

void v1_request_fini(struct v1_request *request)
{
    if (request->type == V1_REFRESH && request->payload)
        explicit_bzero(request->payload, request->len);
    if (!request->borrowed)
        free(request->payload);
    free(request->session);
    request->payload = NULL;
    request->session = NULL;
}

/* ---- requests ---- */

static enum status read_ping(struct v1_source *source,
                             const struct v1_value fields[V1_REQUEST_FIELDS],
                             struct v1_request *out, struct v1_mistake *mistake)
{
    (void)source, (void)fields, (void)mistake;
    *out = (struct v1_request){.type = V1_PING};
    return STATUS_OK;
}

typedef enum status read_fn(struct v1_source *source,
                            const struct v1_value fields[V1_REQUEST_FIELDS], struct v1_request *out,
                            struct v1_mistake *mistake);

static const struct {
    const char *name;
    read_fn *read;
} request_types[] = {
    {"SEND", read_send},           {"REFRESH", read_refresh},
    {"SUBSCRIBE", read_subscribe}, {"UNSUBSCRIBE", read_unsubscribe},
    {"PING", read_ping},
};

static enum status read_request(struct v1_source *source,
                                const struct v1_value fields[V1_REQUEST_FIELDS],
                                struct v1_request *out, struct v1_mistake *mistake)
{
    const struct v1_value *id = &fields[V1_FIELD_ID];
    if (id->kind == V1_NUMBER && id->number > 0 &&
        (source->encoding == V1_MSGPACK || id->number <= JSON_ID_MAX)) {
        mistake->has_id = true;
        mistake->id = id->number;
    }
    for (size_t i = 0; i < sizeof(request_types) / sizeof(request_types[0]); i++)
        if (is_text(&fields[V1_FIELD_TYPE], request_types[i].name))
            return request_types[i].read(source, fields, out, mistake);
    return mistaken(mistake, "unknown_type",
                    "type is SEND, SUBSCRIBE, UNSUBSCRIBE, REFRESH or PING");
}

/* Reads the message as a whole. */
static enum status read_fields(struct v1_source *source, enum opcode opcode, const void *data,
                               size_t len, struct v1_value fields[V1_REQUEST_FIELDS],
                               const char **why)
{
    if (source->encoding == V1_JSON && opcode == OPCODE_TEXT)
        return v1_json_read(data, len, fields, &source->scratch, why);
    if (source->encoding == V1_JSON)
        *why = "messages of vinhub.v1 are text";
    else if (opcode != OPCODE_BINARY)
        *why = "messages of vinhub.v1.msgpack are binary";
    else
        *why = v1_msgpack_read(data, len, fields);
    return *why ? STATUS_INVALID : STATUS_OK;
}

enum status v1_decode(enum v1_encoding encoding, enum opcode opcode, const void *data, size_t len,
                      struct v1_request *out, struct v1_mistake *mistake)
{
    struct v1_source source = {.encoding = encoding, .data = data, .len = len};
    struct v1_mistake found = {0};
    struct v1_value fields[V1_REQUEST_FIELDS] = {0};
    const char *why = NULL;
    enum status status = read_fields(&source, opcode, data, len, fields, &why);
    if (status == STATUS_INVALID)
        (void)mistaken(&found, "malformed", why);
    else if (status == STATUS_OK)
        status = read_request(&source, fields, out, &found);
    free(source.scratch);
    if (status != STATUS_OK && status != STATUS_INVALID)
        (void)mistaken(&found, "no_memory", "the hub is out of memory: send it again later");
    if (status != STATUS_OK)
        *mistake = found;
    return status;
}
