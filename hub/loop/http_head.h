/*
 * The head of an HTTP/1.1 message, request or response: finding its end, and taking it apart in
 * place.
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

/* Bytes up to and with the empty line; 0: it is not there yet. from: how many were looked through
 * before. */
size_t http_head_end(const char *bytes, size_t len, size_t from);
/* Takes apart len bytes that end in the empty line. STATUS_INVALID: malformed. STATUS_LIMIT: too
 * many fields. The texts point into bytes. */
MUST_USE enum status http_head_parse(const char *bytes, size_t len, struct http_head *out);

bool http_text_is(struct http_text text, const char *word);      /* byte for byte */
bool http_text_is_word(struct http_text text, const char *word); /* whatever the case (ASCII) */

/* The next field of that name from *index on, which moves past it. False: no more. */
bool http_head_next(const struct http_head *head, const char *name, size_t *index,
                    struct http_text *value);
/* The only value of a field. False where it is missing or there are several. */
bool http_head_one(const struct http_head *head, const char *name, struct http_text *value);
/* True where a field of comma-separated words names word, whatever the case. */
bool http_head_lists(const struct http_head *head, const char *name, const char *word);
/* The next item of a comma-separated list, without blanks around it and empty ones left out; *rest
 * moves on. False: no more. */
bool http_list_next(struct http_text *rest, struct http_text *item);
/* A token of RFC 9110 section 5.6.2. */
bool http_text_is_token(struct http_text text);

/* The answer to a Sec-WebSocket-Key (RFC 6455 section 4.2.2), with a terminator. */
#define WS_ACCEPT_SIZE 29
void ws_accept_key(struct http_text key, char out[WS_ACCEPT_SIZE]);

#endif
