/*
 * The JSON reader (RFC 8259), for what clients send.
 *
 * It goes over the message once and builds no tree: a message may be as large as
 * clients.max_message, and one turn of the node has to do with it. A text without an escape is
 * given where it stands; others are decoded into one scratch, which is allocated at the first of
 * them. The texts of a SUBSCRIBE go there at once as a list, as v1_texts_next reads them.
 */
#include <stdlib.h>

#include "common/json_fields.h"
#include "common/v1_form.h"

#define NESTING_MAX 16
#define TEXT_MORE   (sizeof(uint32_t) + 1) /* of a text in a list: its length before, a 0 behind */

struct reader {
    const uint8_t *at, *end;
    size_t values, texts; /* how many may still come */
    unsigned depth;
    uint8_t *scratch;
    size_t used, size; /* of scratch */
    enum status status;
    const char *why;       /* of STATUS_INVALID */
    json_take_field *take; /* NULL: only the fields of a request are looked for */
    void *ctx;
};

static const char no_object[] = "a message is a JSON object";

static bool fail(struct reader *r, const char *why)
{
    r->status = STATUS_INVALID;
    r->why = why;
    return false;
}

static void skip_space(struct reader *r)
{
    static const bool is_space[256] = {[' '] = true, ['\n'] = true, ['\r'] = true, ['\t'] = true};
    const uint8_t *at = r->at;
    while (at < r->end && is_space[*at])
        at++;
    r->at = at;
}

/* Takes that byte where it stands next, after white space. */
static bool take_byte(struct reader *r, uint8_t byte)
{
    skip_space(r);
    if (r->at == r->end || *r->at != byte)
        return false;
    r->at++;
    return true;
}

/* ---- strings ---- */

static bool need_scratch(struct reader *r)
{
    if (r->scratch)
        return true;
    r->scratch = malloc(r->size);
    if (!r->scratch)
        r->status = STATUS_NO_MEMORY;
    return r->scratch != NULL;
}

/* Reads four hexadecimal digits. False: one of them is not a digit, or the text ends. */
static bool take_unit(struct reader *r, uint32_t *out)
{
    uint32_t unit = 0;
    if (r->end - r->at < 4)
        return false;
    for (size_t i = 0; i < 4; i++) {
        uint8_t c = *r->at++;
        uint8_t letter = (uint8_t)((c | 0x20) - 'a');
        if (c >= '0' && c <= '9')
            unit = unit << 4 | (uint32_t)(c - '0');
        else if (letter < 6)
            unit = unit << 4 | (uint32_t)(letter + 10);
        else
            return false;
    }
    *out = unit;
    return true;
}

static uint8_t *put_utf8(uint8_t *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (uint8_t)code;
        return to;
    }
    unsigned more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t first[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (uint8_t)(first[more] | code >> 6 * more);
    while (more-- > 0)
        *to++ = (uint8_t)(0x80 | (code >> 6 * more & 0x3f));
    return to;
}

/* Reads the digits of \uXXXX, and the second half of a surrogate pair after the first. Returns the
 * end of what it wrote, or NULL if the escape is invalid. */
