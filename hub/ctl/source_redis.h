/*
 * Shared by the files of the source that asks Redis.
 */
#ifndef VINHUB_CTL_SOURCE_REDIS_H
#define VINHUB_CTL_SOURCE_REDIS_H

#include "common/envelope.h"
#include "common/redis_url.h"
#include "ctl.h"
#include "ctl_redis.h"

struct source_redis {
    struct ctl_source source; /* first */
    struct ctl_redis *connection;
    char *prefix;
    char channel_prefix[REDIS_CHANNEL_PREFIX_BYTES];
};

/* A key: prefix, middle, id and end joined. The caller frees. */
char *source_redis_key(const struct source_redis *redis, const char *middle, const char *id,
                       const char *end);
/* The same for a channel, whose prefix also contains the database. */
char *source_redis_channel(const struct source_redis *redis, const char *middle, const char *id,
                           const char *end);
/* Copies the error text of the connection to source->why; returns STATUS_IO. */
enum status source_redis_fail(struct source_redis *redis);
/* Runs a command; NULL: it failed, source->why has the cause. */
redisReply *source_redis_run(struct source_redis *redis, size_t len, const char **words);
/* STATUS_NOT_FOUND: no node is subscribed to the channel. */
enum status source_redis_send(struct source_redis *redis, const char *channel,
                              const struct envelope *envelope);

/* See struct source_ops. */
enum status source_redis_nodes(struct ctl_source *source, json_t **out);
/* --- source_redis_clients.c */
enum status source_redis_clients(struct ctl_source *source, const json_t *filter, json_t **out);
enum status source_redis_kick(struct ctl_source *source, const json_t *filter, json_t **out);
enum status source_redis_revoke(struct ctl_source *source, const json_t *token, json_t **out);

#endif
