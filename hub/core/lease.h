/*
 * This node's own lease: registration, renewal, and fencing when it runs out.
 *
 * The lease counts from the moment before its renewal was sent and only while the inbox has been
 * heard within a lease. A margin before its end the node fences itself: upstreams are reset,
 * nothing is published, nothing is written.
 */
#ifndef VINHUB_CORE_LEASE_H
#define VINHUB_CORE_LEASE_H

#include "core/state.h"

void lease_start(struct hub *hub);
void lease_stop(struct hub *hub);
/* Fences where the lease has run out by now_ms. */
void lease_check(struct hub *hub, uint64_t now_ms);
/* May this node open upstreams and claim sessions now? */
/* Why the node is not ready: its state, and what the bus says of Redis. */
void lease_why_not(const struct hub *hub, char *out, size_t size);
bool lease_valid(const struct hub *hub);
void lease_on_connected(struct hub *hub);
/* Two processes that start at the same moment under one id both find it free: by their HELLO the
 * later of them knows, and goes. */
void lease_on_hello(struct hub *hub, const struct envelope *hello);
void lease_on_renewed(struct hub *hub, uint64_t tag, enum status status, bool present,
                      const struct bus_node *nodes, size_t len);
/* One setter of the node's state. */
void node_set_state(struct hub *hub, enum node_state state);

#endif
