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

/* 0 to 63, or 64 for a byte outside the alphabet. */
static uint32_t digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Four digits, of which the last pad ones are "=", to 3 - pad bytes. */
static bool decode_group(const char text[4], size_t pad, uint8_t *out)
{
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t value = i < 4 - pad ? digit(text[i]) : 0;
        if (value == 64)
            return false;
        group = group << 6 | value;
    }
    if (pad > 0 && (group & (pad == 1 ? 0xffU : 0xffffU)) != 0)
        return false;
    for (size_t i = 0; i < 3 - pad; i++)
        out[i] = (uint8_t)(group >> (16 - 8 * i));
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
