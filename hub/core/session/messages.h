/*
 * What other nodes say of a session, and what its push channel brings: read here, and passed to who
 * it means something for.
 */
#ifndef VINHUB_CORE_SESSION_MESSAGES_H
#define VINHUB_CORE_SESSION_MESSAGES_H

#include "core/session/state.h"

/* A message of the push channel of a session that is here. Returns false where it is none that
 * concerns its stream or owner. */
bool messages_on_channel(struct session *session, const struct envelope *envelope);
/* A message of the inbox; session is NULL where this node has no part in it. Returns false where
 * its type is none of a session's. */
bool messages_on_inbox(struct hub *hub, struct session *session, const struct envelope *envelope);
/* The push channel is heard from now on. */
void messages_on_subscribed(struct session *session);

#endif
