/*
 * TLS towards Redis: one context for all connections, peer and host name verified, which hiredis's
 * own context does not do for the name.
 */
#ifndef VINHUB_BUS_REDIS_TLS_H
#define VINHUB_BUS_REDIS_TLS_H

#include "common/status.h"

struct redis_tls;
struct redisContext;
struct ssl_st;

/* ca_file: "" for the system's. STATUS_INVALID where it can't be used. */
MUST_USE enum status redis_tls_new(const char *ca_file, struct redis_tls **out);
void redis_tls_free(struct redis_tls *tls); /* NULL is allowed */

/* Starts TLS on a connected context, which owns *out from then on. host is a name or an address. */
MUST_USE enum status redis_tls_start(struct redis_tls *tls, struct redisContext *context,
                                     const char *host, struct ssl_st **out);

enum redis_tls_progress {
    REDIS_TLS_DONE,
    REDIS_TLS_WANTS_READ,
    REDIS_TLS_WANTS_WRITE,
    REDIS_TLS_FAILED
};
/* Goes on with the handshake. why is set where it failed: a static text, or one that lives until
 * the next call. */
enum redis_tls_progress redis_tls_handshake(struct ssl_st *ssl, const char **why);

#endif
