/*
 * Which server a key is on: the lanes to one server, to the primary that Sentinel names, or to the
 * primaries of a cluster.
 */
#ifndef VINHUB_BUS_REDIS_TOPOLOGY_H
#define VINHUB_BUS_REDIS_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/redis_lane.h"
#include "bus/redis_link.h"
#include "common/redis_url.h"

struct redis_topology;

struct redis_topology_events {
    void (*on_open)(void *ctx);   /* every server that is needed can be asked */
    void (*on_closed)(void *ctx); /* one can't */
    void (*on_progress)(void *ctx);
};

struct redis_topology_options {
    struct redis_lane_options lane; /* link.name and link.url of it are the topology's to set */
    const struct redis_url *url;
};

struct redis_topology *redis_topology_new(const struct redis_topology_options *options,
                                          const struct redis_topology_events *events, void *ctx);
void redis_topology_free(struct redis_topology *topology);

void redis_topology_start(struct redis_topology *topology);
void redis_topology_send(struct redis_topology *topology, struct redis_op *op, const char *key);
void redis_topology_flush(struct redis_topology *topology);
/* The monotonic ms since when every server can be asked; 0: one can't. */
uint64_t redis_topology_open_ms(const struct redis_topology *topology);
/* Where the subscriptions of a channel connect: of a lone server the one of the lane. */
void redis_topology_place(const struct redis_topology *topology, const char **host, uint16_t *port);

#endif
