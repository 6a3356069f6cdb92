/*
 * The bus as a node sees it: requests on their way to the simulated store, applied there, and their
 * answers on the way back, each session's in order. Where a link breaks the outcome is unknown.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "store.h"

struct store *store_of(const struct sim_node *node)
{
    return &node->world->store;
}

uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t delay_us(struct world *world)
{
    return chance(world, 5) && !world->calm ? between(world, 1000, 80000)
                                            : between(world, 50, 1500);
}

void request_free(struct sim_request *request)
{
    if (--request->refs)
        return;
    DL_DELETE2(request->node->world->requests, request, all_prev, all_next);
    for (size_t i = 0; i < request->publications_len; i++)
        publication_unref(request->publications[i]);
    free(request->publications);
    free(request->bytes);
    free(request);
}

/* Answers. */

static void answer_list(struct sim_bus *bus, const struct sim_request *request)
{
    char renewed[32];
    snprintf(renewed, sizeof(renewed), "%llu", (unsigned long long)request->score);
    struct bus_field field = {"renewed", renewed};
    struct bus_row row = {bus->node->id, &field, 1};
    bool there = request->status == STATUS_OK && request->listing == BUS_LIST_NODES &&
                 request->score;
    request->rows(request->rows_ctx, request->status, &row, there ? 1 : 0, NULL);
}

void request_answer(struct sim_bus *bus, struct sim_request *request)
{
    const struct bus_events *events = bus->bus.events;
    void *ctx = bus->bus.events_ctx;
    switch (request->kind) {
    case REQUEST_RENEW:
        for (size_t i = 0; i < request->nodes_len; i++)
            request->nodes[i].id = request->node_ids[i];
        events->on_renewed(ctx, request->tag, request->status, request->present, request->nodes,
                           request->nodes_len);
        break;
    case REQUEST_CLAIM:
        events->on_claimed(ctx, request->session, request->tag, request->status, request->owner,
                           request->answer_epoch);
        break;
    case REQUEST_RELEASE:
        events->on_released(ctx, request->session, request->tag, request->status);
        break;
    case REQUEST_TRANSFER:
        events->on_transferred(ctx, request->session, request->tag, request->status,
                               request->answer_epoch);
        break;
    case REQUEST_ASSERT:
        events->on_asserted(ctx, request->session, request->tag, request->status, request->owner,
                            request->answer_epoch);
        break;
    case REQUEST_PUBLISH:
        events->on_published(ctx, request->session, request->tag, request->status);
        break;
    case REQUEST_HISTORY:
        events->on_history(ctx, request->session, request->tag, request->status, request->oldest,
                           request->publications, request->publications_len, request->more);
        break;
    case REQUEST_TELL:
        if (request->tag)
            events->on_sent(ctx, request->tag, request->status);
        break;
    case REQUEST_LIST: answer_list(bus, request); break;
    case REQUEST_SIGN_OFF:
    case REQUEST_SUBSCRIBE:
    case REQUEST_UNSUBSCRIBE:
    case REQUEST_SHOUT:
    case REQUEST_PROBE: break;
    }
}

static void request_take(struct sim_bus *bus, struct sim_request *request)
{
    struct sim_request **at = &bus->unanswered;
    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
    if (!*at)
        bus->unanswered_end = at;
}

struct sim_request *request_take_first(struct sim_bus *bus)
{
    struct sim_request *request = bus->unanswered;
    request_take(bus, request);
    return request;
}

bool sim_own_pace = true;

/* The latest answer of those that must keep their order: all answers, as of one server; or those on
 * the same session, or without a session. */
static uint64_t *answered_us(struct sim_bus *bus, const struct sim_request *request)
{
    if (!sim_own_pace)
        return &bus->from_store_us;
    return &bus->answered_us[request->session[0] ? session_index(request->session) : SESSIONS_MAX];
}

/* The way of a request: to the store, applied, and back. A flag on each leg says whether its link
 * is still the same one. */

