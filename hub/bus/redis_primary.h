/*
 * One Redis primary as the bus uses it: the pipeline for commands, a second pipeline for commands
 * that count only after WAIT, the subscription connection, and the probe of that connection.
 *
 * The probe: a subscription connection may receive nothing although TCP is healthy. Each quarter of
 * a lease a message is published to a channel of this node over the pipeline. If no such message
 * comes back within a lease, the subscription connection is closed and made again.
 *
 *   place -> the pipeline connects and opens
 *     -> subscriptions and the second pipeline connect to the same address
 *     -> on_open, once both pipelines are open; subscriptions need not be
 *     -> one pipeline closes: the other is closed, too; on_closed
 */
#ifndef VINHUB_BUS_REDIS_PRIMARY_H
#define VINHUB_BUS_REDIS_PRIMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/redis_pipeline.h"
#include "bus/redis_subscriptions.h"

/* Events of all servers, for the bus. */
struct redis_receiver {
    /* Some ops have been finished. */
    void (*on_progress)(void *ctx);
    void (*on_subscribed)(void *ctx, const char *channel);
    void (*on_message)(void *ctx, const char *channel, struct slice message);
    /* The user has no right to the channel now. The subscription is tried again with a back-off. */
    void (*on_refused)(void *ctx, const char *channel, const char *error);
};

/* What all connections of a bus have in common. */
struct redis_setup {
    struct loop *loop;
    const struct redis_url *url;
    struct tls_context *tls;
    uint32_t lease_ms, deadline_ms, replicas;
    const char *prefix, *node;
    uint64_t life;
    bool sharded;
    const struct redis_url *sentinel; /* user and password of the Sentinels */
    struct redis_trouble *trouble;
    const struct redis_receiver *receiver;
    void *receiver_ctx;
};

struct redis_primary;

struct redis_primary_events {
    void (*on_open)(void *ctx, struct redis_primary *primary);
    void (*on_closed)(void *ctx, struct redis_primary *primary);
    /* See redis_pipeline.h; may be NULL. */
    bool (*on_redirect)(void *ctx, struct redis_op *op, const char *error);
    /* An attempt to connect the pipeline failed, or the pipeline closed. */
    void (*on_failed)(void *ctx, struct redis_primary *primary);
    /* A channel does not belong to this server (any more). */
    void (*on_misplaced)(void *ctx);
};

struct redis_primary *redis_primary_new(const struct redis_setup *setup,
                                        const struct redis_primary_events *events, void *ctx);
void redis_primary_free(struct redis_primary *primary);

/* Connects to this host and port; connections to another address are closed. */
void redis_primary_place(struct redis_primary *primary, const char *host, uint16_t port);
bool redis_primary_is_at(const struct redis_primary *primary, const char *host, uint16_t port);
const char *redis_primary_host(const struct redis_primary *primary);

bool redis_primary_open(const struct redis_primary *primary);
void redis_primary_send(struct redis_primary *primary, struct redis_op *op);
/* See redis_pipeline.h. */
bool redis_primary_is_sole(const struct redis_primary *primary);
size_t redis_primary_credit(struct redis_primary *primary);
bool redis_primary_has_credit_again(struct redis_primary *primary);
void redis_primary_subscribe(struct redis_primary *primary, const char *channel);
void redis_primary_unsubscribe(struct redis_primary *primary, const char *channel);
/* Subscribes again to channels that were refused. */
void redis_primary_retry(struct redis_primary *primary);
/* Sets the channel of the probe and subscribes to it; its other messages come by on_message. NULL:
 * no probe. */
void redis_primary_probe(struct redis_primary *primary, const char *channel);
/* Monotonic ms at which the latest probe that came back was sent; 0: none. */
uint64_t redis_primary_heard_ms(const struct redis_primary *primary);
void redis_primary_flush(struct redis_primary *primary);

#endif
