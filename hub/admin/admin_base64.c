#include "admin/admin_base64.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* 0 to 63, or -1. */
static int value_of(char c)
{
    const char *at = c ? memchr(alphabet, c, sizeof alphabet - 1) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

static size_t padding_of(const char *text, size_t len)
{
    size_t padding = 0;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    return padding;
}

void *admin_base64_decode(const char *text, size_t len, size_t *out_len)
{
    if (len % 4 != 0)
        return NULL;
    size_t padding = padding_of(text, len);
    uint8_t *out = malloc(len / 4 * 3 + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < len; i += 4) {
        uint32_t group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = i + j < len - padding ? value_of(text[i + j]) : 0;
            if (value < 0) {
                free(out);
                return NULL;
            }
            group = group << 6 | (uint32_t)value;
        }
        out[n++] = (uint8_t)(group >> 16);
        out[n++] = (uint8_t)(group >> 8);
        out[n++] = (uint8_t)group;
    }
    if (out)
        *out_len = n - padding;
    return out;
}

char *admin_base64_encode(const void *data, size_t len, size_t *out_len)
{
    const uint8_t *in = data;
    char *out = malloc((len + 2) / 3 * 4 + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < len; i += 3) {
        uint32_t group = (uint32_t)in[i] << 16;
        group |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
        group |= i + 2 < len ? in[i + 2] : 0;
        out[n++] = alphabet[group >> 18];
        out[n++] = alphabet[group >> 12 & 63];
        out[n++] = i + 1 < len ? alphabet[group >> 6 & 63] : '=';
        out[n++] = i + 2 < len ? alphabet[group & 63] : '=';
    }
    if (out) {
        out[n] = '\0';
        *out_len = n;
    }
    return out;
}
