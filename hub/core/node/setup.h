/*
 * What the wiring gives a node, and what it wants to know of it.
 */
#ifndef VINHUB_CORE_NODE_SETUP_H
#define VINHUB_CORE_NODE_SETUP_H

#include <stdint.h>

#include "bus/bus.h"
#include "common/conf.h"
#include "core/ports.h"

enum node_state { NODE_STARTING, NODE_UP, NODE_DRAINING, NODE_FENCED, NODE_STOPPED };

/* All may be NULL. None may call back into the hub. */
struct hub_events {
    void (*on_state)(void *ctx, enum node_state state);
    /* A start under an id that another node holds: the node must exit 1. */
    void (*on_id_in_use)(void *ctx);
    /* All clients are gone and all sessions released after hub_drain. */
    void (*on_drained)(void *ctx);
    /* DRAIN was asked for over the bus. */
    void (*on_drain_asked)(void *ctx);
};

struct hub_setup {
    struct conf *conf; /* referenced */
    const char *node_id;
    uint64_t life; /* grows with each start of a node of this id: Unix time of start, ms */
    uint64_t seed; /* of jitter */
    const char *host, *version; /* for the node's record */
    uint64_t pid;
    struct bus *bus; /* borrowed; the hub listens to it */
    const struct upstream_ops *upstream_ops;
    void *upstream_ctx;
    const struct client_ops *client_ops;
    void *client_ctx;
    const struct hub_events *events;
    void *events_ctx;
    /* The clock that the write paths ask (contract: no write after the lease): CLOCK_BOOTTIME ms,
     * Unix ms. */
    uint64_t (*now_ms)(void *ctx);
    uint64_t (*unix_ms)(void *ctx);
    /* For the latency histogram, of the clock of received_us; NULL: none is kept */
    uint64_t (*now_us)(void *ctx);
    void *clock_ctx;
};

#endif