struct leg {
    struct world *world;
    struct sim_node *node;
    unsigned life, generation;
    struct sim_request *request;
    uint64_t behind_us; /* it waited until then for the rest of a request before it */
    bool late;          /* its connection is gone; the answer can't arrive */
    struct leg *with;   /* the next one in the same call */
};

static void leg_free(struct leg *leg)
{
    request_free(leg->request);
    free(leg);
}

static void on_answer_turn(void *ctx)
{
    struct leg *leg = ctx;
    struct sim_bus *bus = leg->node->bus;
    if (bus->generation == leg->generation) {
        request_take(bus, leg->request);
        request_answer(bus, leg->request);
        request_free(leg->request);
    }
    leg_free(leg);
}

static void on_answer(void *ctx)
{
    struct leg *leg = ctx;
    if (leg->node->life != leg->life || !leg->node->alive)
        leg_free(leg);
    else
        node_event(leg->node, leg->life, on_answer_turn, leg);
}

static bool same_link(const struct leg *leg)
{
    const struct sim_node *node = leg->node;
    return node->alive && node->life == leg->life && node->bus->generation == leg->generation &&
           node->bus->link_up;
}

static void on_arrival(void *ctx);

/* A node that publishes plainly ends its old connection as the first thing on a new one. */
static bool is_ended(const struct leg *leg)
{
    const struct sim_node *node = leg->node;
    return leg->world->publishes_plainly && node->alive && node->life == leg->life &&
           node->bus->generation != leg->generation && node->bus->link_up;
}

static void arrive(struct leg *leg)
{
    struct world *world = leg->world;
    if (!same_link(leg) || !world->store.up || leg->node->cut) {
        /* Mostly lost. Now and then the store reads what an old connection carried when a new one
         * is already in use. */
        struct late *late = &world->late[leg->node->index];
        bool lost = late->life == leg->life && late->generation == leg->generation && late->lost;
        bool arrives = world->calm ? world->arrives_late : leg->node->alive && chance(world, 60);
        if (world->store.up && !leg->late && !lost && arrives && !is_ended(leg)) {
            bool same = late->life == leg->life && late->generation == leg->generation;
            uint64_t at = world->now_us + between(world, 100, 100000);
            if (same && at <= late->at_us)
                at = late->at_us + 1;
            *late = (struct late){leg->life, leg->generation, at, false};
            leg->late = true;
            at_us(world, at, on_arrival, leg);
            return;
        }
        if (!leg->late && !lost && world->store.up && leg->node->alive && !is_ended(leg))
            store_cut(world, leg->request);
        if (!leg->late)
            *late = (struct late){leg->life, leg->generation, late->at_us, true};
        else if (world->store.up && !is_ended(leg) &&
                 (leg->request->kind != REQUEST_PUBLISH || leg->request->history_size))
            /* Without a history a late double can't be recognized: that is not promised */
            store_apply(world, leg->request);
        leg_free(leg);
        return;
    }
    struct sim_bus *bus = leg->node->bus;
    if (leg->behind_us != world->now_us && bus->behind_us >= world->now_us) {
        leg->behind_us = ++bus->behind_us;
        at_us(world, leg->behind_us, on_arrival, leg);
        return;
    }
    if (store_announces_first(world, leg->request)) {
        bus->behind_us = larger(bus->behind_us, world->now_us + world->keeps_after_us);
        leg->behind_us = bus->behind_us;
        at_us(world, leg->behind_us, on_arrival, leg);
        return;
    }
    store_apply(world, leg->request);
    uint64_t *before_us = answered_us(bus, leg->request);
    uint64_t at = larger(world->now_us + delay_us(world),
                         larger(*before_us, bus->from_store_us) + 1);
    *before_us = at;
    at_us(world, at, on_answer, leg);
}

