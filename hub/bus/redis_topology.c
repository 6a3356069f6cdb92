#include "bus/redis_topology.h"

#include <stdlib.h>

#include "bus/redis_cluster.h"
#include "bus/redis_sentinel.h"

struct redis_topology {
    const struct redis_setup *setup;
    const struct redis_topology_events *events;
    void *ctx;
    struct redis_cluster *cluster; /* NULL: there is one primary, which is */
    struct redis_primary *primary;
    struct redis_sentinel *sentinel; /* NULL: the primary is where the URL says */
};

static void on_open(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct redis_topology *t = ctx;
    if (t->sentinel != NULL)
        redis_sentinel_settle(t->sentinel);
    t->events->on_open(t->ctx);
}

static void on_closed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct redis_topology *t = ctx;
    t->events->on_closed(t->ctx);
}

static void on_progress(void *ctx)
{
    struct redis_topology *t = ctx;
    t->events->on_progress(t->ctx);
}

static void on_failed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct redis_topology *t = ctx;
    if (t->sentinel != NULL)
        redis_sentinel_ask(t->sentinel);
}

static void on_subscribed(void *ctx, const char *channel)
{
    struct redis_topology *t = ctx;
    t->events->on_subscribed(t->ctx, channel);
}

static void on_message(void *ctx, const char *channel, struct slice message)
{
    struct redis_topology *t = ctx;
    t->events->on_message(t->ctx, channel, message);
}

static void on_refused(void *ctx, const char *channel, const char *error)
{
    struct redis_topology *t = ctx;
    t->events->on_refused(t->ctx, channel, error);
}

static const struct redis_primary_events primary_events = {.on_open = on_open,
                                                           .on_closed = on_closed,
                                                           .on_progress = on_progress,
                                                           .on_failed = on_failed,
                                                           .on_subscribed = on_subscribed,
                                                           .on_message = on_message,
                                                           .on_refused = on_refused};

static void on_primary(void *ctx, const char *host, uint16_t port)
{
    struct redis_topology *t = ctx;
    redis_primary_place(t->primary, host, port);
}

static void start(struct redis_topology *t)
{
    const struct redis_setup *setup = t->setup;
    const struct redis_link_options link = {.loop = setup->loop,
                                            .url = setup->url,
                                            .tls = setup->tls,
                                            .deadline_ms = setup->deadline_ms,
                                            .trouble = setup->trouble};
    if (setup->url->shape == REDIS_SENTINEL)
        t->sentinel = redis_sentinel_new(&link, setup->sentinel, on_primary, t);
    else
        redis_primary_place(t->primary, setup->url->hosts[0].name, setup->url->hosts[0].port);
}

struct redis_topology *redis_topology_new(const struct redis_setup *setup, const char *inbox,
                                          const struct redis_topology_events *events, void *ctx)
{
    struct redis_topology *t = redis_claim_memory(1, sizeof(*t));
    t->setup = setup;
    t->events = events;
    t->ctx = ctx;
    if (setup->url->shape == REDIS_CLUSTER) {
        t->cluster = redis_cluster_new(setup, inbox, events, ctx);
        return t;
    }
    t->primary = redis_primary_new(setup, &primary_events, t);
    redis_primary_probe(t->primary, inbox);
    start(t);
    return t;
}

void redis_topology_free(struct redis_topology *t)
{
    redis_sentinel_free(t->sentinel);
    if (t->cluster != NULL)
        redis_cluster_free(t->cluster);
    else
        redis_primary_free(t->primary);
    free(t);
}

void redis_topology_send(struct redis_topology *t, struct redis_op *op, const char *key)
{
    if (t->cluster != NULL)
        redis_cluster_send(t->cluster, op, key);
    else
        redis_primary_send(t->primary, op);
}

size_t redis_topology_credit(struct redis_topology *t, const char *key)
{
    return t->cluster != NULL ? redis_cluster_credit(t->cluster, key)
                              : redis_primary_credit(t->primary);
}

bool redis_topology_has_credit_again(struct redis_topology *t)
{
    return t->cluster != NULL ? redis_cluster_has_credit_again(t->cluster)
                              : redis_primary_has_credit_again(t->primary);
}

void redis_topology_subscribe(struct redis_topology *t, const char *channel)
{
    if (t->cluster != NULL)
        redis_cluster_subscribe(t->cluster, channel);
    else
        redis_primary_subscribe(t->primary, channel);
}

void redis_topology_unsubscribe(struct redis_topology *t, const char *channel)
{
    if (t->cluster != NULL)
        redis_cluster_unsubscribe(t->cluster, channel);
    else
        redis_primary_unsubscribe(t->primary, channel);
}

uint64_t redis_topology_heard_ms(const struct redis_topology *t)
{
    return t->cluster != NULL ? redis_cluster_heard_ms(t->cluster)
                              : redis_primary_heard_ms(t->primary);
}

void redis_topology_flush(struct redis_topology *t)
{
    if (t->cluster != NULL)
        redis_cluster_flush(t->cluster);
    else
        redis_primary_flush(t->primary);
}
