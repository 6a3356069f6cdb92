/*
 * The subscription connection to one server.
 *
 * Keeps which channels are wanted, and makes it so on each new connection: in the order in which
 * they were added, in batches, so that 100,000 of them neither block the loop nor fill a buffer. A
 * channel is confirmed where the answer to its last request has come.
 */
#ifndef VINHUB_BUS_REDIS_SUBSCRIPTIONS_H
#define VINHUB_BUS_REDIS_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/redis_link.h"
#include "common/envelope.h"

struct redis_subscriptions;

struct redis_subscriptions_events {
    /* The channel is heard from now on; comes after each (re)subscription. */
    void (*on_subscribed)(void *ctx, const char *channel);
    void (*on_message)(void *ctx, const char *channel, struct slice message);
    /* The user has no right to the channel; it is asked for again, with a back-off. */
    void (*on_refused)(void *ctx, const char *channel, const char *error);
    /* The connection is gone: nothing is heard. */
    void (*on_silence)(void *ctx);
    /* The server of a cluster refused a channel, or dropped it: it is on another one. */
    void (*on_misplaced)(void *ctx);
};

/* sharded: SSUBSCRIBE, of a cluster. */
struct redis_subscriptions *redis_subscriptions_new(const struct redis_link_options *link,
                                                    bool sharded,
                                                    const struct redis_subscriptions_events *events,
                                                    void *ctx);
void redis_subscriptions_free(struct redis_subscriptions *subscriptions);
struct redis_link *redis_subscriptions_link(struct redis_subscriptions *subscriptions);

void redis_subscriptions_add(struct redis_subscriptions *subscriptions, const char *channel);
void redis_subscriptions_remove(struct redis_subscriptions *subscriptions, const char *channel);
/* Asks again for channels that were refused. */
void redis_subscriptions_retry(struct redis_subscriptions *subscriptions);
/* Sends what the turn has changed. */
void redis_subscriptions_flush(struct redis_subscriptions *subscriptions);

#endif
