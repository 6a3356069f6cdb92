/*
 * The server for a key or a channel: the only server, the primary that the Sentinels name, or one
 * of the primaries of a cluster.
 *
 * The topology owns the connections to the servers. The bus sees the answers and messages of all of
 * them as those of one server.
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
    /* Commands can't be sent any more. If on_open follows at once, a server was away for a while
     * and its data may have changed. */
    void (*on_closed)(void *ctx);
};

/* setup must live as long as the topology. inbox: the channel of the probe
 * (redis_topology_heard_ms), subscribed before all others. Connecting starts with the next turn. */
struct redis_topology *redis_topology_new(const struct redis_setup *setup, const char *inbox,
                                          const struct redis_topology_events *events, void *ctx);
void redis_topology_free(struct redis_topology *topology);

void redis_topology_send(struct redis_topology *topology, struct redis_op *op, const char *key);
/* Nothing that was sent over an earlier connection is carried out any more; false in a cluster,
 * whose redirections may also turn the order round. */
bool redis_topology_keeps_order(const struct redis_topology *topology);
/* How many bytes of requests should still be sent to the server of the key; 0: none for now. */
size_t redis_topology_credit(struct redis_topology *topology, const char *key);
/* True once after redis_topology_credit has returned 0, when there is credit again. */
bool redis_topology_has_credit_again(struct redis_topology *topology);
void redis_topology_subscribe(struct redis_topology *topology, const char *channel);
void redis_topology_unsubscribe(struct redis_topology *topology, const char *channel);
uint64_t redis_topology_heard_ms(const struct redis_topology *topology);
void redis_topology_flush(struct redis_topology *topology);

#endif
