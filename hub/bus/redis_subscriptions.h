/*
 * The subscription connection to one server.
 *
 * Keeps the set of wanted channels and subscribes to them on each new connection: in the order in
 * which they were added, and in batches, so that 100,000 channels neither block the loop nor fill a
 * buffer. A channel is confirmed when the answer to its latest request has come.
 *
 *   add    -> dirty -> SUBSCRIBE sent -> confirmed: on_subscribed
 *                        |-> no right: refused, on_refused; dirty again after a back-off
 *                        `-> on another server of the cluster: on_misplaced
 *   remove -> dirty -> UNSUBSCRIBE sent -> confirmed: freed
 *
 *   connection lost -> on_silence; on the next connection each wanted channel is dirty again
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
    /* Messages of the channel arrive from now on; comes after each (re)subscription. */
    void (*on_subscribed)(void *ctx, const char *channel);
    void (*on_message)(void *ctx, const char *channel, struct slice message);
    /* The user has no right to the channel. The subscription is tried again with a back-off. */
    void (*on_refused)(void *ctx, const char *channel, const char *error);
    /* The connection is gone: no message arrives. */
    void (*on_silence)(void *ctx);
    /* A server of a cluster refused or dropped a channel, which belongs to another server. */
    void (*on_misplaced)(void *ctx);
};

/* sharded: a cluster, so SSUBSCRIBE is used. */
struct redis_subscriptions *redis_subscriptions_new(const struct redis_link_options *link,
                                                    bool sharded,
                                                    const struct redis_subscriptions_events *events,
                                                    void *ctx);
void redis_subscriptions_free(struct redis_subscriptions *subscriptions);
struct redis_link *redis_subscriptions_link(struct redis_subscriptions *subscriptions);

void redis_subscriptions_add(struct redis_subscriptions *subscriptions, const char *channel);
void redis_subscriptions_remove(struct redis_subscriptions *subscriptions, const char *channel);
/* Subscribes again to channels that were refused. */
void redis_subscriptions_retry(struct redis_subscriptions *subscriptions);
/* Sends the requests for channels that were added or removed in this turn. */
void redis_subscriptions_flush(struct redis_subscriptions *subscriptions);

#endif
