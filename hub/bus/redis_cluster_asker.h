/*
 * Asks servers of a cluster for its map of slots, one after the other until one answers, then that
 * one again and again.
 */
#ifndef VINHUB_BUS_REDIS_CLUSTER_ASKER_H
#define VINHUB_BUS_REDIS_CLUSTER_ASKER_H

#include <stdint.h>

#include "bus/redis_link.h"

struct redisReply;
struct redis_cluster_asker;

/* reply: of CLUSTER SLOTS, not an error; host: of the server that answered. Both live during the
 * call. */
typedef void redis_cluster_asker_fn(void *ctx, const struct redisReply *reply, const char *host);

struct redis_cluster_asker *redis_cluster_asker_new(const struct redis_link_options *link,
                                                    redis_cluster_asker_fn *on_slots, void *ctx);
void redis_cluster_asker_free(struct redis_cluster_asker *asker);
/* Asks now, where the next asking is further away. */
void redis_cluster_ask(struct redis_cluster_asker *asker);
/* What this one knows is of no use: asks the next. */
void redis_cluster_ask_another(struct redis_cluster_asker *asker);
/* A server to turn to where those of the URL are all gone; the latest few are kept. */
void redis_cluster_asker_learn(struct redis_cluster_asker *asker, const char *host, uint16_t port);

#endif
