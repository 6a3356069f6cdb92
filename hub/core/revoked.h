/*
 * Revoked tokens (contract sections 8 and 10): which there are, and who has to go.
 *
 * A node keeps them all until they matter no more: a token's id for 30 days, a subject with the
 * time before which its tokens were issued. A node that revokes one sends it to all nodes at once,
 * and writes it into the store. A node that was not listening reads the store: whole when it starts
 * and after each reconnect, and on and on in portions. What it knows and does not find there it
 * writes back, so that a store that lost data gets it again. There is no way to take a revocation
 * back: a new token is the way.
 *
 * Over `most` clients in a turn the rest is closed in the next ones.
 */
#ifndef VINHUB_CORE_REVOKED_H
#define VINHUB_CORE_REVOKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "core/client/tokens.h"

struct envelope;
struct hub;

/* How long it matters at most, s: what is valid for longer has to be revoked again. */
#define REVOKED_FOR_S (UINT64_C(30) * 24 * 3600)
/* Of an id or a subject. */
#define REVOKED_NAME_MAX 1024u
/* Revocations that a node keeps; some 200 bytes each. */
#define REVOKED_MAX 500000u

/* Whether the token is revoked. */
bool hub_token_revoked(const struct hub *hub, const struct token_facts *facts);

/* STATUS_OK: it is kept. STATUS_IO: the store did not say so: it holds on the nodes that heard of
 * it, which go on trying to write it. closed: clients on all nodes that answered; missing: nodes
 * that did not within a second. */
typedef void hub_revoked_fn(void *ctx, enum status status, uint64_t closed,
                            const char *const *missing, size_t missing_len);
/*
 * Revokes what is chosen; its name has 1 to REVOKED_NAME_MAX bytes. done is called once, in a later
 * turn, within about two seconds. STATUS_LIMIT: too many are kept, or too much is asked for at
 * once; done is not called then.
 */
MUST_USE enum status hub_revoke(struct hub *hub, const struct token_choice *choice,
                                hub_revoked_fn *done, void *ctx);

void revoked_new(struct hub *hub);
void revoked_free(struct hub *hub);
void revoked_on_connected(struct hub *hub);
void revoked_on_revoke(struct hub *hub, const struct envelope *envelope);
void revoked_on_stored(struct hub *hub, uint64_t tag, enum status status);

#endif
