/*
 * Observers: operators that follow the messages of a session.
 *
 * Where this node has part in the session, they get what its clients get. Where not, the push
 * channel is heard for them, which carries what the owner sends to others: nothing for a session
 * without history that is watched from one node only. An observer opens no session and keeps none
 * open.
 */
#ifndef VINHUB_CORE_TAIL_H
#define VINHUB_CORE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"

struct envelope;
struct hub;
struct pubs;
struct session;

/*
 * Follows the publications of a session without being its client (above: what of them):
 * fn runs for each, in order, from within a later turn's events or its end, and may not call back
 * into the hub. With an epoch in after, those that are kept of what follows that position come
 * first. Closed before hub_free.
 */
struct hub_tail;
typedef void hub_tail_fn(void *ctx, const struct publication *publication);
struct hub_tail *hub_tail_open(struct hub *hub, const char *session_id, struct position after,
                               hub_tail_fn *fn, void *ctx);
void hub_tail_close(struct hub_tail *tail);

/* The observers get what the clients of the session get in this turn. */
void tail_batch(struct session *session, const struct pubs *batch);
/* A message of a push channel whose session is not on this node. */
void tail_on_push(struct hub *hub, const struct envelope *envelope);
/* The answer to a reading of history; false where it was not asked for here. */
bool tail_on_history(struct hub *hub, uint64_t tag, struct publication *const *publications,
                     size_t len);
/* A session ends on this node: unsubscribes from its push channel, unless an observer needs it. */
void tail_session_ended(struct session *session);

#endif
