/*
 * Base64 with padding (RFC 4648 section 4), for bytes that travel in JSON; and base64url without it
 * (section 5, RFC 7515 section 2), which tokens and their keys are written in.
 */
#ifndef VINHUB_COMMON_BASE64_H
#define VINHUB_COMMON_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Of the text of len bytes. */
static inline size_t base64_size(size_t len)
{
    return len / 3 * 4 + (len % 3 > 0 ? 4 : 0);
}
/* Writes base64_size(len) bytes, without a 0 behind them. */
void base64_encode(const uint8_t *bytes, size_t len, uint8_t *out);
/* Strict: no line breaks, whole padding, no stray bits (section 3.5). *out is malloc'd and NULL
 * where nothing is in it. */
MUST_USE enum status base64_decode(const char *text, size_t len, uint8_t **out, size_t *out_len);
/* base64url without padding, as strict. An empty text is STATUS_INVALID, too: no part of a token or
 * a key is empty. *out is malloc'd. */
MUST_USE enum status base64url_decode(const char *text, size_t len, uint8_t **out, size_t *out_len);

#endif
