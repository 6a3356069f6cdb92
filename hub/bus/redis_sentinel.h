/*
 * Asks Sentinels where the primary is: one after the other until one knows, then that one again and
 * again.
 *
 * The answer is believed, also where the connection to the old primary still works: a primary that
 * was cut off from its Sentinels is none.
 */
#ifndef VINHUB_BUS_REDIS_SENTINEL_H
#define VINHUB_BUS_REDIS_SENTINEL_H

#include <stdint.h>

#include "bus/redis_link.h"
#include "common/redis_url.h"

struct redis_sentinel;

/* Called with each answer, changed or not. */
typedef void redis_sentinel_fn(void *ctx, const char *host, uint16_t port);

struct redis_sentinel *redis_sentinel_new(const struct redis_link_options *link,
                                          redis_sentinel_fn *on_primary, void *ctx);
void redis_sentinel_free(struct redis_sentinel *sentinel); /* NULL is allowed */
/* Asks now, where the next asking is further away. */
void redis_sentinel_ask(struct redis_sentinel *sentinel);

#endif
