/*
 * Slots of a Redis Cluster: which one a key or channel has, and which primary serves each.
 */
#ifndef VINHUB_BUS_REDIS_SLOTS_H
#define VINHUB_BUS_REDIS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

#endif
