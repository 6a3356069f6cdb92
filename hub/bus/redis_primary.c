#include "bus/redis_primary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/node_messages.h"

struct redis_primary {
    const struct redis_setup *setup;
    const struct redis_primary_events *events;
    void *ctx;
    struct redis_pipeline *pipeline;
    struct redis_pipeline *replicated; /* for what counts after WAIT, which blocks a connection;
                                          NULL: no replicas are asked for */
    bool closing;                      /* both pipelines are being closed */
    struct redis_subscriptions *subscriptions;
    char *probe; /* the channel, or NULL */
    struct loop_timer *timer;
    uint64_t timer_ms;     /* when it fired last, or was made */
    uint64_t open_ms;      /* since when the pipeline is open, 0: it is not */
    uint64_t listening_ms; /* since when the probe's channel is subscribed, 0: it is not */
    uint64_t heard_ms;
    struct redis_fault probe_lost, inbox; /* no probe comes back; the probe's channel is refused */
};

/* --- the probe --- */

/* In a cluster the answer may come after this primary was freed: the op's owner is the trouble
 * struct, which lives longer. */
static void on_probe_sent(struct redis_op *op)
{
    struct redis_trouble *trouble = op->owner;
    char text[REDIS_WHY_BYTES];
    if (op->status == STATUS_OK)
        redis_fault_clear(trouble, &trouble->probe);
    if (!op->error)
        return;
    snprintf(text, sizeof(text), "Redis: can't publish to this node's own inbox: %.240s",
             op->error);
    redis_fault_set(trouble, &trouble->probe, text);
}

/* Sends a probe if it can come back: the pipeline is open and the channel is subscribed. */
static void send_probe(struct redis_primary *p)
{
    if (p->open_ms == 0 || p->listening_ms == 0)
        return;
    const struct probe_message probe = {clock_boot_ms()};
    struct envelope envelope = probe_encode(&probe);
    envelope.node = slice_of(p->setup->node);
    envelope.life = p->setup->life;
    uint8_t *bytes;
    size_t len;
    if (envelope_encode(&envelope, &bytes, &len) != STATUS_OK)
        return;
    struct redis_op *op = redis_op_new(REPLY_NUMBER, on_probe_sent, p->setup->trouble);
    op->vital = true; /* a lease later the subscriptions count as deaf */
    redis_request_begin(&op->request, 3);
    redis_request_text(&op->request, p->setup->sharded ? "SPUBLISH" : "PUBLISH");
    redis_request_text(&op->request, p->probe);
    redis_request_add(&op->request, (struct slice){(const char *)bytes, len});
    free(bytes);
    redis_pipeline_send(p->pipeline, op);
}

/* True if commands get through, the channel is subscribed, and for a lease no probe has come
 * back. */
static bool is_probe_lost(const struct redis_primary *p)
{
    if (p->open_ms == 0 || p->listening_ms == 0)
        return false;
    uint64_t since_ms = p->open_ms > p->listening_ms ? p->open_ms : p->listening_ms;
    if (p->heard_ms > since_ms)
        since_ms = p->heard_ms;
    return clock_boot_ms() - since_ms > p->setup->lease_ms;
}

/* This process did not run for so long that the latest probe says nothing about the connection. */
static bool stood_still(struct redis_primary *p, uint32_t every_ms)
{
    uint64_t before_ms = p->timer_ms;
    p->timer_ms = clock_boot_ms();
    return p->timer_ms - before_ms > 2 * (uint64_t)every_ms;
}

static void on_timer(void *ctx)
{
    struct redis_primary *p = ctx;
    uint32_t every_ms = p->setup->lease_ms / 4 + 1;
    loop_timer_start(p->timer, every_ms);
    redis_pipeline_mark(p->pipeline);
    if (p->replicated)
        redis_pipeline_mark(p->replicated);
    if (!stood_still(p, every_ms) && is_probe_lost(p)) {
        redis_fault_set(p->setup->trouble, &p->probe_lost,
                        "Redis: messages are published, but none arrives on the connection for "
                        "subscriptions");
        redis_link_cut(redis_subscriptions_link(p->subscriptions), "no message arrives on it");
    } else {
        send_probe(p);
    }
}

