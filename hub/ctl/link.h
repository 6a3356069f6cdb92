/*
 * Redis for vinhubctl: hiredis's synchronous calls, one server, Sentinel or Cluster; names and TLS
 * are the hub's.
 *
 * Connects when it is first needed. In a Cluster it follows MOVED to the right server and keeps
 * each connection; channels are sharded there, as the hub's are.
 */
#ifndef VINHUB_CTL_LINK_H
#define VINHUB_CTL_LINK_H

#include <hiredis/hiredis.h>
#include <stddef.h>

#include "common/status.h"
#include "loop/tls_context.h"

struct link;
struct redis_url;

/* client: for rediss; its texts outlive the link. STATUS_INVALID: not a URL of Redis. */
MUST_USE enum status link_new(const char *url, const struct tls_client *client, struct link **out);
void link_free(struct link *link);
const struct redis_url *link_url(const struct link *link);
/* What failed last, one line. */
const char *link_why(const struct link *link);

/* Runs one command; lens may be NULL for words that are texts. NULL on failure; the caller frees
 * the reply. */
redisReply *link_run(struct link *link, size_t len, const char **words, const size_t *lens);
/* HGETALL of each key; on STATUS_OK replies are the caller's. */
MUST_USE enum status link_hgetall(struct link *link, char *const *keys, size_t len,
                                  redisReply **replies);
/* The number of receivers, or -1. */
long long link_publish(struct link *link, const char *channel, const void *data, size_t len);

/* Hears a channel on a connection of its own, one at a time. */
MUST_USE enum status link_subscribe(struct link *link, const char *channel);
/* The next message; data lives until the next call. STATUS_TIMEOUT: none came. */
MUST_USE enum status link_receive(struct link *link, int wait_ms, const void **data, size_t *len);
/* Whether the subscription is still there. */
MUST_USE enum status link_probe(struct link *link, int wait_ms);

/* Base64 of bytes; the caller frees. */
char *link_base64(const void *data, size_t len);

#endif
