/*
 * TLS over hiredis's own socket, for bus and vinhubctl: hiredis checks no name, so that the SSL is
 * one of loop/tls_context.h; it drives the handshake on after the first step, and keeps no cause of
 * a failure.
 */
#ifndef VINHUB_BUS_REDIS_TLS_H
#define VINHUB_BUS_REDIS_TLS_H

#include <stddef.h>

#include "common/status.h"

struct redisContext;
struct ssl_st;
struct tls_context;

/* Starts TLS on a connected context, which owns *out from then on. host is whom it was connected
 * to. Not STATUS_OK: why says why, in one line. Of a blocking context the handshake is done then.
 */
MUST_USE enum status redis_tls_start(struct tls_context *tls, struct redisContext *context,
                                     const char *host, struct ssl_st **out, char *why,
                                     size_t why_len);

enum redis_tls_progress {
    REDIS_TLS_DONE,
    REDIS_TLS_WANTS_READ,
    REDIS_TLS_WANTS_WRITE,
    REDIS_TLS_FAILED
};
/* Goes on with the handshake. why is written where it failed. */
enum redis_tls_progress redis_tls_handshake(struct ssl_st *ssl, char *why, size_t why_len);

/* Before reading and writing: what other connections have left behind is no failure of this one.
 * ssl may be NULL here and below: no TLS, and nothing is done. */
void redis_tls_prepare(struct ssl_st *ssl);
/* After reading or writing has failed: the cause, where it is one of TLS (TLS 1.3 says only now
 * that it misses a certificate); else why is unchanged. */
void redis_tls_explain(struct ssl_st *ssl, char *why, size_t why_len);
/* Says the end to the other side (close_notify), before the context is freed. */
void redis_tls_end(struct ssl_st *ssl);

#endif
