/*
 * What TLS connections are made of: certificates and keys, whom they trust, whom they expect, and
 * the words for what goes wrong. The one place of it, for backends, Redis, Sentinels and vinhubctl:
 * who drives the handshake itself (loop/tls.h over memory, hiredis over its socket) takes its SSL
 * from here.
 *
 * A client's context reads its files again when they have changed: certificates that are replaced
 * serve the next connection. A change that can't be used is logged, and what was read before goes
 * on.
 */
#ifndef VINHUB_LOOP_TLS_CONTEXT_H
#define VINHUB_LOOP_TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

struct ssl_st;
struct tls_context;

#define TLS_WHY_BYTES 640 /* enough for each of the texts below */

/* Any text may be NULL or "". */
struct tls_client {
    const char *ca; /* a PEM file: each certificate in it is an anchor, an intermediate or the
                       server's own as well. Without: the system's authorities */
    const char *cert, *key; /* our own, PEM files, where servers ask for one */
    const char
        *name; /* the name or address in the server's certificate. Without: the host connected to */
    const char *name_setting,
        *cert_setting; /* what sets these, for advice: "redis.tls_name". Static */
};

/* For a server: certificate chain and key, PEM files. STATUS_INVALID, and why in one line with the
 * file's name: it can't be read, or they don't belong together. */
MUST_USE enum status tls_context_server(const char *cert, const char *key, struct tls_context **out,
                                        char *why, size_t why_len);
/* For a client, which verifies. STATUS_INVALID as above. */
MUST_USE enum status tls_context_client(const struct tls_client *client, struct tls_context **out,
                                        char *why, size_t why_len);
/* NULL is allowed. Connections keep what they have of it. */
void tls_context_free(struct tls_context *context);

/* The SSL of one connection, without a way to its peer yet. host: whom a client connects to, a dot
 * at its end does not count; NULL for a server. The caller's, to be freed. NULL: out of memory. */
struct ssl_st *tls_context_ssl(struct tls_context *context, const char *host);

/* Why this connection has failed, after a call on ssl that said so (the thread's queue of errors
 * was empty before): "expected a certificate for a.example, got one for b.example". */
void tls_explain(struct ssl_st *ssl, char *why, size_t why_len);

#endif