/* Returns true if the message is a probe, of this life of the node or of an earlier one. */
static bool take_probe(struct redis_primary *p, struct slice message)
{
    struct envelope envelope;
    struct envelope_item *items;
    if (!envelope_is(message, ENVELOPE_PROBE) ||
        envelope_decode(message.at, message.len, &envelope, &items) != STATUS_OK)
        return false;
    free(items);
    const struct probe_message probe = probe_decode(&envelope);
    /* A time in the future is false. If it were taken, a lost probe would be noticed only after
     * that time. */
    if (envelope.life == p->setup->life && probe.sent_ms > p->heard_ms &&
        probe.sent_ms <= clock_boot_ms())
        p->heard_ms = probe.sent_ms;
    redis_fault_clear(p->setup->trouble, &p->probe_lost);
    return true;
}

/* --- events of the subscriptions --- */

static bool is_probe(const struct redis_primary *p, const char *channel)
{
    return p->probe && strcmp(channel, p->probe) == 0;
}

static void on_subscribed(void *ctx, const char *channel)
{
    struct redis_primary *p = ctx;
    if (!is_probe(p, channel)) {
        p->setup->receiver->on_subscribed(p->setup->receiver_ctx, channel);
        return;
    }
    p->listening_ms = clock_boot_ms();
    redis_fault_clear(p->setup->trouble, &p->inbox);
    send_probe(p);
}

static void on_refused(void *ctx, const char *channel, const char *error)
{
    struct redis_primary *p = ctx;
    char text[REDIS_WHY_BYTES];
    if (!is_probe(p, channel)) {
        p->setup->receiver->on_refused(p->setup->receiver_ctx, channel, error);
        return;
    }
    p->listening_ms = 0;
    snprintf(text, sizeof(text), "Redis: channel %.120s: %.180s", channel, error);
    redis_fault_set(p->setup->trouble, &p->inbox, text);
}

static void on_message(void *ctx, const char *channel, struct slice message)
{
    struct redis_primary *p = ctx;
    if (!is_probe(p, channel) || !take_probe(p, message))
        p->setup->receiver->on_message(p->setup->receiver_ctx, channel, message);
}

static void on_silence(void *ctx)
{
    struct redis_primary *p = ctx;
    p->listening_ms = 0;
}

static void on_misplaced(void *ctx)
{
    struct redis_primary *p = ctx;
    if (p->events->on_misplaced)
        p->events->on_misplaced(p->ctx);
}

/* --- events of the pipeline --- */

/* All pipelines are open: the primary can be used. */
static void primary_open(struct redis_primary *p)
{
    p->open_ms = clock_boot_ms();
    send_probe(p);
    p->events->on_open(p->ctx, p);
}

static void on_open(void *ctx)
{
    struct redis_primary *p = ctx;
    struct redis_link *link = redis_pipeline_link(p->pipeline);
    /* The host name may also have the address of a replica, which accepts subscriptions: the other
     * connections use the same address as this one. */
    redis_link_follow(redis_subscriptions_link(p->subscriptions), link);
    redis_link_start(redis_subscriptions_link(p->subscriptions));
    if (p->replicated) {
        redis_link_follow(redis_pipeline_link(p->replicated), link);
        redis_link_start(redis_pipeline_link(p->replicated));
    }
    if (!p->replicated || redis_pipeline_open(p->replicated))
        primary_open(p);
}

/* The ops of both pipelines are answered before the event is passed on. */
static void on_closed(void *ctx)
{
    struct redis_primary *p = ctx;
    bool was_open = p->open_ms != 0;
    p->open_ms = 0;
    p->closing = true;
    if (p->replicated)
        redis_link_cut(redis_pipeline_link(p->replicated),
                       "the connection for commands was closed");
    p->closing = false;
    if (was_open)
        p->events->on_closed(p->ctx, p);
}

