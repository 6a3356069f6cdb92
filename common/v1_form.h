/*
 * What the parts of v1 share: a message as a list of named values, and the two forms it is written
 * in and read from. For v1*.c, and event_stream.c, whose JSON is the same.
 *
 * Each writer runs twice over the same values: first to measure, then into an allocation of exactly
 * that size.
 */
#ifndef VINHUB_COMMON_V1_FORM_H
#define VINHUB_COMMON_V1_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/v1.h"

enum v1_kind {
    V1_ABSENT,
    V1_NUMBER,
    V1_FLAG,  /* number is 0 or 1 */
    V1_TEXT,  /* at, len: valid UTF-8, not terminated */
    V1_BYTES, /* at, len: a base64 string in JSON, bin in msgpack */
    V1_MAP,   /* fields, len */
    V1_LIST,  /* read only: number of items; at and len are the reader's */
    V1_ARRAY, /* written only; fields, len: their names do not count */
    V1_OTHER, /* read only: of a type that no field has */
};

struct v1_value {
    const char *name;
    enum v1_kind kind;
    uint64_t number;
    size_t len;
    union {
        const void *at;
        const struct v1_value *fields;
    };
};

/* Where a writer writes; measures only while at is NULL. */
struct v1_out {
    uint8_t *at;
    size_t len;
};

static inline void v1_put(struct v1_out *out, const void *bytes, size_t len)
{
    if (out->at && len > 0)
        memcpy(out->at + out->len, bytes, len);
    out->len += len;
}

#define V1_EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* True where none of eight bytes is below 0x20, a quote or a backslash: what a JSON string holds
 * without an escape. */
static inline bool v1_json_is_plain(uint64_t word)
{
    uint64_t quote = word ^ V1_EACH_BYTE('"');
    uint64_t backslash = word ^ V1_EACH_BYTE('\\');
    uint64_t control = (word - V1_EACH_BYTE(0x20)) & ~word;
    quote = (quote - V1_EACH_BYTE(1)) & ~quote;
    backslash = (backslash - V1_EACH_BYTE(1)) & ~backslash;
    return ((control | quote | backslash) & V1_EACH_BYTE(0x80)) == 0;
}

/* Each writes one map of the values that are not V1_ABSENT. */
void v1_json_write(struct v1_out *out, const struct v1_value *values, size_t len);
void v1_msgpack_write(struct v1_out *out, const struct v1_value *values, size_t len);

/* The fields of a request that have a meaning. A missing one is V1_ABSENT. */
enum v1_request_field {
    V1_FIELD_TYPE,
    V1_FIELD_ID,
    V1_FIELD_PAYLOAD,
    V1_FIELD_ENCODING,
    V1_FIELD_TOKEN,
    V1_FIELD_SESSION,
    V1_FIELD_TTL,
    V1_FIELD_URLS,
    V1_FIELD_SESSIONS,
    V1_REQUEST_FIELDS
};

/* The field of that name, V1_REQUEST_FIELDS for any other. */
enum v1_request_field v1_request_field(const char *name, size_t len);

/* Beside the texts of urls and sessions. A SEND has 6; a value costs the reader time. */
#define V1_VALUES_MAX 256
#define V1_TWICE      "a message has each field once"
#define V1_TOO_MUCH \
    "a message has at most 256 values, nested 16 deep at most, and 10000 urls or sessions"

/* The JSON reader: values point into data, which is valid UTF-8, or into *scratch, which the caller
 * frees (it may be NULL). A list is of texts, as v1_texts_next reads them, any other is
 * V1_OTHER. STATUS_INVALID: *why is a static text that says what is wrong with the message as a
 * whole. */
MUST_USE enum status v1_json_read(const void *data, size_t len,
                                  struct v1_value fields[V1_REQUEST_FIELDS], uint8_t **scratch,
                                  const char **why);
/* The msgpack reader: values point into data. NULL, or a static text that says what is wrong with
 * the message as a whole. */
const char *v1_msgpack_read(const void *data, size_t len,
                            struct v1_value fields[V1_REQUEST_FIELDS]);

/* Gives each text of a list that it read; false at the first item that is none. */
typedef void v1_take_text(void *ctx, const void *text, size_t len);
bool v1_msgpack_texts(const struct v1_value *list, v1_take_text *take, void *ctx);

#endif
