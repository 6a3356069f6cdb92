/*
 * Each writer runs twice: first to measure, then into an allocation of exactly that size.
 */
#include "common/event_stream.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base64.h"
#include "common/v1_form.h"

static void put_literal(struct v1_out *out, const char *text)
{
    v1_put(out, text, strlen(text));
}

static void put_id(struct v1_out *out, struct position at)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "id: %" PRIu64 ".%" PRIu64 "\n", at.epoch, at.offset);
    v1_put(out, text, (size_t)len);
}

/* The bytes of a line up to its end: CRLF, CR or LF. */
static size_t line_len(const uint8_t *text, size_t len)
{
    size_t line = 0;
    while (line < len && text[line] != '\n' && text[line] != '\r')
        line++;
    return line;
}

static size_t end_len(const uint8_t *text, size_t len)
{
    if (len == 0)
        return 0;
    return len > 1 && text[0] == '\r' && text[1] == '\n' ? 2 : 1;
}

/* A text that ends in a line's end has an empty line after it, as split() has it. */
static void put_lines(struct v1_out *out, const uint8_t *text, size_t len)
{
    size_t end;
    do {
        size_t line = line_len(text, len);
        put_literal(out, "data: ");
        v1_put(out, text, line);
        put_literal(out, "\n");
        end = end_len(text + line, len - line);
        text += line + end;
        len -= line + end;
    } while (end > 0);
}

static void put_base64(struct v1_out *out, const uint8_t *bytes, size_t len)
{
    put_literal(out, "data: ");
    if (out->at)
        base64_encode(bytes, len, out->at + out->len);
    out->len += base64_size(len);
    put_literal(out, "\n");
}

/* --- the events --- */

static void write_position(struct v1_out *out, const void *at)
{
    put_id(out, *(const struct position *)at);
    put_literal(out, "\n");
}

static void write_publication(struct v1_out *out, const void *what)
{
    const struct publication *publication = what;
    bool binary = publication->opcode == OPCODE_BINARY;
    put_literal(out, binary ? "event: binary\n" : "event: message\n");
    put_id(out, publication->at);
    if (binary)
        put_base64(out, publication->payload, publication->len);
    else
        put_lines(out, publication->payload, publication->len);
    put_literal(out, "\n");
}

/* An event whose data is one JSON object. */
struct json_event {
    const char *name;
    const struct v1_value *fields;
    size_t len;
};

static void write_json(struct v1_out *out, const void *what)
{
    const struct json_event *event = what;
    put_literal(out, "event: ");
    put_literal(out, event->name);
    put_literal(out, "\ndata: ");
    v1_json_write(out, event->fields, event->len); /* escapes line ends */
    put_literal(out, "\n\n");
}

static struct wire *encode(void (*write)(struct v1_out *, const void *), const void *what)
{
    struct v1_out measured = {NULL, 0};
    write(&measured, what);
    struct wire *wire = wire_new(measured.len);
    if (!wire)
        return NULL;
    struct v1_out out = {wire->bytes, 0};
    write(&out, what);
    assert(out.len == measured.len);
    return wire;
}

struct wire *event_position(struct position at)
{
    return encode(write_position, &at);
}

struct wire *event_publication(const struct publication *publication)
{
    return encode(write_publication, publication);
}

static struct v1_value text_value(const char *name, const char *text)
{
    if (!text)
        return (struct v1_value){.name = name, .kind = V1_ABSENT};
    return (struct v1_value){.name = name, .kind = V1_TEXT, .at = text, .len = strlen(text)};
}

struct wire *event_status(const char *upstream, const char *reason)
{
    const struct v1_value fields[] = {text_value("upstream", upstream),
                                      text_value("reason", reason)};
    const struct json_event event = {"status", fields, sizeof(fields) / sizeof(*fields)};
    return encode(write_json, &event);
}

struct wire *event_gap(uint64_t epoch, uint64_t from, uint64_t to)
{
    const struct v1_value fields[] = {{.name = "epoch", .kind = V1_NUMBER, .number = epoch},
                                      {.name = "from", .kind = V1_NUMBER, .number = from},
                                      {.name = "to", .kind = V1_NUMBER, .number = to}};
    const struct json_event event = {"gap", fields, sizeof(fields) / sizeof(*fields)};
    return encode(write_json, &event);
}