/* A call is carried out as a whole: nothing comes in between. */
static void on_arrival(void *ctx)
{
    struct leg *leg = ctx;
    while (leg) {
        struct leg *with = leg->with;
        leg->with = NULL;
        arrive(leg);
        leg = with;
    }
}

/* The publications of a turn leave in one call if no other request comes between. In a Redis
 * Cluster each session has its own slot and so its own call. */
static bool joins_call(const struct leg *before, const struct sim_request *request)
{
    return before && before->world->joins_calls && before->request->kind == REQUEST_PUBLISH &&
           request->kind == REQUEST_PUBLISH;
}

static void bus_flush(struct bus *base)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    struct sim_node *node = bus->node;
    struct world *world = node->world;
    struct leg *before = NULL;
    while (bus->outgoing) {
        struct sim_request *request = bus->outgoing;
        bus->outgoing = request->next;
        request->next = NULL;
        *bus->unanswered_end = request;
        bus->unanswered_end = &request->next;
        struct leg *leg = malloc(sizeof(*leg));
        *leg = (struct leg){world, node, node->life, bus->generation, request, 0, false, NULL};
        request->refs++;
        if (world->spy)
            world->spy(world, request);
        request->behind = joins_call(before, request);
        if (request->behind)
            before->with = leg;
        before = leg;
        if (request->behind)
            continue;
        uint64_t at = world->now_us + delay_us(world);
        if (at <= bus->to_store_us)
            at = bus->to_store_us + 1;
        bus->to_store_us = at;
        at_us(world, at, on_arrival, leg);
    }
    bus->outgoing_end = &bus->outgoing;
}

/* Requests of a node without a link are answered in its next turn. */
struct bounce {
    struct sim_node *node;
    struct sim_request *request;
};

static void on_bounce(void *ctx)
{
    struct bounce *bounce = ctx;
    bounce->request->status = STATUS_IO;
    request_answer(bounce->node->bus, bounce->request);
    request_free(bounce->request);
    free(bounce);
}

struct bounce_later {
    struct sim_node *node;
    unsigned life;
    struct bounce *bounce;
};

static void on_bounce_due(void *ctx)
{
    struct bounce_later *later = ctx;
    if (later->node->life == later->life && later->node->alive && later->node->paused) {
        at_us(later->node->world, later->node->world->now_us + 1000, on_bounce_due, later);
        return;
    }
    if (later->node->life == later->life && later->node->alive) {
        node_event(later->node, later->life, on_bounce, later->bounce);
    } else {
        request_free(later->bounce->request);
        free(later->bounce);
    }
    free(later);
}

static struct sim_request *request_new(struct bus *base, enum request_kind kind,
                                       const char *session, uint64_t tag)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    struct sim_request *request = calloc(1, sizeof(*request));
    request->refs = 1;
    DL_APPEND2(bus->node->world->requests, request, all_prev, all_next);
    request->kind = kind;
    request->node = bus->node;
    request->tag = tag;
    if (session)
        snprintf(request->session, sizeof(request->session), "%s", session);
    node_works(bus->node, 10);
    if (bus->connected) {
        *bus->outgoing_end = request;
        bus->outgoing_end = &request->next;
        return request;
    }
    struct bounce *bounce = malloc(sizeof(*bounce));
    *bounce = (struct bounce){bus->node, request};
    struct bounce_later *later = malloc(sizeof(*later));
    *later = (struct bounce_later){bus->node, bus->node->life, bounce};
    at_us(bus->node->world, bus->node->world->now_us + 1, on_bounce_due, later);
    return request;
}

static void bus_renew(struct bus *base, uint64_t tag)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    struct sim_request *probe = request_new(base, REQUEST_PROBE, NULL, 0);
    const struct probe_message message = {node_now_ms(bus->node)};
    struct envelope envelope = probe_encode(&message);
    envelope.node = slice_of(bus->node->id);
    if (envelope_encode(&envelope, &probe->bytes, &probe->bytes_len) != STATUS_OK)
        abort();
    snprintf(probe->other, sizeof(probe->other), "%s", bus->node->id);
    struct sim_request *request = request_new(base, REQUEST_RENEW, NULL, tag);
    request->score = store_ms(bus->node->world) * 1000 + bus->node->world->now_us % 1000;
}

