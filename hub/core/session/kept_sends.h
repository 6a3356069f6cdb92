/*
 * Which SENDs went upstream in sessions that nobody has any more: a client that comes back within
 * five minutes must not send one twice (contract section 6), whichever node it comes to.
 *
 * The node that releases a session sends them to all nodes; each takes them over when it has
 * clients of it again. A node whose clients leave a session of another owner keeps what it knows.
 * Bounded in time and number. A message that is lost costs that one node its memory, nobody else.
 */
#ifndef VINHUB_CORE_SESSION_KEPT_SENDS_H
#define VINHUB_CORE_SESSION_KEPT_SENDS_H

#include "common/node_messages.h"
#include "core/node/node.h"

#define SENDS_A_SESSION 1000 /* of one session: those of last use */

void kept_sends_new(struct hub *hub);
void kept_sends_free(struct hub *hub);
/* A session was released, here or elsewhere, or ended here: items of kind SEND and EXPIRED, as
 * SENDS has them. */
void kept_sends_keep(struct hub *hub, struct slice id, struct message_items sends);
/* This node has the session from now on: note is called for each item that is kept, which is then
 * forgotten here. */
void kept_sends_take(struct hub *hub, struct slice id,
                     void (*note)(struct session *session, const struct envelope_item *item),
                     struct session *session);

#endif
