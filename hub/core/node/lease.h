/*
 * This node's own lease: registration, renewal, and that it runs out.
 *
 * The lease counts from the moment before its renewal was sent and only while the inbox has been
 * heard within a lease. A margin before its end the node may not act any more (act_until_ms of
 * struct hub). One function acts on it: lease_enforce, at the seams of a turn.
 *
 *   LOOKING -> REGISTERING -> HELD <---------> LAPSED
 *                               '-> FENCING ---'
 *
 *   LOOKING      the own id may be another process'
 *   REGISTERING  the first renewal is under way
 *   HELD         each renewal that is answered makes it longer
 *   FENCING      the margin before its end has begun: upstreams are reset, in portions
 *   LAPSED       it ran out: others may take this node for dead
 *
 * A renewal that is answered while FENCING counts when that is over, so that nothing is written to
 * an upstream which is still to be reset.
 */
#ifndef VINHUB_CORE_NODE_LEASE_H
#define VINHUB_CORE_NODE_LEASE_H

#include "core/node/node.h"

struct lease_events {
    /* It ran out: others may take this node for dead now and forget what they had of it. */
    void (*lapsed)(struct hub *hub);
    /* And with on_loss fence: upstreams are to be reset, a portion a turn. Whoever does that calls
     * lease_fence_is_over at the end. After lapsed. */
    void (*fence)(struct hub *hub);
    /* No time is left for portions: all that are left are reset before this returns. */
    void (*fence_rest)(struct hub *hub);
    /* There is a lease, for the first time or again. */
    void (*back)(struct hub *hub);
    /* A renewal did not find the own entry: the store has lost data. */
    void (*emptied)(struct hub *hub);
};

void lease_new(struct hub *hub, const struct lease_events *events);
void lease_free(struct hub *hub);
void lease_start(struct hub *hub);
void lease_stop(struct hub *hub);
/* Acts where the lease has run out by now_ms, which becomes the time of this turn. */
void lease_enforce(struct hub *hub, uint64_t now_ms);
/* All upstreams are reset. */
void lease_fence_is_over(struct hub *hub);
/* Upstreams are being reset: what they still deliver does not count. */
bool lease_is_fencing(const struct hub *hub);
/* Why the node is not ready: its state, and what the bus says of Redis. */
void lease_why_not(const struct hub *hub, char *out, size_t size);
void lease_on_connected(struct hub *hub);
/* Two processes that start at the same moment under one id both find it free: by their HELLO the
 * later of them knows, and goes. */
void lease_on_hello(struct hub *hub, const struct envelope *hello);
void lease_on_renewed(struct hub *hub, uint64_t tag, enum status status, bool present,
                      const struct bus_node *nodes, size_t len);
/* Asserts what must hold. */
void lease_check(const struct hub *hub);

#endif
