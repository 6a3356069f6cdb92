/*
 * What a protocol client may say: the JSON reader, and the checks that are the same for both forms.
 */
#include <stdlib.h>

#include <jansson.h>

#include "common/base64.h"
#include "common/text.h"
#include "common/v1_form.h"

#define JSON_ID_MAX      (UINT64_C(1) << 53) /* where a browser's numbers stop being exact */
#define JSON_NESTING_MAX 16
#define JSON_VALUES_MAX  256 /* a SEND has 6; jansson spends over 100 bytes on each */

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

/* The byte after the string that starts at text[i]. */
static size_t skip_string(const char *text, size_t len, size_t i)
{
    for (i++; i < len && text[i] != '"'; i++) {
        if (text[i] == '\\')
            i++;
    }
    return i + 1;
}

/* Bounds what jansson allocates and how deep it recurses before it sees the text. Looks at
 * structure alone; the grammar is jansson's. */
static bool is_modest(const char *text, size_t len)
{
    size_t depth = 0, values = 0, texts = 0;
    bool in_list = false; /* of the message itself: the texts of a SUBSCRIBE */
    bool after_text = false;
    for (size_t i = 0; i < len;) {
        char c = text[i];
        if (c == '"') {
            i = skip_string(text, len, i);
            after_text = true;
            continue;
        }
        if (c == '[' || c == '{') {
            depth++;
            in_list = c == '[' && depth == 2;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
            in_list = false;
        }
        bool of_list = in_list && after_text && c == ',';
        after_text = after_text && (c == ' ' || c == '\n' || c == '\r' || c == '\t');
        texts += of_list;
        values += c == '[' || c == '{' || (c == ',' && !of_list);
        if (depth > JSON_NESTING_MAX || values > JSON_VALUES_MAX || texts > V1_TEXTS_MAX)
            return false;
        i++;
    }
    return true;
}

static struct v1_value json_value(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_STRING:
        return (struct v1_value){
            .kind = V1_TEXT, .at = json_string_value(json), .len = json_string_length(json)};
    case JSON_INTEGER:
        if (json_integer_value(json) >= 0)
            return (struct v1_value){.kind = V1_NUMBER,
                                     .number = (uint64_t)json_integer_value(json)};
        break;
    case JSON_ARRAY:
        return (struct v1_value){.kind = V1_LIST, .at = json, .number = json_array_size(json)};
    case JSON_OBJECT:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL: break;
    }
    return (struct v1_value){.kind = V1_OTHER};
}

static const char *json_mistake(const json_error_t *error)
{
    enum json_error_code code = json_error_code(error);
    if (code == json_error_invalid_utf8)
        return "a message is UTF-8, also where it is escaped";
    if (code == json_error_duplicate_key)
        return "a message has each field once";
    if (code == json_error_numeric_overflow)
        return "a number is out of range";
    if (code == json_error_end_of_input_expected)
        return "a message is one JSON object and nothing after it";
    return "a message is a JSON object";
}

/* As v1_msgpack_read, but values point into *root, which the caller releases. */
static const char *json_read(const void *data, size_t len,
                             struct v1_value fields[V1_REQUEST_FIELDS], json_t **root)
{
    if (!is_modest(data, len))
        return "a message has at most 256 values, nested 16 deep at most, and 10000 urls";
    json_error_t error = {0};
    *root = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!json_is_object(*root))
        return json_mistake(&error);

    const char *name;
    json_t *json;
    json_object_foreach(*root, name, json)
    {
        enum v1_request_field field = v1_request_field(name, strlen(name));
        if (field != V1_REQUEST_FIELDS)
            fields[field] = json_value(json);
    }
    return NULL;
}

static enum status mistaken(struct v1_mistake *mistake, const char *code, const char *why)
{
    mistake->code = code;
    mistake->why = why;
    return STATUS_INVALID;
}

static enum status copy(const void *bytes, size_t len, struct v1_request *out)
{
    uint8_t *payload = NULL;
    if (len > 0) {
        payload = malloc(len);
        if (!payload)
            return STATUS_NO_MEMORY;
        memcpy(payload, bytes, len);
    }
    out->payload = payload;
    out->len = len;
    return STATUS_OK;
}

