/*
 * Base64 with padding (RFC 4648 section 4), for binary payloads in JSON.
 */
#ifndef VINHUB_ADMIN_ADMIN_BASE64_H
#define VINHUB_ADMIN_ADMIN_BASE64_H

#include <stddef.h>

/* Malloc'd bytes the caller frees; NULL where the text is not base64 or memory is out. */
void *admin_base64_decode(const char *text, size_t len, size_t *out_len);
/* Malloc'd, terminated text the caller frees; NULL when out of memory. */
char *admin_base64_encode(const void *data, size_t len, size_t *out_len);

#endif
