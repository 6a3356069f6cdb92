/*
 * Which SENDs went upstream in sessions that nobody has any more: a client that comes back within
 * five minutes must not send one twice (contract section 6), whichever node it comes to.
 *
 * Who releases a session tells all nodes; who opens it next begins with what it was told. Bounded
 * in time and number. A message that is lost costs that one node its memory, nobody else.
 */
#ifndef VINHUB_CORE_KEPT_SENDS_H
#define VINHUB_CORE_KEPT_SENDS_H

#include "core/state.h"

/* The session is about to be released here. */
void kept_sends_tell(struct session *session);
/* Another node has released it. session: where this node has a part in it, else NULL. */
void kept_sends_on_told(struct hub *hub, struct session *session, const struct envelope *envelope);
/* This node owns it from now on. */
void kept_sends_adopt(struct session *session);
void kept_sends_free_all(struct hub *hub);

#endif
