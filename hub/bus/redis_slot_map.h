/*
 * The slots of a Redis Cluster: the slot of a key or channel, the map of slots to primaries as a
 * server reports it, and the refresh of this map. Servers are asked one after the other until one
 * answers; that one is then asked each second.
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

/* Calls fn for each range of a CLUSTER SLOTS reply. A server may not know its own host name:
 * fallback is passed instead. Returns false if the reply has another form; fn may have been called
 * for some ranges. */
typedef void redis_slot_range_fn(void *ctx, uint16_t first, uint16_t last, const char *host,
                                 uint16_t port);
bool redis_slots_read(const struct redisReply *reply, const char *fallback, redis_slot_range_fn *fn,
                      void *ctx);

/* Reads "MOVED SLOT HOST:PORT" or "ASK SLOT HOST:PORT"; host may become "". */
bool redis_redirect_read(const char *error, char *host, size_t size, uint16_t *port);

struct redis_slot_map_refresh;

/* reply: to CLUSTER SLOTS, not an error; host: that of the server that answered. Both are valid
 * during the call. */
typedef void redis_slot_map_fn(void *ctx, const struct redisReply *reply, const char *host);

struct redis_slot_map_refresh *redis_slot_map_refresh_new(const struct redis_link_options *link,
                                                          redis_slot_map_fn *on_slots, void *ctx);
void redis_slot_map_refresh_free(struct redis_slot_map_refresh *refresh);
/* Asks for the map now instead of at the next interval. */
void redis_slot_map_ask(struct redis_slot_map_refresh *refresh);
/* The map of the present server can't be used: asks the next server. */
void redis_slot_map_ask_another(struct redis_slot_map_refresh *refresh);
/* Adds a server that is asked after the hosts of the URL; the latest few are kept. */
void redis_slot_map_learn(struct redis_slot_map_refresh *refresh, const char *host, uint16_t port);

#endif
