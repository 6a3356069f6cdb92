/*
 * The settings of TLS connections: certificates and keys, trusted authorities, the expected name,
 * and messages for failures. All connections with TLS take their SSL object from here: those of
 * clients, backends, Redis, Sentinels and vinhubctl. Others drive the handshake (loop/tls.h over
 * memory, hiredis over its socket).
 *
 * The context of a client reads its files again when they have changed, so that a replaced
 * certificate is used by the next connection. If the new files can't be used, this is logged and
 * the old ones stay in use.
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
    const char *cert, *key; /* our own certificate for servers that require one, PEM files */
    /* The name or address that the server's certificate must have. Without: the host of the URL. */
    const char *name;
    /* The settings for name and cert, for advice in messages: "redis.tls_name". Static. */
    const char *name_setting, *cert_setting;
};

/* For a server: certificate chain and key, PEM files. STATUS_INVALID: a file can't be read, or they
 * don't belong together; why has one line with the name of the file. */
MUST_USE enum status tls_context_server(const char *cert, const char *key, struct tls_context **out,
                                        char *why, size_t why_len);
/* For a client, which verifies. STATUS_INVALID as above. */
MUST_USE enum status tls_context_client(const struct tls_client *client, struct tls_context **out,
                                        char *why, size_t why_len);
/* NULL is allowed. Connections hold references to what they use. */
void tls_context_free(struct tls_context *context);

/* The SSL object of one connection, not connected to its peer yet. host: the host that a client
 * connects to (a dot at its end is ignored); NULL for a server. The caller frees it. NULL: out of
 * memory, or the host can't be used as a name. */
struct ssl_st *tls_context_ssl(struct tls_context *context, const char *host);

/* Writes why this connection has failed, for example "expected a certificate for a.example, got one
 * for b.example". To be called after a failed call on ssl; OpenSSL's error queue must have been
 * empty before that call. */
void tls_explain(struct ssl_st *ssl, char *why, size_t why_len);

#endif
