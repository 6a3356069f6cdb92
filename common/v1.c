/*
 * The messages of the server, each as a list of values in the order of the wire, and the resume
 * token.
 */
#include "common/v1.h"

#include <assert.h>
#include <stdlib.h>

#include "common/text.h"
#include "common/v1_form.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct v1_value number(const char *name, uint64_t value)
{
    return (struct v1_value){.name = name, .kind = V1_NUMBER, .number = value};
}

static struct v1_value flag(const char *name, bool value)
{
    return (struct v1_value){.name = name, .kind = V1_FLAG, .number = value};
}

static struct v1_value text_of(const char *name, struct v1_text value)
{
    return (struct v1_value){
        .name = name, .kind = value.at ? V1_TEXT : V1_ABSENT, .at = value.at, .len = value.len};
}

/* NULL: left out. */
static struct v1_value id_of(const uint64_t *id)
{
    return id ? number("id", *id) : (struct v1_value){.name = "id", .kind = V1_ABSENT};
}

static struct v1_value text(const char *name, const char *value)
{
    if (!value)
        return (struct v1_value){.name = name, .kind = V1_ABSENT};
    return (struct v1_value){.name = name, .kind = V1_TEXT, .at = value, .len = strlen(value)};
}

static struct wire *encode(enum v1_encoding encoding, const struct v1_value *values, size_t len)
{
    void (*write)(struct v1_out *, const struct v1_value *,
                  size_t) = encoding == V1_JSON ? v1_json_write : v1_msgpack_write;

    struct v1_out measured = {NULL, 0};
    write(&measured, values, len);
    struct wire *wire = wire_new(measured.len);
    if (!wire)
        return NULL;
    struct v1_out out = {wire->bytes, 0};
    write(&out, values, len);
    assert(out.len == measured.len);
    return wire;
}

/* A message whose payload is a map. */
static struct wire *encode_fields(enum v1_encoding encoding, const struct v1_head *head,
                                  const char *type, const struct v1_value *fields, size_t len)
{
    const struct v1_value values[] = {
        number("timestamp", head->unix_ms),
        text("version", "1.0"),
        text("type", type),
        text("session", head->session),
        {.name = "payload", .kind = V1_MAP, .fields = fields, .len = len},
    };
    return encode(encoding, values, LENGTH(values));
}

struct wire *v1_welcome(enum v1_encoding encoding, const struct v1_head *head,
                        const struct v1_welcome *welcome)
{
    const struct v1_value fields[] = {
        text("node", welcome->node),          text("session", welcome->session),
        text("client", welcome->client),      number("epoch", welcome->at.epoch),
        number("offset", welcome->at.offset), flag("resumed", welcome->resumed),
        text("upstream", welcome->upstream),
    };
    const struct v1_value values[] = {
        number("timestamp", head->unix_ms),
        text("version", "1.0"),
        text("type", "WELCOME"),
        id_of(welcome->url.at ? &welcome->id : NULL),
        text_of("url", welcome->url),
        {.name = "payload", .kind = V1_MAP, .fields = fields, .len = LENGTH(fields)},
    };
    return encode(encoding, values, LENGTH(values));
}

struct wire *v1_message(enum v1_encoding encoding, const struct publication *publication,
                        const char *session)
{
    if (publication->len > UINT32_MAX)
        return NULL; /* more than a msgpack string can hold */

    bool binary = publication->opcode == OPCODE_BINARY;
    const struct v1_value values[] = {
        number("timestamp", publication->time_ms),
        text("version", "1.0"),
        text("type", "MESSAGE"),
        text("session", session),
        number("epoch", publication->at.epoch),
        number("offset", publication->at.offset),
        text("encoding", binary ? "base64" : "text"),
        {.name = "payload",
         .kind = binary ? V1_BYTES : V1_TEXT,
         .at = publication->payload,
         .len = publication->len},
    };
    return encode(encoding, values, LENGTH(values));
}

