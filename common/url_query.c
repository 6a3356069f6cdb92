#include "common/url_query.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/text.h"

static struct span span_of(const char *from, const char *to)
{
    return (struct span){from, (size_t)(to - from)};
}

/* Where byte first stands in text, or its end. */
static const char *find_byte(struct span text, char byte)
{
    const char *at = memchr(text.at, byte, text.len);
    return at ? at : text.at + text.len;
}

/* out has room for text.len + 1 bytes; '+' becomes a space before the escapes are decoded, so that
 * %2B stays a plus. */
static enum status form_decode(struct span text, char *out, size_t *out_len)
{
    memcpy(out, text.at, text.len);
    for (size_t i = 0; i < text.len; i++)
        out[i] = out[i] == '+' ? ' ' : out[i];
    return text_percent_decode(out, text.len, out, out_len); /* never writes ahead of its reading */
}

static void read_name(struct span raw, char out[QUERY_NAME_MAX + 1])
{
    char name[3 * QUERY_NAME_MAX + 1];
    size_t len;
    out[0] = '\0';
    if (raw.len < sizeof(name) && form_decode(raw, name, &len) == STATUS_OK &&
        len <= QUERY_NAME_MAX && !memchr(name, '\0', len))
        memcpy(out, name, len + 1);
}

bool query_next(struct span *rest, struct query_item *out)
{
    const char *end = rest->at + rest->len;
    while (rest->len > 0) {
        const char *next = find_byte(*rest, '&');
        struct span raw = span_of(rest->at, next);
        *rest = next == end ? span_of(end, end) : span_of(next + 1, end);
        if (raw.len == 0)
            continue;
        const char *equals = find_byte(raw, '=');
        out->raw = raw;
        out->value = equals == next ? span_of(next, next) : span_of(equals + 1, next);
        read_name(span_of(raw.at, equals), out->name);
        return true;
    }
    return false;
}

enum status query_decode(struct span value, char **out)
{
    char *text = malloc(value.len + 1);
    size_t len;
    if (!text)
        return STATUS_NO_MEMORY;
    if (form_decode(value, text, &len) != STATUS_OK || memchr(text, '\0', len)) {
        free(text);
        return STATUS_INVALID;
    }
    *out = text;
    return STATUS_OK;
}

/* ---- numbers ---- */

static bool read_number(const char *text, uint32_t *out)
{
    uint64_t number = 0;
    if (*text == '\0')
        return false;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return false;
        number = number * 10 + (uint64_t)(*c - '0');
        if (number > UINT32_MAX)
            return false;
    }
    *out = (uint32_t)number;
    return true;
}

static bool read_thousandths(const char *text, uint32_t *out)
{
    size_t whole = strspn(text, "0123456789"), rest = 0;
    uint32_t number = 0, unit = 100;
    if (whole == 0 || whole > 6)
        return false;
    for (size_t i = 0; i < whole; i++)
        number = number * 10 + (uint32_t)(text[i] - '0');
    number *= 1000;
    if (text[whole] == '.') {
        rest = strspn(text + whole + 1, "0123456789");
        if (rest == 0)
            return false;
        for (size_t i = 0; i < rest; i++, unit /= 10)
            number += unit * (uint32_t)(text[whole + 1 + i] - '0');
        rest++;
    }
    *out = number;
    return text[whole + rest] == '\0';
}

static enum status read_value(struct span value, bool (*read)(const char *, uint32_t *),
                              uint32_t *out)
{
    char *text;
    enum status status = query_decode(value, &text);
    if (status != STATUS_OK)
        return status;
    status = read(text, out) ? STATUS_OK : STATUS_INVALID;
    free(text);
    return status;
}

enum status query_number(struct span value, uint32_t *out)
{
    return read_value(value, read_number, out);
}

enum status query_thousandths(struct span value, uint32_t *out)
{
    return read_value(value, read_thousandths, out);
}

/* ---- the vin, as lenient backends may read it ---- */

