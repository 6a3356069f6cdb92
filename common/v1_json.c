/*
 * The JSON writer. Publications pass through it once each, so strings are escaped by words: eight
 * bytes that need no escape are copied at once, others go through a table without a branch each,
 * since JSON within JSON has a quote every few bytes.
 */
#include "common/base64.h"
#include "common/v1_form.h"

/* The byte behind the backslash, 0 where none is needed, 'u' for \u00XX (RFC 8259 section 7). */
static const uint8_t escapes[256] = {
    [0x00] = 'u', [0x01] = 'u', [0x02] = 'u', [0x03] = 'u',  [0x04] = 'u', [0x05] = 'u',
    [0x06] = 'u', [0x07] = 'u', [0x08] = 'b', [0x09] = 't',  [0x0a] = 'n', [0x0b] = 'u',
    [0x0c] = 'f', [0x0d] = 'r', [0x0e] = 'u', [0x0f] = 'u',  [0x10] = 'u', [0x11] = 'u',
    [0x12] = 'u', [0x13] = 'u', [0x14] = 'u', [0x15] = 'u',  [0x16] = 'u', [0x17] = 'u',
    [0x18] = 'u', [0x19] = 'u', [0x1a] = 'u', [0x1b] = 'u',  [0x1c] = 'u', [0x1d] = 'u',
    [0x1e] = 'u', [0x1f] = 'u', ['"'] = '"',  ['\\'] = '\\',
};

static size_t escaped_size(const uint8_t *text, size_t len)
{
    size_t size = len;
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        if (len - i >= sizeof(word)) {
            memcpy(&word, text + i, sizeof(word));
            if (v1_json_is_plain(word)) {
                i += sizeof(word);
                continue;
            }
        }
        size_t end = len - i < sizeof(word) ? len : i + sizeof(word);
        for (; i < end; i++)
            size += (size_t)(escapes[text[i]] != 0) + (escapes[text[i]] == 'u' ? 4U : 0U);
    }
    return size;
}

static uint8_t *escape_byte(uint8_t byte, uint8_t *out)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t escape = escapes[byte];
    /* Without an escape the byte overwrites the backslash: no byte is written beyond its own. */
    *out = '\\';
    out += escape != 0;
    *out++ = escape != 0 ? escape : byte;
    if (escape == 'u') {
        out[0] = '0';
        out[1] = '0';
        out[2] = (uint8_t)hex[byte >> 4];
        out[3] = (uint8_t)hex[byte & 15];
        out += 4;
    }
    return out;
}

/* Returns the end of what it wrote: escaped_size bytes. */
static uint8_t *escape(const uint8_t *text, size_t len, uint8_t *out)
{
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        if (len - i >= sizeof(word)) {
            memcpy(&word, text + i, sizeof(word));
            if (v1_json_is_plain(word)) {
                memcpy(out, &word, sizeof(word));
                out += sizeof(word);
                i += sizeof(word);
                continue;
            }
        }
        size_t end = len - i < sizeof(word) ? len : i + sizeof(word);
        for (; i < end; i++)
            out = escape_byte(text[i], out);
    }
    return out;
}

static void put_literal(struct v1_out *out, const char *text)
{
    v1_put(out, text, strlen(text));
}

static void put_text(struct v1_out *out, const uint8_t *text, size_t len)
{
    put_literal(out, "\"");
    if (!out->at)
        out->len += escaped_size(text, len);
    else
        out->len = (size_t)(escape(text, len, out->at + out->len) - out->at);
    put_literal(out, "\"");
}

static void put_base64(struct v1_out *out, const uint8_t *bytes, size_t len)
{
    put_literal(out, "\"");
    if (out->at)
        base64_encode(bytes, len, out->at + out->len);
    out->len += base64_size(len);
    put_literal(out, "\"");
}

static void put_number(struct v1_out *out, uint64_t number)
{
    char digits[20]; /* of UINT64_MAX */
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    v1_put(out, digits + at, sizeof(digits) - at);
}

static void put_value(struct v1_out *out, const struct v1_value *value);

static void put_list(struct v1_out *out, const struct v1_value *values, size_t len)
{
    put_literal(out, "[");
    for (size_t i = 0; i < len; i++) {
        if (i > 0)
            put_literal(out, ",");
        put_value(out, &values[i]);
    }
    put_literal(out, "]");
}

static void put_value(struct v1_out *out, const struct v1_value *value)
{
    switch (value->kind) {
    case V1_NUMBER: put_number(out, value->number); break;
    case V1_FLAG: put_literal(out, value->number ? "true" : "false"); break;
    case V1_TEXT: put_text(out, value->at, value->len); break;
    case V1_BYTES: put_base64(out, value->at, value->len); break;
    case V1_MAP: v1_json_write(out, value->fields, value->len); break;
    case V1_ARRAY: put_list(out, value->fields, value->len); break;
    case V1_ABSENT:
    case V1_LIST:
    case V1_OTHER: break;
    }
}

void v1_json_write(struct v1_out *out, const struct v1_value *values, size_t len)
{
    const char *before = "{\"";
    for (size_t i = 0; i < len; i++) {
        if (values[i].kind == V1_ABSENT)
            continue;
        put_literal(out, before);
        put_literal(out, values[i].name);
        put_literal(out, "\":");
        put_value(out, &values[i]);
        before = ",\"";
    }
    put_literal(out, before[0] == '{' ? "{}" : "}");
}
