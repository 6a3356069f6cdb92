/*
 * The head of an HTTP/1.1 request or response: finds its end, and parses it in place.
 *
 * Strict (RFC 9112): lines end in CRLF, no folded lines, no control bytes, no space before the
 * colon. Values keep their bytes.
 */
#ifndef VINHUB_LOOP_HTTP_HEAD_H
#define VINHUB_LOOP_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

#define HTTP_FIELDS_MAX 128

struct http_text {
    const char *at;
    size_t len;
};

struct http_head {
    struct http_text
        start[3]; /* method, target, version; or version, status, reason (which may be empty) */
    struct http_text names[HTTP_FIELDS_MAX], values[HTTP_FIELDS_MAX];
    size_t len;
};

/* The length of the head with the empty line at its end; 0: the empty line has not come yet. from:
 * how many bytes were searched before. */
size_t http_head_end(const char *bytes, size_t len, size_t from);
/* Parses len bytes that end in the empty line. STATUS_INVALID: malformed. STATUS_LIMIT: too many
 * fields. The texts point into bytes. */
MUST_USE enum status http_head_parse(const char *bytes, size_t len, struct http_head *out);

bool http_text_is(struct http_text text, const char *word);      /* byte for byte */
bool http_text_is_word(struct http_text text, const char *word); /* ASCII case is ignored */

/* The value of the next field of this name, from *index on; *index moves past it. False: no more.
 */
bool http_head_next(const struct http_head *head, const char *name, size_t *index,
                    struct http_text *value);
/* The value of a field that must be there once. False: the field is missing or there are several.
 */
bool http_head_one(const struct http_head *head, const char *name, struct http_text *value);
/* Whether a comma-separated list in fields of this name has word as an item; case is ignored. */
bool http_head_lists(const struct http_head *head, const char *name, const char *word);
/* The next item of a comma-separated list, without blanks around it; empty items are skipped and
 * *rest moves on. False: no more. */
bool http_list_next(struct http_text *rest, struct http_text *item);
/* A token of RFC 9110 section 5.6.2. */
bool http_text_is_token(struct http_text text);

/* The answer to a Sec-WebSocket-Key (RFC 6455 section 4.2.2), with a terminator. */
#define WS_ACCEPT_SIZE 29
void ws_accept_key(struct http_text key, char out[WS_ACCEPT_SIZE]);

#endif