static void on_replicated_open(void *ctx)
{
    struct redis_primary *p = ctx;
    if (p->open_ms == 0 && redis_pipeline_open(p->pipeline))
        primary_open(p);
}

static void on_replicated_closed(void *ctx)
{
    struct redis_primary *p = ctx;
    if (!p->closing)
        redis_link_cut(redis_pipeline_link(p->pipeline), "the connection for WAIT was closed");
}

static void on_progress(void *ctx)
{
    struct redis_primary *p = ctx;
    p->setup->receiver->on_progress(p->setup->receiver_ctx);
}

static bool on_redirect(void *ctx, struct redis_op *op, const char *error)
{
    struct redis_primary *p = ctx;
    return p->events->on_redirect && p->events->on_redirect(p->ctx, op, error);
}

static void on_failed(void *ctx)
{
    struct redis_primary *p = ctx;
    p->events->on_failed(p->ctx, p);
}

/* The value of the line "name:value" of INFO; "": the line is missing or the value is too long. */
static void info_value(const char *info, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    out[0] = '\0';
    for (const char *line = info; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, name_len) != 0 || line[name_len] != ':')
            continue;
        size_t len = strcspn(line + name_len + 1, "\r\n");
        if (len < size) {
            memcpy(out, line + name_len + 1, len);
            out[len] = '\0';
        }
        return;
    }
}

static const char *on_info(void *ctx, const char *info)
{
    (void)ctx;
    char role[32], policy[64], loading[8];
    info_value(info, "role", role, sizeof(role));
    info_value(info, "loading", loading, sizeof(loading));
    info_value(info, "maxmemory_policy", policy, sizeof(policy));
    if (strcmp(role, "slave") == 0)
        return "this server is a replica, expected the primary";
    if (strcmp(loading, "1") == 0)
        return "LOADING: this server still reads its data";
    if (policy[0] != '\0' && strcmp(policy, "noeviction") != 0)
        log_warn_cause("redis_evicts", LOG_STR("maxmemory_policy", policy),
                       LOG_STR("advice", "noeviction"));
    return NULL;
}

/* --- for the topology --- */

static const struct redis_pipeline_events pipeline_events = {.on_open = on_open,
                                                             .on_closed = on_closed,
                                                             .on_progress = on_progress,
                                                             .on_info = on_info,
                                                             .on_redirect = on_redirect,
                                                             .on_failed = on_failed};
static const struct redis_pipeline_events replicated_events = {.on_open = on_replicated_open,
                                                               .on_closed = on_replicated_closed,
                                                               .on_progress = on_progress,
                                                               .on_info = on_info,
                                                               .on_redirect = on_redirect,
                                                               .on_failed = on_failed};
static const struct redis_subscriptions_events subscriptions_events = {
    .on_subscribed = on_subscribed,
    .on_message = on_message,
    .on_refused = on_refused,
    .on_silence = on_silence,
    .on_misplaced = on_misplaced};

struct redis_primary *redis_primary_new(const struct redis_setup *setup,
                                        const struct redis_primary_events *events, void *ctx)
{
    struct redis_primary *p = redis_claim_memory(1, sizeof(*p));
    p->setup = setup;
    p->events = events;
    p->ctx = ctx;
    struct redis_link_options link = {.loop = setup->loop,
                                      .url = setup->url,
                                      .tls = setup->tls,
                                      .deadline_ms = setup->deadline_ms,
                                      .name = "commands",
                                      .trouble = setup->trouble};
    struct redis_pipeline_options pipeline = {.link = link, .ends_previous = true};
    p->pipeline = redis_pipeline_new(&pipeline, &pipeline_events, p);
    if (setup->replicas > 0) {
        pipeline.link.name = "replicated commands";
        pipeline.ends_previous = false;
        pipeline.replicas = setup->replicas;
        pipeline.wait_ms = setup->lease_ms / 4 + 1;
        p->replicated = redis_pipeline_new(&pipeline, &replicated_events, p);
    }
    link.name = "subscriptions";
    p->subscriptions = redis_subscriptions_new(&link, setup->sharded, &subscriptions_events, p);
    p->timer = loop_timer_new(setup->loop, "redis_primary", on_timer, p);
    p->timer_ms = clock_boot_ms();
    loop_timer_start(p->timer, setup->lease_ms / 4 + 1);
    return p;
}

