/*
 * Which server a key or a channel is on: one server, the primary that Sentinel names, or the
 * primaries of a cluster.
 *
 * It owns the connections to them. Answers to ops and messages of channels come from all of them as
 * from one.
 */
#ifndef VINHUB_BUS_REDIS_TOPOLOGY_H
#define VINHUB_BUS_REDIS_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/redis_primary.h"

struct redis_topology;

struct redis_topology_events {
    /* Commands can be sent (again). */
    void (*on_open)(void *ctx);
    /* They can't; or, followed by on_open at once, some server was away and its data may have
     * changed. */
    void (*on_closed)(void *ctx);
};

/* setup is referenced. inbox: the channel whose probe heard_ms speaks of; subscribed before all
 * others. Connecting starts with the next turn. */
struct redis_topology *redis_topology_new(const struct redis_setup *setup, const char *inbox,
                                          const struct redis_topology_events *events, void *ctx);
void redis_topology_free(struct redis_topology *topology);

void redis_topology_send(struct redis_topology *topology, struct redis_op *op, const char *key);
/* How many bytes of requests should still be sent to the server of the key; 0: none for now. */
size_t redis_topology_credit(struct redis_topology *topology, const char *key);
/* Once after that said 0, where there is some again. */
bool redis_topology_has_credit_again(struct redis_topology *topology);
void redis_topology_subscribe(struct redis_topology *topology, const char *channel);
void redis_topology_unsubscribe(struct redis_topology *topology, const char *channel);
uint64_t redis_topology_heard_ms(const struct redis_topology *topology);
void redis_topology_flush(struct redis_topology *topology);

#endif
