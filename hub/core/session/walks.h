/*
 * All sessions of a node: what happens to the node means something for each of them.
 *
 * Where many may be concerned they are walked in portions, a budget a turn, so that no turn waits
 * for ten thousand; a session that is not reached yet knows that by itself (its record is
 * unproven; the node may not write). Only where the lease is over, or nearly, all upstreams are
 * reset at once.
 */
#ifndef VINHUB_CORE_SESSION_WALKS_H
#define VINHUB_CORE_SESSION_WALKS_H

#include "core/node/drain.h"
#include "core/node/lease.h"
#include "core/session/state.h"

/* The node's sessions: none yet. on_ended: see struct sessions. */
void walks_new(struct hub *hub, const struct audience_events *audience,
               void (*on_ended)(struct session *session));
/* Frees them all, without a word to anybody. */
void walks_free(struct hub *hub);

/* Each walk has its next portion in the next turn. */
void walks_turn_over(struct hub *hub);
void walks_on_connected(struct hub *hub);
void walks_on_disconnected(struct hub *hub);
/* A new configuration is in force: clients of a removed service are closed with 1001. */
void walks_on_reload(struct hub *hub);
/* Asserts what must hold of all sessions. */
void walks_check(const struct hub *hub);

extern const struct lease_events walks_lease_events;
extern const struct drain_events walks_drain_events;

#endif
