/*
 * Slots of a Redis Cluster: which one a key or channel has, which primary serves each by the words
 * of a server, and the refresh of that map: servers are asked for it one after the other until one
 * answers, then that one again and again.
 */
#ifndef VINHUB_BUS_REDIS_SLOT_MAP_H
#define VINHUB_BUS_REDIS_SLOT_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/redis_link.h"

#define REDIS_SLOTS 16384

struct redisReply;

/* CRC16 (XMODEM) of what stands between the first braces, or of the whole (Redis Cluster
 * specification, "hash tags"). */
uint16_t redis_slot_of(const char *key);

/* Calls fn for each range of a CLUSTER SLOTS reply; a host that the server does not know of itself
 * comes as fallback. False: the reply is of another form, and fn may have been called for a part of
 * it. */
typedef void redis_slot_range_fn(void *ctx, uint16_t first, uint16_t last, const char *host,
                                 uint16_t port);
bool redis_slots_read(const struct redisReply *reply, const char *fallback, redis_slot_range_fn *fn,
                      void *ctx);

/* Reads "MOVED SLOT HOST:PORT" or "ASK SLOT HOST:PORT"; an empty host comes as "". */
bool redis_redirect_read(const char *error, char *host, size_t size, uint16_t *port);

struct redisReply;
struct redis_slot_map_refresh;

/* reply: of CLUSTER SLOTS, not an error; host: of the server that answered. Both live during the
 * call. */
typedef void redis_slot_map_fn(void *ctx, const struct redisReply *reply, const char *host);

struct redis_slot_map_refresh *redis_slot_map_refresh_new(const struct redis_link_options *link,
                                                          redis_slot_map_fn *on_slots, void *ctx);
void redis_slot_map_refresh_free(struct redis_slot_map_refresh *refresh);
/* Asks now, where the next asking is further away. */
void redis_slot_map_ask(struct redis_slot_map_refresh *refresh);
/* What this one knows is of no use: asks the next. */
void redis_slot_map_ask_another(struct redis_slot_map_refresh *refresh);
/* A server to turn to where those of the URL are all gone; the latest few are kept. */
void redis_slot_map_learn(struct redis_slot_map_refresh *refresh, const char *host, uint16_t port);

#endif