static int hex_value(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c | 0x20);
    return at ? (int)(at - digits) : -1;
}

/* The next decoded byte, -1 at the end. A bad escape is an ordinary '%', as lenient decoders have
 * it. */
static int next_byte(struct span *rest)
{
    if (rest->len == 0)
        return -1;
    int byte = (unsigned char)rest->at[0];
    size_t taken = 1;
    if (byte == '+') {
        byte = ' ';
    } else if (byte == '%' && rest->len >= 3) {
        int high = hex_value(rest->at[1]), low = hex_value(rest->at[2]);
        if (high >= 0 && low >= 0) {
            byte = high * 16 + low;
            taken = 3;
        }
    }
    rest->at += taken;
    rest->len -= taken;
    return byte;
}

static bool is_blank(int byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* PHP drops blanks before a name and what follows a NUL; it and others make a list of "vin[]".
 * ASP.NET reads names without regard to case. */
static enum query_vin name_vin(struct span name)
{
    int byte = next_byte(&name);
    bool unsure = is_blank(byte);
    while (is_blank(byte))
        byte = next_byte(&name);
    for (const char *wanted = "vin"; *wanted != '\0'; wanted++, byte = next_byte(&name)) {
        if (byte != *wanted && byte != *wanted - 'a' + 'A')
            return QUERY_VIN_NONE;
        unsure = unsure || byte != *wanted;
    }
    if (byte == -1)
        return unsure ? QUERY_VIN_UNSURE : QUERY_VIN;
    return byte == '\0' || byte == '[' || is_blank(byte) ? QUERY_VIN_UNSURE : QUERY_VIN_NONE;
}

static struct span name_of(struct span piece)
{
    return span_of(piece.at, find_byte(piece, '='));
}

/* Some backends part items at ';' as well (HTML 4.01 appendix B.2.2). */
static bool piece_names_vin(struct span raw)
{
    const char *end = raw.at + raw.len;
    for (;;) {
        const char *cut = find_byte(raw, ';');
        if (name_vin(name_of(span_of(raw.at, cut))) != QUERY_VIN_NONE)
            return true;
        if (cut == end)
            return false;
        raw = span_of(cut + 1, end);
    }
}

enum query_vin query_vin(const struct query_item *item)
{
    enum query_vin whole = name_vin(name_of(item->raw));
    if (whole != QUERY_VIN_NONE)
        return whole;
    return piece_names_vin(item->raw) ? QUERY_VIN_UNSURE : QUERY_VIN_NONE;
}

/* ---- credentials ---- */

static bool name_is_secret(const char *name)
{
    static const char *const within[] = {"token",      "secret",  "passw",   "pwd",
                                         "ticket",     "auth",    "jwt",     "apikey",
                                         "credential", "api_key", "api-key", "signatur"};
    static const char *const whole[] = {"sig", "sid", "sessionid", "session_id", "jsessionid"};
    for (size_t i = 0; i < sizeof(within) / sizeof(*within); i++) {
        if (strcasestr(name, within[i]))
            return true;
    }
    for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++) {
        if (strcasecmp(name, whole[i]) == 0)
            return true;
    }
    return false;
}

/* A JSON object in base64url, and two dots (RFC 7515 section 3.1). */
static bool looks_like_jwt(struct span text)
{
    if (text.len < 16 || memcmp(text.at, "eyJ", 3) != 0)
        return false;
    const char *end = text.at + text.len, *dot = find_byte(text, '.');
    return dot != end && memchr(dot + 1, '.', (size_t)(end - dot - 1));
}

bool query_is_secret(const struct query_item *item)
{
    if (item->value.len == 0)
        return looks_like_jwt(item->raw);
    return name_is_secret(item->name) || looks_like_jwt(item->value);
}

void query_digest(struct span value, char out[QUERY_DIGEST_LEN + 1])
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)value.at, value.len, hash);
    for (size_t i = 0; i < QUERY_DIGEST_LEN / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}
