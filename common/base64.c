#include "common/base64.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const uint8_t *bytes, size_t len, uint8_t *out)
{
    size_t i = 0;
    for (; len - i >= 3; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        for (unsigned shift = 18; shift <= 18; shift -= 6)
            *out++ = (uint8_t)alphabet[group >> shift & 63];
    }
    if (len - i == 0)
        return;
    uint32_t group = (uint32_t)bytes[i] << 16 | (len - i == 2 ? (uint32_t)bytes[i + 1] << 8 : 0);
    out[0] = (uint8_t)alphabet[group >> 18];
    out[1] = (uint8_t)alphabet[group >> 12 & 63];
    out[2] = len - i == 2 ? (uint8_t)alphabet[group >> 6 & 63] : '=';
    out[3] = '=';
}

#define NO_DIGIT 0x80U

/* 1 to 64 for the digits 0 to 63, 0 for a byte outside the alphabet. */
static const uint8_t digits[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

/* The digit's value; NO_DIGIT, or more, for a byte outside the alphabet. */
static uint32_t digit(char c)
{
    return (uint32_t)digits[(uint8_t)c] - 1U;
}

/* Four digits, of which the last pad ones are "=", to 3 - pad bytes. */
static bool decode_group(const char text[4], size_t pad, uint8_t *out)
{
    uint32_t values[4] = {digit(text[0]), digit(text[1]), pad > 1 ? 0 : digit(text[2]),
                          pad > 0 ? 0 : digit(text[3])};
    if ((values[0] | values[1] | values[2] | values[3]) >= NO_DIGIT)
        return false;
    uint32_t group = values[0] << 18 | values[1] << 12 | values[2] << 6 | values[3];
    if (pad > 0 && (group & (pad == 1 ? 0xffU : 0xffffU)) != 0)
        return false;
    out[0] = (uint8_t)(group >> 16);
    if (pad < 2)
        out[1] = (uint8_t)(group >> 8);
    if (pad < 1)
        out[2] = (uint8_t)group;
    return true;
}

enum status base64_decode(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    if (len % 4 != 0)
        return STATUS_INVALID;
    if (len == 0) {
        *out = NULL;
        *out_len = 0;
        return STATUS_OK;
    }
    size_t pad = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
    size_t size = len / 4 * 3 - pad;
    uint8_t *bytes = malloc(size);
    if (!bytes)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < len; i += 4) {
        if (!decode_group(text + i, i + 4 == len ? pad : 0, bytes + i / 4 * 3)) {
            free(bytes);
            return STATUS_INVALID;
        }
    }
    *out = bytes;
    *out_len = size;
    return STATUS_OK;
}

/* The same text in the other alphabet, padded; NULL: no memory. */
static char *with_padding(const char *text, size_t len, size_t padded)
{
    char *copy = malloc(padded);
    for (size_t i = 0; copy && i < padded; i++) {
        char c = i < len ? text[i] : '=';
        copy[i] = (char)(c == '-' ? '+' : c == '_' ? '/' : c);
    }
    return copy;
}

enum status base64url_decode(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    if (len == 0 || len % 4 == 1 || memchr(text, '+', len) || memchr(text, '/', len) ||
        memchr(text, '=', len))
        return STATUS_INVALID;
    size_t padded = (len + 3) / 4 * 4;
    char *copy = with_padding(text, len, padded);
    if (!copy)
        return STATUS_NO_MEMORY;
    enum status status = base64_decode(copy, padded, out, out_len);
    explicit_bzero(copy, padded); /* it may be a secret */
    free(copy);
    return status;
}
