/*
 * TLS on the socket of a hiredis context, for the bus and vinhubctl.
 *
 * hiredis does not check the name in the server's certificate and keeps no cause of a failure. So
 * the SSL object comes from loop/tls_context.h, and the caller drives the handshake and asks for
 * the cause here.
 */
#ifndef VINHUB_BUS_REDIS_TLS_H
#define VINHUB_BUS_REDIS_TLS_H

#include <stddef.h>

#include "common/status.h"

struct redisContext;
struct ssl_st;
struct tls_context;

/* Starts TLS on a connected context, which then owns *out. host: the host that it is connected to.
 * On a blocking context this does the whole handshake. On failure why has the cause in one line. */
MUST_USE enum status redis_tls_start(struct tls_context *tls, struct redisContext *context,
                                     const char *host, struct ssl_st **out, char *why,
                                     size_t why_len);

enum redis_tls_progress {
    REDIS_TLS_DONE,
    REDIS_TLS_WANTS_READ,
    REDIS_TLS_WANTS_WRITE,
    REDIS_TLS_FAILED
};
/* Goes on with the handshake. why is written only if it failed. */
enum redis_tls_progress redis_tls_handshake(struct ssl_st *ssl, char *why, size_t why_len);

/* To be called before each read and write: removes errors of other connections from OpenSSL's
 * queue. ssl may be NULL here and below: without TLS nothing is done. */
void redis_tls_prepare(struct ssl_st *ssl);
/* To be called after a read or write has failed: writes the cause to why if it is one of TLS (with
 * TLS 1.3 a missing client certificate shows only then); otherwise why is unchanged. */
void redis_tls_explain(struct ssl_st *ssl, char *why, size_t why_len);
/* Sends close_notify to the other side, before the context is freed. */
void redis_tls_end(struct ssl_st *ssl);

#endif
