/*
 * TLS between a socket's bytes and an owner's, by OpenSSL over memory: no socket is known here.
 */
#ifndef VINHUB_LOOP_TLS_H
#define VINHUB_LOOP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "loop/tls_context.h"

struct tls;

/* NULL: no memory. host: of a client, the name or address that the certificate must be for; NULL
 * for a server. A client's first record is pending at once. */
struct tls *tls_new(struct tls_context *context, const char *host);
void tls_free(struct tls *tls);

/* Takes bytes of the socket and goes on with the handshake. Not STATUS_OK: the connection has
 * failed, tls_why says how. */
MUST_USE enum status tls_feed(struct tls *tls, const uint8_t *bytes, size_t len);
/* The handshake is done. */
bool tls_ready(const struct tls *tls);
/* Plain bytes that were fed; 0: no more for now. */
size_t tls_read(struct tls *tls, uint8_t *out, size_t cap);
/* The peer has ended its direction, or failed. */
bool tls_ended(const struct tls *tls);
/* Takes plain bytes; only once ready. */
MUST_USE enum status tls_write(struct tls *tls, const void *bytes, size_t len);
/* Makes the record that ends our direction (close_notify), once. Nothing can be written after it.
 */
void tls_shut(struct tls *tls);
/* Bytes for the socket, to be written now; tls_sent drops them. */
size_t tls_pending(struct tls *tls, const uint8_t **bytes);
void tls_sent(struct tls *tls);
/* What went wrong, one line; "" where nothing did. */
const char *tls_why(const struct tls *tls);

#endif
