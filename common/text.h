/*
 * Durations, sizes, UTF-8 and names in text.
 */
#ifndef VINHUB_COMMON_TEXT_H
#define VINHUB_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

#define TEXT_NAME_MAX 64 /* bytes of a service name, node id or prefix (contract section 1) */

/* "500ms" "5s" "2m" "1h" -> milliseconds. A number without a unit is refused, but for "0". */
MUST_USE enum status text_duration(const char *text, uint32_t *out_ms);
/* "256KiB" "1MiB" "100" (bytes). */
MUST_USE enum status text_size(const char *text, size_t *out_bytes);
/* The shortest text that reads back to the same. out has 32 bytes. */
void text_duration_print(uint32_t ms, char out[32]);
void text_size_print(size_t bytes, char out[32]);
/* [A-Za-z0-9_.-], 1 to 64 bytes (contract section 1). */
bool text_is_name(const char *text, size_t len);

/* UTF-8 of a whole text (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
bool text_is_utf8(const void *text, size_t len);
/* The same in pieces: state starts at 0; text_utf8_piece returns false at the first wrong byte;
 * a text is whole where state is 0 after its last piece. */
bool text_utf8_piece(uint32_t *state, const void *text, size_t len);

/* %XX decoding; out has room for len + 1 bytes. STATUS_INVALID at a bad escape. *out_len may be
 * NULL. */
MUST_USE enum status text_percent_decode(const char *text, size_t len, char *out, size_t *out_len);

#endif