void redis_primary_free(struct redis_primary *p)
{
    redis_fault_clear(p->setup->trouble, &p->probe_lost);
    redis_fault_clear(p->setup->trouble, &p->inbox);
    redis_pipeline_free(p->pipeline);
    if (p->replicated)
        redis_pipeline_free(p->replicated);
    redis_subscriptions_free(p->subscriptions);
    loop_timer_free(p->timer);
    free(p->probe);
    free(p);
}

void redis_primary_place(struct redis_primary *p, const char *host, uint16_t port)
{
    struct redis_link *links[] = {redis_pipeline_link(p->pipeline),
                                  redis_subscriptions_link(p->subscriptions),
                                  p->replicated ? redis_pipeline_link(p->replicated) : NULL};
    bool moves = !redis_primary_is_at(p, host, port);
    for (size_t i = 0; i < 3 && moves; i++) {
        if (!links[i])
            continue;
        redis_link_target(links[i], host, port);
        redis_link_cut(links[i], "another server is the primary now");
        if (i > 0)
            redis_link_stop(links[i]);
    }
    redis_link_start(links[0]); /* the other links start once this one is open */
}

bool redis_primary_is_at(const struct redis_primary *p, const char *host, uint16_t port)
{
    const struct redis_link *link = redis_pipeline_link(p->pipeline);
    return redis_link_port(link) == port && strcmp(redis_link_host(link), host) == 0;
}

const char *redis_primary_host(const struct redis_primary *p)
{
    return redis_link_host(redis_pipeline_link(p->pipeline));
}

bool redis_primary_open(const struct redis_primary *p)
{
    return p->open_ms != 0;
}

void redis_primary_send(struct redis_primary *p, struct redis_op *op)
{
    redis_pipeline_send(op->replicated && p->replicated ? p->replicated : p->pipeline, op);
}

bool redis_primary_is_sole(const struct redis_primary *p)
{
    return redis_pipeline_is_sole(p->pipeline);
}

size_t redis_primary_credit(struct redis_primary *p)
{
    return redis_pipeline_credit(p->pipeline);
}

bool redis_primary_has_credit_again(struct redis_primary *p)
{
    return redis_pipeline_has_credit_again(p->pipeline);
}

void redis_primary_subscribe(struct redis_primary *p, const char *channel)
{
    redis_subscriptions_add(p->subscriptions, channel);
}

void redis_primary_unsubscribe(struct redis_primary *p, const char *channel)
{
    redis_subscriptions_remove(p->subscriptions, channel);
}

void redis_primary_probe(struct redis_primary *p, const char *channel)
{
    if (channel && is_probe(p, channel))
        return;
    if (p->probe)
        redis_subscriptions_remove(p->subscriptions, p->probe);
    free(p->probe);
    p->probe = channel ? redis_copy_text(channel) : NULL;
    p->listening_ms = 0;
    if (channel)
        redis_subscriptions_add(p->subscriptions, channel);
}

void redis_primary_retry(struct redis_primary *p)
{
    redis_subscriptions_retry(p->subscriptions);
}

uint64_t redis_primary_heard_ms(const struct redis_primary *p)
{
    return p->heard_ms;
}

void redis_primary_flush(struct redis_primary *p)
{
    redis_pipeline_flush(p->pipeline);
    if (p->replicated)
        redis_pipeline_flush(p->replicated);
    redis_subscriptions_flush(p->subscriptions);
}
