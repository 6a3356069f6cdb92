/*
 * Three primaries of a Redis Cluster, each with a replica where asked for.
 */
#ifndef VINHUB_TESTS_CONTRACT_REDIS_CLUSTER_SERVERS_H
#define VINHUB_TESTS_CONTRACT_REDIS_CLUSTER_SERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redis_server.h"

#define PRIMARIES 3

struct cluster_process {
    struct redis_server server;
    char bus_port[8];
    char id[64];
};

struct cluster_servers {
    struct cluster_process primaries[PRIMARIES];
    struct cluster_process replicas[PRIMARIES];
    bool replicated;
};

void cluster_servers_start(struct cluster_servers *cluster, bool replicated);
void cluster_servers_stop(struct cluster_servers *cluster);
/* Which primary has the slot by the layout at the start: a third each. */
size_t cluster_servers_of_slot(unsigned slot);
/* The steps of moving a slot, as redis-cli does them. */
void cluster_servers_begin_move(struct cluster_servers *cluster, unsigned slot, size_t from,
                                size_t to);
/* Moves one key of the slot; false when none is left. */
bool cluster_servers_move_key(struct cluster_servers *cluster, unsigned slot, size_t from,
                              size_t to);
void cluster_servers_end_move(struct cluster_servers *cluster, unsigned slot, size_t from,
                              size_t to);

#endif
