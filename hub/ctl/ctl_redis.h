/*
 * Redis for vinhubctl, with the blocking calls of hiredis: one server, Sentinel or Cluster. Names
 * are resolved and TLS is set up as in the hub.
 *
 * It connects when the first command is run. In a Cluster it follows MOVED to the right server and
 * keeps each connection; channels are sharded there, as in the hub.
 */
#ifndef VINHUB_CTL_CTL_REDIS_H
#define VINHUB_CTL_CTL_REDIS_H

#include <hiredis/hiredis.h>
#include <stddef.h>

#include "common/status.h"
#include "loop/tls_context.h"

struct ctl_redis;
struct redis_url;

/* client: for rediss; its texts must live as long as *out. STATUS_INVALID: not a Redis URL. */
MUST_USE enum status ctl_redis_new(const char *url, const struct tls_client *client,
                                   struct ctl_redis **out);
void ctl_redis_free(struct ctl_redis *redis);
const struct redis_url *ctl_redis_url(const struct ctl_redis *redis);
/* The cause of the latest failure, one line. */
const char *ctl_redis_why(const struct ctl_redis *redis);

/* Runs one command and returns the reply, which the caller frees; NULL on failure. lens may be NULL
 * if all words are texts. */
redisReply *ctl_redis_run(struct ctl_redis *redis, size_t len, const char **words,
                          const size_t *lens);
/* HGETALL of each key. On STATUS_OK the caller frees the replies. */
MUST_USE enum status ctl_redis_hgetall(struct ctl_redis *redis, char *const *keys, size_t len,
                                       redisReply **replies);
/* The number of receivers, or -1. */
long long ctl_redis_publish(struct ctl_redis *redis, const char *channel, const void *data,
                            size_t len);

/* Subscribes to a channel on a connection of its own. A new subscription replaces the one before.
 */
MUST_USE enum status ctl_redis_subscribe(struct ctl_redis *redis, const char *channel);
/* The next message; data is valid until the next call. STATUS_TIMEOUT: none came within wait_ms. */
MUST_USE enum status ctl_redis_receive(struct ctl_redis *redis, int wait_ms, const void **data,
                                       size_t *len);
/* Checks that the connection of the subscription still answers. */
MUST_USE enum status ctl_redis_probe(struct ctl_redis *redis, int wait_ms);

/* Base64 of bytes; the caller frees. */
char *ctl_redis_base64(const void *data, size_t len);

#endif
