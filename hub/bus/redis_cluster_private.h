/*
 * What the two files of the cluster share: its state. redis_cluster.c has the servers, ops and
 * channels, redis_cluster_map.c how a new map of slots comes into force.
 */
#ifndef VINHUB_BUS_REDIS_CLUSTER_PRIVATE_H
#define VINHUB_BUS_REDIS_CLUSTER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/redis_cluster.h"
#include "bus/redis_slot_map.h"
#include "common/hash.h"

struct cluster_server {
    struct redis_primary *primary;
    struct redis_cluster *cluster;
    char *host;
    uint16_t port;
    bool tried;        /* open, or failed at least once: no reason to wait for it */
    bool lost;         /* was away, or never there, while it was needed */
    bool mapped;       /* in the latest map, also one that is not installed yet */
    bool leaving;      /* freed at the end of the turn */
    uint64_t asked_ms; /* when a slot on its way here was asked for last */
    struct cluster_server *next;
};

/* A channel that is wanted, and where it is subscribed. */
struct cluster_channel {
    char *channel;
    uint16_t slot;
    struct cluster_server *server; /* NULL: nowhere yet */
    UT_hash_handle hh;
};

enum cluster_phase {
    PHASE_SETTLED,  /* ops go by the map */
    PHASE_ASKING,   /* a new map is awaited; new ops on slots that are not where it says are held */
    PHASE_OPENING,  /* its servers are tried */
    PHASE_DRAINING, /* what is in flight is awaited */
};

struct redis_cluster {
    const struct redis_setup *setup;
    const struct redis_topology_events *events;
    void *ctx;
    struct redis_slot_map_refresh *refresh;
    char *inbox;
    uint16_t inbox_slot;
    uint16_t home_slot; /* of the nodes: its server makes the bus connected or not */
    struct cluster_server *servers;
    struct cluster_server **map;  /* by slot */
    struct cluster_server **next; /* the one that is coming */
    bool mapped;                  /* map was installed */
    bool open;                    /* on_open was said */
    enum cluster_phase phase;
    uint64_t phase_ms, settled_ms;
    size_t barriers;
    bool moving[REDIS_SLOTS]; /* its ops are held until the map is settled */
    bool drains_again;        /* ops of a further slot were refused while others were awaited */
    struct redis_op_list bounced, held;
    size_t held_bytes;
    bool out_of_credit; /* credit was asked for while ops were held */
    struct cluster_channel *channels;
    struct loop_timer *timer;
    uint64_t heard_ms; /* of a server that had the inbox before */
    bool reopens;      /* when the map is settled: some data may have changed unseen */
    bool reaps, freeing;
};

/* The server at that place; a new one connects. */
struct cluster_server *cluster_server(struct redis_cluster *c, const char *host, uint16_t port);
/* Subscribes the channel where the map says. */
void cluster_place(struct redis_cluster *c, struct cluster_channel *channel);
/* Sends by the map. */
void cluster_route(struct redis_cluster *c, struct redis_op *op);

/* Says on_open or on_closed where that has changed. */
void cluster_update_open(struct redis_cluster *c);
/* Where some data may have changed unseen: says on_closed and on_open, once the map is settled. */
void cluster_reopen(struct redis_cluster *c);

/* A new map is wanted. */
void cluster_begin(struct redis_cluster *c);
/* The op was refused for its slot: it and all new ones of the slot are held until the new map. */
void cluster_bounce(struct redis_cluster *c, struct redis_op *op);
/* Goes on where what is awaited has come. */
void cluster_advance(struct redis_cluster *c);
/* A map has come: of the refresh. */
void cluster_on_slots(void *ctx, const struct redisReply *reply, const char *host);
/* The pause before asking, or the limit of how long ops are held. */
void cluster_on_timer(void *ctx);

#endif