/* The bytes of a payload that is a string or, in msgpack, a bin. */
static enum status read_payload(const struct v1_value *payload, bool base64, struct v1_request *out,
                                struct v1_mistake *mistake)
{
    out->opcode = payload->kind == V1_BYTES || base64 ? OPCODE_BINARY : OPCODE_TEXT;
    if (payload->kind == V1_TEXT && base64) {
        enum status status = base64_decode(payload->at, payload->len, &out->payload, &out->len);
        if (status == STATUS_INVALID)
            mistaken(mistake, "invalid_payload",
                     "base64 is of A-Z a-z 0-9 + / with padding and without line breaks");
        return status;
    }
    if (payload->kind == V1_TEXT && !text_is_utf8(payload->at, payload->len))
        return mistaken(mistake, "invalid_payload", "a payload of type str is UTF-8");
    return copy(payload->at, payload->len, out);
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

static enum status read_send(enum v1_encoding encoding,
                             const struct v1_value fields[V1_REQUEST_FIELDS],
                             struct v1_request *out, struct v1_mistake *mistake)
{
    if (!mistake->has_id)
        return mistaken(mistake, "invalid_id",
                        encoding == V1_JSON
                            ? "a SEND has an id, an integer from 1 to 9007199254740992"
                            : "a SEND has an id, an integer from 1 to 18446744073709551615");