static uint8_t *take_code(struct reader *r, uint8_t *to)
{
    uint32_t code, low;
    if (!take_unit(r, &code)) {
        fail(r, no_object);
        return NULL;
    }
    if (code >= 0xd800 && code < 0xe000) {
        bool pair = code < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u';
        r->at += pair ? 2 : 0;
        if (!pair || !take_unit(r, &low) || low < 0xdc00 || low >= 0xe000) {
            fail(r, "a message is UTF-8, also where it is escaped");
            return NULL;
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return put_utf8(to, code);
}

/* The byte that a short escape stands for, by the byte after the backslash. 0: not a short escape.
 */
static const uint8_t escaped[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

/* Reads the next escape. Returns the end of what it wrote, or NULL if the escape is invalid. */
static uint8_t *take_escape(struct reader *r, uint8_t *to)
{
    if (r->end - r->at < 2) {
        fail(r, no_object);
        return NULL;
    }
    uint8_t name = r->at[1];
    r->at += 2;
    if (escaped[name]) {
        *to++ = escaped[name];
        return to;
    }
    if (name == 'u')
        return take_code(r, to);
    fail(r, no_object);
    return NULL;
}

static const uint8_t *plain_end(const uint8_t *at, const uint8_t *end)
{
    uint64_t word;
    while (end - at >= (ptrdiff_t)sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        if (!v1_json_is_plain(word))
            break;
        at += sizeof(word);
    }
    while (at < end && *at != '"' && *at != '\\' && *at >= 0x20)
        at++;
    return at;
}

/* Copies up to four plain bytes or short escapes. The caller has checked that eight bytes are left.
 * Testing a word after each byte would take longer. False: the first is neither. */
static bool decode_four(const uint8_t **from, uint8_t **to)
{
    const uint8_t *at = *from;
    uint8_t *out = *to;
    for (unsigned i = 0; i < 4; i++) {
        if (*at == '\\' && escaped[at[1]]) {
            *out++ = escaped[at[1]];
            at += 2;
        } else if (*at != '\\' && *at != '"' && *at >= 0x20) {
            *out++ = *at++;
        } else {
            break;
        }
    }
    bool any = at != *from;
    *from = at;
    *to = out;
    return any;
}

/* Copies up to the first byte that is neither plain nor one of a short escape. */
static uint8_t *decode_run(struct reader *r, uint8_t *to)
{
    const uint8_t *at = r->at;
    uint64_t word;
    while (r->end - at >= (ptrdiff_t)sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        if (v1_json_is_plain(word)) {
            memcpy(to, &word, sizeof(word));
            to += sizeof(word);
            at += sizeof(word);
        } else if (!decode_four(&at, &to)) {
            break;
        }
    }
    r->at = at;
    return to;
}

/* Up to the closing quote. A text that is decoded is never longer than it was. */
static uint8_t *decode_rest(struct reader *r, uint8_t *to)
{
    while (to && (to = decode_run(r, to), r->at < r->end)) {
        if (*r->at == '"') {
            r->at++;
            return to;
        }
        if (*r->at == '\\')
            to = take_escape(r, to);
        else if (*r->at >= 0x20)
            *to++ = *r->at++;
        else
            return NULL;
    }
    return NULL;
}

/* Decodes a string, whose opening quote was taken, into to. Returns its length, or SIZE_MAX if the
 * string is invalid. */
static size_t decode_string(struct reader *r, uint8_t *to)
{
    const uint8_t *plain = plain_end(r->at, r->end);
    size_t len = (size_t)(plain - r->at);
    memcpy(to, r->at, len);
    r->at = plain;
    uint8_t *end = decode_rest(r, to + len);
    if (end)
        return (size_t)(end - to);
    if (r->status == STATUS_OK)
        fail(r, no_object);
    return SIZE_MAX;
}

/* A string, whose opening quote was taken: where it stands, or in scratch if it is escaped. kept:
 * it has to stay there when others are read. */
static bool take_string(struct reader *r, bool kept, struct v1_text *out)
{
    const uint8_t *plain = plain_end(r->at, r->end);
    if (plain < r->end && *plain == '"') {
        *out = (struct v1_text){(const char *)r->at, (size_t)(plain - r->at)};
        r->at = plain + 1;
        return true;
    }
    if (!need_scratch(r))
        return false;
    uint8_t *to = r->scratch + r->used;
    size_t len = decode_string(r, to);
    if (len == SIZE_MAX)
        return false;
    *out = (struct v1_text){(const char *)to, len};
    r->used += kept ? len : 0;
    return true;
}

/* ---- numbers and words ---- */

static size_t skip_digits(struct reader *r)
{
    const uint8_t *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return (size_t)(r->at - from);
}

/* The digits before a point. */
static bool take_integer(struct reader *r, uint64_t *out, bool *too_large)
{
    const uint8_t *from = r->at;
    size_t digits = skip_digits(r);
    uint64_t number = 0;
    if (digits == 0 || (digits > 1 && *from == '0'))
        return fail(r, no_object);
    for (; from < r->at && number <= INT64_MAX / 10; from++)
        number = number * 10 + (uint64_t)(*from - '0');
    *too_large = from < r->at || number > INT64_MAX;
    *out = number;
    return true;
}

/* A fraction and an exponent, where they are there. */
static bool take_real(struct reader *r, bool *is_real)
{
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        *is_real = true;
        if (skip_digits(r) == 0)
            return fail(r, no_object);
    }
    if (r->at < r->end && (*r->at | 0x20) == 'e') {
        r->at++;
        *is_real = true;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        if (skip_digits(r) == 0)
            return fail(r, no_object);
    }
    return true;
}

static bool take_number(struct reader *r, struct v1_value *out)
{
    bool negative = *r->at == '-', is_real = false, too_large;
    uint64_t number;
    r->at += negative;
    if (!take_integer(r, &number, &too_large) || !take_real(r, &is_real))
        return false;
    if (too_large && !is_real)
        return fail(r, "a number is out of range");
    *out = (struct v1_value){.kind = V1_OTHER};
    if (!negative && !is_real)
        *out = (struct v1_value){.kind = V1_NUMBER, .number = number};
    return true;
}

static bool take_word(struct reader *r, struct v1_value *out)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t len = strlen(words[i]);
        if ((size_t)(r->end - r->at) < len || memcmp(r->at, words[i], len) != 0)
            continue;
        r->at += len;
        *out = (struct v1_value){.kind = V1_OTHER};
        return true;
    }
    return fail(r, no_object);
}

