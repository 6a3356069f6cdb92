/*
 * The forms that single values of the configuration have: names, origins, headers, URLs
 * (addresses are in address.h).
 *
 * Each answers yes or no to one text; conf_rows.c says in words what it allows.
 */
#ifndef VINHUB_COMMON_CONF_SYNTAX_H
#define VINHUB_COMMON_CONF_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>

bool conf_is_name(const char *text);
bool conf_is_printable(const char *text); /* no control bytes, no spaces, ASCII */
bool conf_is_origin(
    const char *text); /* an item of origins: a rule, or what a client sends as it is */
bool conf_is_origin_rule(
    const char *text); /* [scheme://]host[:port] or *.host, see front_admit.c */
bool conf_is_header(
    const char *text); /* "name: value" that may be added to a WebSocket handshake */
bool conf_is_upstream(const char *text);
/* The user and password that stand before the host of a URL ("user:p%40ss", as written) and their
 * length, without the "@"; NULL where there are none. */
const char *conf_url_credentials(const char *url, size_t *len);
bool conf_is_session_key(const char *text);
bool conf_is_redis_url(const char *text);
/* Why a text is not what `check`, one of the functions above, allows: the usual mistakes, in words
 * that hold nothing of the text. NULL where none of them is there. */
const char *conf_flaw(bool (*check)(const char *text), const char *text);

#endif