static uint64_t bus_heard_ms(const struct bus *base)
{
    return ((const struct sim_bus *)(const void *)base)->heard_ms;
}

static void bus_record_node(struct bus *base, const struct bus_node_record *record)
{
    (void)base;
    (void)record;
}

static void bus_sign_off(struct bus *base)
{
    request_new(base, REQUEST_SIGN_OFF, NULL, 0);
}

/* Subscriptions travel the other link. */

struct confirm {
    struct sim_node *node;
    unsigned life, generation;
    int session;
};

static void on_confirm_turn(void *ctx)
{
    struct confirm *confirm = ctx;
    struct sim_bus *bus = confirm->node->bus;
    if (bus->sub_up && bus->sub_generation == confirm->generation && bus->wants[confirm->session])
        bus->bus.events->on_subscribed(bus->bus.events_ctx, session_name(confirm->session));
    free(confirm);
}

static void on_confirm(void *ctx)
{
    struct confirm *confirm = ctx;
    node_event(confirm->node, confirm->life, on_confirm_turn, confirm);
}

static void on_subscribe_arrival(void *ctx)
{
    struct confirm *confirm = ctx;
    struct sim_node *node = confirm->node;
    struct world *world = node->world;
    if (!node->alive || node->life != confirm->life ||
        node->bus->sub_generation != confirm->generation || !node->bus->sub_up ||
        !world->store.up || node->cut || !node->bus->wants[confirm->session]) {
        free(confirm);
        return;
    }
    world->store.subscribed[node->index][confirm->session] = true;
    uint64_t at = world->now_us + delay_us(world);
    if (at <= node->bus->sub_us)
        at = node->bus->sub_us + 1;
    node->bus->sub_us = at;
    at_us(world, at, on_confirm, confirm);
}

void subscribe_send(struct sim_bus *bus, int session)
{
    struct confirm *confirm = malloc(sizeof(*confirm));
    *confirm = (struct confirm){bus->node, bus->node->life, bus->sub_generation, session};
    at_us(bus->node->world, bus->node->world->now_us + delay_us(bus->node->world),
          on_subscribe_arrival, confirm);
}

static void bus_subscribe(struct bus *base, const char *session)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    int index = session_index(session);
    bus->wants[index] = true;
    if (bus->sub_up)
        subscribe_send(bus, index);
}

static void bus_unsubscribe(struct bus *base, const char *session)
{
    struct sim_bus *bus = (struct sim_bus *)(void *)base;
    bus->wants[session_index(session)] = false;
    store_of(bus->node)->subscribed[bus->node->index][session_index(session)] = false;
}

static void bus_claim(struct bus *base, const char *session, uint64_t tag,
                      const struct bus_claim *claim)
{
    struct sim_request *request = request_new(base, REQUEST_CLAIM, session, tag);
    if (claim->dead_owner)
        snprintf(request->other, sizeof(request->other), "%s", claim->dead_owner);
    request->dead_epoch = claim->dead_epoch;
    request->seen_epoch = claim->seen_epoch;
    request->holds = claim->holds;
}

static void bus_release(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                        uint64_t keep_ms)
{
    (void)keep_ms;
    request_new(base, REQUEST_RELEASE, session, tag)->epoch = epoch;
}

static void bus_transfer(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                         const char *to)
{
    struct sim_request *request = request_new(base, REQUEST_TRANSFER, session, tag);
    request->epoch = epoch;
    snprintf(request->other, sizeof(request->other), "%s", to);
}

static void bus_assert_owner(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                             const char *upstream)
{
    (void)upstream;
    request_new(base, REQUEST_ASSERT, session, tag)->epoch = epoch;
}

