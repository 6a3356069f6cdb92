/*
 * Asks the Sentinels where the primary is, once a second and whenever something fails.
 *
 * One Sentinel's word needs a second one: it may be cut off from the others, or know nothing of the
 * latest fail-over. Those of the URL are asked and those that they name, all the time. Only where
 * no more than one is known or ever answered does one alone count.
 */
#ifndef VINHUB_BUS_REDIS_SENTINEL_H
#define VINHUB_BUS_REDIS_SENTINEL_H

#include <stdint.h>

#include "bus/redis_link.h"

struct redis_sentinel;

/* The primary, each time the Sentinels agree on it. */
typedef void redis_sentinel_fn(void *ctx, const char *host, uint16_t port);

/* link: loop, url, tls, deadline, trouble. own: user and password of the Sentinels themselves;
 * where it has none, one that asks for some gets those of the URL. Starts at once. */
struct redis_sentinel *redis_sentinel_new(const struct redis_link_options *link,
                                          const struct redis_url *own,
                                          redis_sentinel_fn *on_primary, void *ctx);
void redis_sentinel_free(struct redis_sentinel *sentinel); /* NULL is allowed */

/* Now, rather than within a second: the primary does not answer. */
void redis_sentinel_ask(struct redis_sentinel *sentinel);
/* The primary is there: what Sentinels say is no cause of trouble. */
void redis_sentinel_settle(struct redis_sentinel *sentinel);

#endif
