/*
 * Redis for vinhubctl: hiredis's synchronous calls, one server, Sentinel or Cluster; names and TLS
 * are the hub's.
 *
 * Connects when it is first needed. In a Cluster it follows MOVED to the right server and keeps
 * each connection; channels are sharded there, as the hub's are.
 */
#ifndef VINHUB_CTL_CTL_REDIS_H
#define VINHUB_CTL_CTL_REDIS_H

#include <hiredis/hiredis.h>
#include <stddef.h>

#include "common/status.h"
#include "loop/tls_context.h"

struct ctl_redis;
struct redis_url;

/* client: for rediss; its texts outlive the redis. STATUS_INVALID: not a URL of Redis. */
MUST_USE enum status ctl_redis_new(const char *url, const struct tls_client *client,
                                   struct ctl_redis **out);
void ctl_redis_free(struct ctl_redis *redis);
const struct redis_url *ctl_redis_url(const struct ctl_redis *redis);
/* What failed last, one line. */
const char *ctl_redis_why(const struct ctl_redis *redis);

/* Runs one command; lens may be NULL for words that are texts. NULL on failure; the caller frees
 * the reply. */
redisReply *ctl_redis_run(struct ctl_redis *redis, size_t len, const char **words,
                          const size_t *lens);
/* HGETALL of each key; on STATUS_OK replies are the caller's. */
MUST_USE enum status ctl_redis_hgetall(struct ctl_redis *redis, char *const *keys, size_t len,
                                       redisReply **replies);
/* The number of receivers, or -1. */
long long ctl_redis_publish(struct ctl_redis *redis, const char *channel, const void *data,
                            size_t len);

/* Hears a channel on a connection of its own, one at a time. */
MUST_USE enum status ctl_redis_subscribe(struct ctl_redis *redis, const char *channel);
/* The next message; data lives until the next call. STATUS_TIMEOUT: none came. */
MUST_USE enum status ctl_redis_receive(struct ctl_redis *redis, int wait_ms, const void **data,
                                       size_t *len);
/* Whether the subscription is still there. */
MUST_USE enum status ctl_redis_probe(struct ctl_redis *redis, int wait_ms);

/* Base64 of bytes; the caller frees. */
char *ctl_redis_base64(const void *data, size_t len);

#endif
