/*
 * TLS as a filter between the bytes of a socket and those of its owner, by OpenSSL over memory
 * buffers. It does not know the socket.
 *
 *   socket -> tls_feed -> tls_read -> owner       owner -> tls_write -> tls_pending -> socket
 */
#ifndef VINHUB_LOOP_TLS_H
#define VINHUB_LOOP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "loop/tls_context.h"

struct tls;

/* host: for a client, the name or address that the certificate must be for; NULL for a server. The
 * first record of a client is pending at once. Returns NULL if memory runs out, or if host can't be
 * used as a name. */
struct tls *tls_new(struct tls_context *context, const char *host);
void tls_free(struct tls *tls);

/* Takes bytes of the socket and goes on with the handshake. Not STATUS_OK: TLS has failed, tls_why
 * has the cause. */
MUST_USE enum status tls_feed(struct tls *tls, const uint8_t *bytes, size_t len);
/* The handshake is done. */
bool tls_ready(const struct tls *tls);
/* Returns plain bytes of the input that was fed; 0: no more for now. */
size_t tls_read(struct tls *tls, uint8_t *out, size_t cap);
/* The peer has ended its direction, or TLS has failed. */
bool tls_ended(const struct tls *tls);
/* Takes plain bytes; only once ready. */
MUST_USE enum status tls_write(struct tls *tls, const void *bytes, size_t len);
/* Makes the record that ends our direction (close_notify), once. Nothing can be written after it.
 */
void tls_shut(struct tls *tls);
/* Bytes for the socket, to be written now; tls_sent drops them. */
size_t tls_pending(struct tls *tls, const uint8_t **bytes);
void tls_sent(struct tls *tls);
/* Why TLS has failed, one line; "": it has not failed. */
const char *tls_why(const struct tls *tls);

#endif
