/*
 * The fields of a JSON object that is too large for a tree: in one pass, in time and memory that
 * follow its size alone. The reader is that of vinhub.v1, v1_json_reader.c, with its bounds: 256
 * values, nested 16 deep.
 */
#ifndef VINHUB_COMMON_JSON_FIELDS_H
#define VINHUB_COMMON_JSON_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/* A field of the object itself. Both texts are valid UTF-8, not terminated, and only there until
 * the call that brings them returns. */
struct json_field {
    const char *name;
    size_t name_len;
    const char *text; /* NULL: its value is no string */
    size_t len;
};

/* False: the field is there twice. */
typedef bool json_take_field(void *ctx, const struct json_field *field);

/* Gives each field in turn. data is valid UTF-8. STATUS_INVALID: this is no JSON object, it is over
 * a bound, or a field was not taken. */
MUST_USE enum status json_fields(const void *data, size_t len, json_take_field *take, void *ctx);

#endif