/* ---- lists and objects ---- */

/* Any value; a field's where kept is true. */
static bool take_value(struct reader *r, bool kept, struct v1_value *out);

static bool spend(struct reader *r, size_t *left)
{
    if (*left == 0)
        return fail(r, V1_TOO_MUCH);
    --*left;
    return true;
}

/* One text of a list, whose quote was taken, with its length before it and a 0 behind. */
static bool take_listed(struct reader *r)
{
    uint8_t *to = r->scratch + r->used;
    size_t len = spend(r, &r->texts) ? decode_string(r, to + sizeof(uint32_t)) : SIZE_MAX;
    if (len == SIZE_MAX)
        return false;
    const uint32_t length = (uint32_t)len; /* of a message, which is at most 1 GiB */
    memcpy(to, &length, sizeof(length));
    to[sizeof(length) + len] = '\0';
    r->used += len + TEXT_MORE;
    return true;
}

/* An array, whose bracket was taken. texts: a list of texts is put together in scratch; of any
 * other the values are only looked at. */
static bool take_array(struct reader *r, bool texts, struct v1_value *out)
{
    struct v1_value item;
    if (texts && !need_scratch(r))
        return false;
    size_t from = r->used, count = 0;
    bool only_texts = texts, more = !take_byte(r, ']');
    for (; more; count++) {
        skip_space(r);
        if (only_texts && take_byte(r, '"')) {
            if (!take_listed(r))
                return false;
        } else {
            only_texts = false;
            if (!take_value(r, false, &item))
                return false;
        }
        more = take_byte(r, ',');
        if (!more && !take_byte(r, ']'))
            return fail(r, no_object);
    }
    *out = (struct v1_value){.kind = V1_OTHER};
    if (only_texts)
        *out = (struct v1_value){
            .kind = V1_LIST, .at = r->scratch + from, .len = r->used - from, .number = count};
    return true;
}

/* A name with its colon. */
static bool take_name(struct reader *r, bool kept, struct v1_text *name)
{
    if (!take_byte(r, '"'))
        return fail(r, no_object);
    return take_string(r, kept, name) && (take_byte(r, ':') || fail(r, no_object));
}