static void bus_record_session(struct bus *base, const char *session, uint64_t epoch,
                               const struct bus_session_record *record)
{
    (void)base;
    (void)session;
    (void)epoch;
    (void)record;
}

static void bus_publish(struct bus *base, const char *session, uint64_t tag, uint64_t epoch,
                        struct publication *const *publications, size_t len, uint32_t history_size,
                        uint64_t ttl_ms, unsigned how)
{
    (void)ttl_ms;
    struct sim_request *request = request_new(base, REQUEST_PUBLISH, session, tag);
    request->epoch = epoch;
    request->history_size = history_size;
    request->how = how;
    request->publications = calloc(len, sizeof(*publications));
    request->publications_len = len;
    node_works(request->node, (unsigned)len);
    for (size_t i = 0; i < len; i++)
        request->publications[i] = publication_ref(publications[i]);
}

static void bus_history(struct bus *base, const char *session, uint64_t tag, struct position after,
                        size_t limit)
{
    struct sim_request *request = request_new(base, REQUEST_HISTORY, session, tag);
    request->after = after;
    request->limit = chance(request->node->world, 30) ? 3 : limit; /* pages, too */
}

static void bus_send(struct bus *base, const char *node, const struct envelope *envelope,
                     uint64_t tag)
{
    struct sim_request *request = request_new(base, REQUEST_TELL, NULL, tag);
    snprintf(request->other, sizeof(request->other), "%s", node);
    if (envelope_encode(envelope, &request->bytes, &request->bytes_len) != STATUS_OK)
        abort();
}

static void bus_broadcast(struct bus *base, const char *session, const struct envelope *envelope)
{
    struct sim_request *request = request_new(base, REQUEST_SHOUT, session, 0);
    if (envelope_encode(envelope, &request->bytes, &request->bytes_len) != STATUS_OK)
        abort();
}

static void bus_list(struct bus *base, enum bus_listing listing, const char *after, size_t limit,
                     bus_rows_fn *fn, void *ctx)
{
    struct sim_request *request = request_new(base, REQUEST_LIST, NULL, 0);
    (void)limit;
    if (after)
        snprintf(request->session, sizeof(request->session), "%s", after);
    request->listing = listing;
    request->rows = fn;
    request->rows_ctx = ctx;
}

static void bus_free(struct bus *base)
{
    (void)base;
}

static const struct bus_ops ops = {
    .renew = bus_renew,
    .heard_ms = bus_heard_ms,
    .record_node = bus_record_node,
    .sign_off = bus_sign_off,
    .subscribe = bus_subscribe,
    .unsubscribe = bus_unsubscribe,
    .claim = bus_claim,
    .release = bus_release,
    .transfer = bus_transfer,
    .assert_owner = bus_assert_owner,
    .record_session = bus_record_session,
    .publish = bus_publish,
    .history = bus_history,
    .send = bus_send,
    .broadcast = bus_broadcast,
    .list = bus_list,
    .flush = bus_flush,
    .free = bus_free,
};

struct sim_bus *sim_bus_new(struct sim_node *node)
{
    struct sim_bus *bus = calloc(1, sizeof(*bus));
    bus->bus.ops = &ops;
    bus->bus.shared = true;
    bus->node = node;
    bus->outgoing_end = &bus->outgoing;
    bus->unanswered_end = &bus->unanswered;
    return bus;
}

void sim_bus_free(struct sim_bus *bus)
{
    struct store *store = store_of(bus->node);
    while (bus->unanswered)
        request_free(request_take_first(bus));
    while (bus->outgoing) {
        struct sim_request *request = bus->outgoing;
        bus->outgoing = request->next;
        request_free(request);
    }
    store->inbox[bus->node->index] = false;
    memset(store->subscribed[bus->node->index], 0, sizeof(store->subscribed[0]));
    free(bus);
}

void requests_free(struct world *world)
{
    while (world->requests) {
        world->requests->refs = 1;
        request_free(world->requests);
    }
}