    const struct v1_value *payload = &fields[V1_FIELD_PAYLOAD];
    if (payload->kind != V1_TEXT && payload->kind != V1_BYTES)
        return mistaken(mistake, "invalid_payload",
                        encoding == V1_JSON ? "a SEND has a payload, a string"
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
        status = read_payload(payload, base64, &request, mistake);
    if (status == STATUS_OK)
        *out = request;
    else
        v1_request_fini(&request);
    return status;
}

/* A missing token gets the same code as a refused one: unauthorized. */
static enum status read_refresh(enum v1_encoding encoding,
                                const struct v1_value fields[V1_REQUEST_FIELDS],
                                struct v1_request *out, struct v1_mistake *mistake)
{
    if (!mistake->has_id)
        return mistaken(mistake, "invalid_id",
                        encoding == V1_JSON
                            ? "a REFRESH has an id, an integer from 1 to 9007199254740992"
                            : "a REFRESH has an id, an integer from 1 to 18446744073709551615");
    const struct v1_value *token = &fields[V1_FIELD_TOKEN];
    if (token->kind != V1_TEXT || token->len == 0 || memchr(token->at, '\0', token->len))
        return mistaken(mistake, "unauthorized", "a REFRESH has a token, a string");
    uint8_t *copy = malloc(token->len + 1);
    if (!copy)
        return STATUS_NO_MEMORY;
    memcpy(copy, token->at, token->len);
    copy[token->len] = '\0';
    *out = (struct v1_request){
        .type = V1_REFRESH, .id = mistake->id, .payload = copy, .len = token->len};
    return STATUS_OK;
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

static bool json_texts(const struct v1_value *list, v1_take_text *take, void *ctx)
{
    size_t index;
    const json_t *item;
    json_array_foreach((const json_t *)list->at, index, item)
    {
        if (!json_is_string(item))
            return false;
        take(ctx, json_string_value(item), json_string_length(item));
    }
    return true;
}

/* A SUBSCRIBE or an UNSUBSCRIBE; wrong is the mistake of a bad list. */
static enum status read_list(enum v1_encoding encoding, enum v1_request_type type,
                             const struct v1_value *list, const struct v1_mistake *wrong,
                             struct v1_request *out, struct v1_mistake *mistake)
{
    bool (*read)(const struct v1_value *, v1_take_text *,
                 void *) = encoding == V1_JSON ? json_texts : v1_msgpack_texts;
    struct texts texts = {.utf8 = true};
    if (!mistake->has_id)
        return mistaken(mistake, "invalid_id", "it has an id, an integer from 1 on");
    if (list->kind != V1_LIST || list->number > V1_TEXTS_MAX || !read(list, put_text, &texts) ||
        !texts.utf8)
        return mistaken(mistake, wrong->code, wrong->why);
    if (texts.len > 0) {
        texts.at = malloc(texts.len);
        if (!texts.at)
            return STATUS_NO_MEMORY;
        texts.len = 0;
        read(list, put_text, &texts);
    }
    *out = (struct v1_request){
        .type = type, .id = mistake->id, .payload = texts.at, .len = texts.len};
    return STATUS_OK;
}

static enum status read_subscribe(enum v1_encoding encoding,
                                  const struct v1_value fields[V1_REQUEST_FIELDS],
                                  struct v1_request *out, struct v1_mistake *mistake)
{
    static const struct v1_mistake wrong = {
        .code = "invalid_urls", .why = "a SUBSCRIBE has urls, a list of at most 10000 strings"};
    return read_list(encoding, V1_SUBSCRIBE, &fields[V1_FIELD_URLS], &wrong, out, mistake);
}

static enum status read_unsubscribe(enum v1_encoding encoding,
                                    const struct v1_value fields[V1_REQUEST_FIELDS],
                                    struct v1_request *out, struct v1_mistake *mistake)
{
    static const struct v1_mistake wrong = {
        .code = "invalid_sessions",
        .why = "an UNSUBSCRIBE has sessions, a list of at most 10000 strings"};
    return read_list(encoding, V1_UNSUBSCRIBE, &fields[V1_FIELD_SESSIONS], &wrong, out, mistake);
}

void v1_request_fini(struct v1_request *request)
{
    if (request->type == V1_REFRESH && request->payload)
        explicit_bzero(request->payload, request->len);
    free(request->payload);
    free(request->session);
    request->payload = NULL;
    request->session = NULL;
}

/* ---- requests ---- */

static enum status read_ping(enum v1_encoding encoding,
                             const struct v1_value fields[V1_REQUEST_FIELDS],
                             struct v1_request *out, struct v1_mistake *mistake)
{
    (void)encoding, (void)fields, (void)mistake;
    *out = (struct v1_request){.type = V1_PING};
    return STATUS_OK;
}

typedef enum status read_fn(enum v1_encoding encoding,
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

static enum status read_request(enum v1_encoding encoding,
                                const struct v1_value fields[V1_REQUEST_FIELDS],
                                struct v1_request *out, struct v1_mistake *mistake)
{
    const struct v1_value *id = &fields[V1_FIELD_ID];
    if (id->kind == V1_NUMBER && id->number > 0 &&
        (encoding == V1_MSGPACK || id->number <= JSON_ID_MAX)) {
        mistake->has_id = true;
        mistake->id = id->number;
    }
    for (size_t i = 0; i < sizeof(request_types) / sizeof(request_types[0]); i++)
        if (is_text(&fields[V1_FIELD_TYPE], request_types[i].name))
            return request_types[i].read(encoding, fields, out, mistake);
    return mistaken(mistake, "unknown_type",
                    "type is SEND, SUBSCRIBE, UNSUBSCRIBE, REFRESH or PING");
}

enum status v1_decode(enum v1_encoding encoding, enum opcode opcode, const void *data, size_t len,
                      struct v1_request *out, struct v1_mistake *mistake)
{
    struct v1_mistake found = {0};
    struct v1_value fields[V1_REQUEST_FIELDS] = {0};
    json_t *root = NULL;
    const char *why;
    if (encoding == V1_JSON)
        why = opcode != OPCODE_TEXT ? "messages of vinhub.v1 are text"
                                    : json_read(data, len, fields, &root);
    else
        why = opcode != OPCODE_BINARY ? "messages of vinhub.v1.msgpack are binary"
                                      : v1_msgpack_read(data, len, fields);

    enum status status = why ? mistaken(&found, "malformed", why)
                             : read_request(encoding, fields, out, &found);
    json_decref(root);
    if (status != STATUS_OK && status != STATUS_INVALID)
        (void)mistaken(&found, "no_memory", "the hub is out of memory: send it again later");
    if (status != STATUS_OK)
        *mistake = found;
    return status;
}
