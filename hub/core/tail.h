/*
 * Observers: operators that follow the messages of a session.
 *
 * Where this node has part in the session, they get what its clients get. Where not, the push
 * channel is heard for them, which carries what the owner has to tell others: nothing for a session
 * without history that is watched from one node only. An observer opens no session and keeps none
 * open.
 */
#ifndef VINHUB_CORE_TAIL_H
#define VINHUB_CORE_TAIL_H

#include "common/envelope.h"
#include "core/state.h"

/* What the clients of the session get in this turn. */
void tail_batch(struct session *session, const struct pubs *batch);
/* A message of a push channel whose session is not on this node. */
void tail_on_push(struct hub *hub, const struct envelope *envelope);
/* The answer to a reading of history; false where it was not asked for here. */
bool tail_on_history(struct hub *hub, uint64_t tag, struct publication *const *publications,
                     size_t len);
/* Whether the push channel is to be heard when the session ends. */
bool tail_wants(const struct hub *hub, const char *session_id);

#endif