struct wire *v1_status(enum v1_encoding encoding, const struct v1_head *head, const char *upstream,
                       const char *reason)
{
    const struct v1_value fields[] = {text("upstream", upstream), text("reason", reason)};
    return encode_fields(encoding, head, "STATUS", fields, LENGTH(fields));
}

struct wire *v1_gap(enum v1_encoding encoding, const struct v1_head *head, uint64_t epoch,
                    uint64_t from, uint64_t to)
{
    const struct v1_value fields[] = {number("epoch", epoch), number("from", from),
                                      number("to", to)};
    return encode_fields(encoding, head, "GAP", fields, LENGTH(fields));
}

struct wire *v1_ack(enum v1_encoding encoding, const struct v1_head *head, uint64_t id)
{
    const struct v1_value fields[] = {number("id", id)};
    return encode_fields(encoding, head, "ACK", fields, LENGTH(fields));
}

struct wire *v1_error(enum v1_encoding encoding, const struct v1_head *head,
                      const struct v1_error *error)
{
    const struct v1_value fields[] = {
        id_of(error->id),
        text_of("url", error->url),
        text("code", error->code),
        text("message", error->message),
    };
    return encode_fields(encoding, head, "ERROR", fields, LENGTH(fields));
}

struct wire *v1_closed(enum v1_encoding encoding, const struct v1_head *head,
                       const struct v1_closed *closed)
{
    const struct v1_value fields[] = {
        id_of(closed->id),
        text("session", closed->session),
        number("code", closed->code),
        text("reason", closed->reason),
    };
    return encode_fields(encoding, head, "CLOSED", fields, LENGTH(fields));
}

struct wire *v1_presence(enum v1_encoding encoding, const struct v1_head *head,
                         const struct v1_watcher *users, size_t len, uint64_t more)
{
    struct v1_value(*fields)[2] = calloc(len + 1, sizeof(*fields));
    struct v1_value *rows = calloc(len + 1, sizeof(*rows));
    struct wire *wire = NULL;
    for (size_t i = 0; fields && rows && i < len; i++) {
        fields[i][0] = text("user", users[i].user);
        fields[i][1] = number("clients", users[i].clients);
        rows[i] = (struct v1_value){.kind = V1_MAP, .fields = fields[i], .len = 2};
    }
    if (fields && rows) {
        const struct v1_value payload[] = {
            {.name = "users", .kind = V1_ARRAY, .fields = rows, .len = len},
            number("more", more),
        };
        wire = encode_fields(encoding, head, "PRESENCE", payload, LENGTH(payload));
    }
    free(rows);
    free(fields);
    return wire;
}

struct wire *v1_pong(enum v1_encoding encoding, const struct v1_head *head)
{
    return encode_fields(encoding, head, "PONG", NULL, 0);
}

/* Digits up to the end or a dot, within 64 bits; NULL where there is no such number. */
static const char *take_number(const char *at, uint64_t *out)
{
    uint64_t value = 0;
    if (*at < '0' || *at > '9')
        return NULL;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return NULL;
    }
    *out = value;
    return at;
}

enum status v1_resume(const char *token, struct position *at, char client[V1_CLIENT_MAX + 1])
{
    struct position found = {0, 0};
    const char *rest = take_number(token, &found.epoch);
    if (!rest || *rest != '.')
        return STATUS_INVALID;
    rest = take_number(rest + 1, &found.offset);
    /* The last number there is has no next one: it was never given out. */
    if (!rest || found.offset == UINT64_MAX || (*rest != '\0' && *rest != '.'))
        return STATUS_INVALID;
    if (*rest == '.') {
        rest++;
        size_t len = strlen(rest);
        if (len > V1_CLIENT_MAX || !text_is_name(rest, len))
            return STATUS_INVALID;
    }
    *at = found;
    memcpy(client, rest, strlen(rest) + 1);
    return STATUS_OK;
}