static bool take_field(struct reader *r, struct v1_value *fields)
{
    struct v1_text name;
    struct v1_value ignored;
    if (!take_name(r, false, &name))
        return false;
    enum v1_request_field field = fields ? v1_request_field(name.at, name.len) : V1_REQUEST_FIELDS;
    if (field == V1_REQUEST_FIELDS)
        return take_value(r, false, &ignored);
    if (fields[field].kind != V1_ABSENT)
        return fail(r, V1_TWICE);
    if ((field == V1_FIELD_URLS || field == V1_FIELD_SESSIONS) && take_byte(r, '['))
        return take_array(r, true, &fields[field]);
    return take_value(r, true, &fields[field]);
}

/* A field for who takes all of the object itself. */
static bool take_any(struct reader *r)
{
    struct v1_text name;
    struct v1_value value;
    if (!take_name(r, true, &name) || !take_value(r, true, &value))
        return false;
    struct json_field field = {.name = name.at, .name_len = name.len};
    if (value.kind == V1_TEXT) {
        field.text = value.at;
        field.len = value.len;
    }
    return r->take(r->ctx, &field) || fail(r, V1_TWICE);
}

/* An object, whose brace was taken. fields NULL: its values are only looked at. */
static bool take_object(struct reader *r, struct v1_value *fields)
{
    if (take_byte(r, '}'))
        return true;
    do {
        skip_space(r);
        if (r->take && r->depth == 1 ? !take_any(r) : !take_field(r, fields))
            return false;
    } while (take_byte(r, ','));
    return take_byte(r, '}') || fail(r, no_object);
}

static bool take_nested(struct reader *r, uint8_t first, struct v1_value *out)
{
    if (r->depth == NESTING_MAX)
        return fail(r, V1_TOO_MUCH);
    r->at++;
    r->depth++;
    *out = (struct v1_value){.kind = V1_OTHER};
    bool taken = first == '[' ? take_array(r, false, out) : take_object(r, NULL);
    r->depth--;
    return taken;
}

static bool take_value(struct reader *r, bool kept, struct v1_value *out)
{
    struct v1_text text;
    skip_space(r);
    if (!spend(r, &r->values))
        return false;
    uint8_t first = r->at < r->end ? *r->at : 0;
    if (first == '[' || first == '{')
        return take_nested(r, first, out);
    if (first == '-' || (first >= '0' && first <= '9'))
        return take_number(r, out);
    if (first != '"')
        return take_word(r, out);
    r->at++;
    if (!take_string(r, kept, &text))
        return false;
    *out = (struct v1_value){.kind = V1_TEXT, .at = text.at, .len = text.len};
    return true;
}

static struct reader reader_of(const void *data, size_t len)
{
    size_t texts = len / 3 + 1 < V1_TEXTS_MAX ? len / 3 + 1 : V1_TEXTS_MAX; /* "", and the next */
    return (struct reader){.at = data,
                           .end = (const uint8_t *)data + len,
                           .values = V1_VALUES_MAX,
                           .texts = V1_TEXTS_MAX,
                           .depth = 1,
                           .size = len + texts * TEXT_MORE};
}

static void read_all(struct reader *r, struct v1_value *fields)
{
    if (!take_byte(r, '{')) {
        fail(r, no_object);
    } else if (take_object(r, fields)) {
        skip_space(r);
        if (r->at != r->end)
            fail(r, "a message is one JSON object and nothing after it");
    }
}

enum status v1_json_read(const void *data, size_t len, struct v1_value fields[V1_REQUEST_FIELDS],
                         uint8_t **scratch, const char **why)
{
    struct reader r = reader_of(data, len);
    read_all(&r, fields);
    *scratch = r.scratch;
    *why = r.why;
    return r.status;
}

enum status json_fields(const void *data, size_t len, json_take_field *take, void *ctx)
{
    struct reader r = reader_of(data, len);
    r.take = take;
    r.ctx = ctx;
    read_all(&r, NULL);
    free(r.scratch);
    return r.status;
}
