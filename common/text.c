#include "common/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* From large to small: printing takes the first that divides. */
static const struct unit duration_units[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit size_units[] = {
    {"GiB", 1U << 30}, {"MiB", 1U << 20}, {"KiB", 1U << 10}, {"", 1}, {NULL, 0}};

/* Digits and a unit of the table, at most max. "0" needs no unit. */
static enum status parse_quantity(const char *text, const struct unit *units, uint64_t max,
                                  uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0)
        return STATUS_INVALID;

    uint64_t number = 0;
    for (size_t i = 0; i < digits; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (number > (max - digit) / 10)
            return STATUS_INVALID;
        number = number * 10 + digit;
    }
    const char *name = text + digits;
    if (number == 0 && *name == '\0') {
        *out = 0;
        return STATUS_OK;
    }
    for (const struct unit *unit = units; unit->name; unit++) {
        if (strcmp(unit->name, name) != 0)
            continue;
        if (number > max / unit->factor)
            return STATUS_INVALID;
        *out = number * unit->factor;
        return STATUS_OK;
    }
    return STATUS_INVALID;
}

static void print_quantity(uint64_t value, const struct unit *units, char out[32])
{
    const struct unit *unit = units;
    while (unit->factor > 1 && value % unit->factor != 0)
        unit++;
    if (value == 0)
        snprintf(out, 32, "0");
    else
        snprintf(out, 32, "%" PRIu64 "%s", value / unit->factor, unit->name);
}

enum status text_duration(const char *text, uint32_t *out_ms)
{
    uint64_t value;
    enum status status = parse_quantity(text, duration_units, UINT32_MAX, &value);
    if (status == STATUS_OK)
        *out_ms = (uint32_t)value;
    return status;
}

enum status text_size(const char *text, size_t *out_bytes)
{
    uint64_t value;
    enum status status = parse_quantity(text, size_units, SIZE_MAX, &value);
    if (status == STATUS_OK)
        *out_bytes = (size_t)value;
    return status;
}

void text_duration_print(uint32_t ms, char out[32])
{
    print_quantity(ms, duration_units, out);
}

void text_size_print(size_t bytes, char out[32])
{
    print_quantity(bytes, size_units, out);
}

static bool is_name_byte(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

bool text_is_name(const char *text, size_t len)
{
    if (len == 0 || len > TEXT_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_name_byte(text[i]))
            return false;
    }
    return true;
}

/*
 * The state between two bytes: how many continuation bytes are still to come (low byte), and within
 * which bounds the next one must lie (second and third byte). Only the first continuation byte has
 * bounds of its own (RFC 3629 section 4); they keep out overlong forms, surrogates and what is
 * above U+10FFFF.
 */
static uint32_t utf8_expect(uint32_t more, uint32_t low, uint32_t high)
{
    return more | low << 8 | high << 16;
}

/* The state after the first byte of a sequence of several; 0 where no sequence starts with it. */
static uint32_t utf8_first(uint8_t byte)
{
    if (byte >= 0xc2 && byte <= 0xdf)
        return utf8_expect(1, 0x80, 0xbf);
    if (byte == 0xe0)
        return utf8_expect(2, 0xa0, 0xbf);
    if (byte == 0xed)
        return utf8_expect(2, 0x80, 0x9f);
    if (byte >= 0xe1 && byte <= 0xef)
        return utf8_expect(2, 0x80, 0xbf);
    if (byte == 0xf0)
        return utf8_expect(3, 0x90, 0xbf);
    if (byte >= 0xf1 && byte <= 0xf3)
        return utf8_expect(3, 0x80, 0xbf);
    if (byte == 0xf4)
        return utf8_expect(3, 0x80, 0x8f);
    return 0;
}

/* How many bytes from the start are surely ASCII, counted by eights. Most texts are ASCII from end
 * to end. */
static size_t ascii_run(const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    while (len - at >= 8) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof(word));
        if (word & 0x8080808080808080U)
            break;
        at += 8;
    }
    return at;
}

static bool is_more(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* How many bytes from the start are surely whole sequences of two or three, which are most of what
 * is not ASCII; others go byte by byte. */
static size_t short_run(const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    while (len - at >= 3) {
        uint8_t first = bytes[at];
        if (first >= 0xc2 && first <= 0xdf && is_more(bytes[at + 1]))
            at += 2;
        else if (first > 0xe0 && first < 0xf0 && first != 0xed && is_more(bytes[at + 1]) &&
                 is_more(bytes[at + 2]))
            at += 3;
        else
            break;
    }
    return at;
}

bool text_utf8_piece(uint32_t *state, const void *text, size_t len)
{
    const uint8_t *bytes = text;
    uint32_t s = *state;

    for (size_t i = 0; i < len; i++) {
        if (s == 0) {
            i += ascii_run(bytes + i, len - i);
            if (i == len)
                break;
            if (bytes[i] < 0x80)
                continue;
            size_t whole = short_run(bytes + i, len - i);
            if (whole > 0) {
                i += whole - 1;
                continue;
            }
            s = utf8_first(bytes[i]);
            if (s == 0)
                return false;
            continue;
        }
        if (bytes[i] < (s >> 8 & 0xff) || bytes[i] > (s >> 16 & 0xff))
            return false;
        uint32_t more = (s & 0xff) - 1;
        s = more == 0 ? 0 : utf8_expect(more, 0x80, 0xbf);
    }
    *state = s;
    return true;
}

bool text_is_utf8(const void *text, size_t len)
{
    uint32_t state = 0;
    return text_utf8_piece(&state, text, len) && state == 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum status text_percent_decode(const char *text, size_t len, char *out, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            out[n++] = text[i];
            continue;
        }
        if (len - i < 3)
            return STATUS_INVALID;
        int high = hex_value(text[i + 1]), low = hex_value(text[i + 2]);
        if (high < 0 || low < 0)
            return STATUS_INVALID;
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    out[n] = '\0';
    if (out_len)
        *out_len = n;
    return STATUS_OK;
}
