/*
 * The primaries of a Redis Cluster: a pipeline and a subscription connection to each, and the map
 * of slots between them.
 *
 * The map is asked for once a second, and when a server redirects. When it changes, new ops on the
 * slots that move are held, what is in flight at their servers is answered or bounced, and then all
 * that was bounced and held is sent by the new map: so the ops on one session keep their order
 * wherever its slot goes, and those on other sessions wait for nothing.
 */
#ifndef VINHUB_BUS_REDIS_CLUSTER_H
#define VINHUB_BUS_REDIS_CLUSTER_H

#include "bus/redis_topology.h"

struct redis_cluster;

struct redis_cluster *redis_cluster_new(const struct redis_setup *setup, const char *inbox,
                                        const struct redis_topology_events *events, void *ctx);
void redis_cluster_free(struct redis_cluster *cluster);

void redis_cluster_send(struct redis_cluster *cluster, struct redis_op *op, const char *key);
size_t redis_cluster_credit(struct redis_cluster *cluster, const char *key);
bool redis_cluster_has_credit_again(struct redis_cluster *cluster);
void redis_cluster_subscribe(struct redis_cluster *cluster, const char *channel);
void redis_cluster_unsubscribe(struct redis_cluster *cluster, const char *channel);
uint64_t redis_cluster_heard_ms(const struct redis_cluster *cluster);
void redis_cluster_flush(struct redis_cluster *cluster);

#endif
