/*
 * What the files of the cluster as Redis alone shows it share.
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

/* "prefix" middle id end. The caller frees. */
char *source_redis_key(const struct source_redis *redis, const char *middle, const char *id,
                       const char *end);
/* The same for a channel, whose prefix names the database as well. */
char *source_redis_channel(const struct source_redis *redis, const char *middle, const char *id,
                           const char *end);
/* Keeps the error text of the connection. */
enum status source_redis_fail(struct source_redis *redis);
/* Runs a command of words; NULL where it failed, said in source->why. */
redisReply *source_redis_run(struct source_redis *redis, size_t len, const char **words);
/* STATUS_NOT_FOUND where nobody listens. */
enum status source_redis_send(struct source_redis *redis, const char *channel,
                              const struct envelope *envelope);

/* Of struct source_ops. */
enum status source_redis_nodes(struct ctl_source *source, json_t **out);
/* --- source_redis_clients.c */
enum status source_redis_clients(struct ctl_source *source, const json_t *filter, json_t **out);
enum status source_redis_kick(struct ctl_source *source, const json_t *filter, json_t **out);
enum status source_redis_revoke(struct ctl_source *source, const json_t *token, json_t **out);

#endif
