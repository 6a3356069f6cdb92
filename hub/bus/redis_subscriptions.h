/*
 * The subscription connection: this node's inbox and the push channels of its sessions.
 *
 * Keeps what is wanted, and makes it so on each new connection: the inbox first, then the channels
 * in batches, so that 100,000 of them neither block the loop nor fill a buffer. A channel is
 * confirmed where the answer to its last request has come.
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
    /* The inbox is heard from now on; comes after each connection. */
    void (*on_listening)(void *ctx);
    void (*on_subscribed)(void *ctx, const char *session);
    /* session: of a push channel, NULL for the inbox. */
    void (*on_message)(void *ctx, const char *session, struct slice message);
};

struct redis_subscriptions_options {
    struct redis_link_options link;
    const char *inbox;       /* the channel; copied */
    const char *push_prefix; /* what stands before "{SESSION}" in a push channel; copied */
    bool sharded;
};

struct redis_subscriptions *redis_subscriptions_new(
    const struct redis_subscriptions_options *options,
    const struct redis_subscriptions_events *events, void *ctx);
void redis_subscriptions_free(struct redis_subscriptions *subscriptions);
struct redis_link *redis_subscriptions_link(struct redis_subscriptions *subscriptions);

void redis_subscriptions_add(struct redis_subscriptions *subscriptions, const char *session);
void redis_subscriptions_remove(struct redis_subscriptions *subscriptions, const char *session);
/* Sends what the turn has changed. */
void redis_subscriptions_flush(struct redis_subscriptions *subscriptions);
/* Since when the inbox is subscribed on this connection, monotonic ms; 0: it is not. */
uint64_t redis_subscriptions_listening_ms(const struct redis_subscriptions *subscriptions);

#endif
