#include "core/hub.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/assertion.h"
#include "core/client/client.h"
#include "core/client/door.h"
#include "core/client/subscription.h"
#include "core/client_ids.h"
#include "core/commands.h"
#include "core/drain.h"
#include "core/fanout.h"
#include "core/handover.h"
#include "core/history.h"
#include "core/kept_sends.h"
#include "core/lease.h"
#include "core/membership.h"
#include "core/operators.h"
#include "core/ownership.h"
#include "core/peers.h"
#include "core/pubs.h"
#include "core/session.h"
#include "core/state.h"
#include "core/tail.h"

/* Clients of a removed service that are closed at once, and how long until the next ones are */
#define REMOVED_A_TURN   500
#define REMOVED_EVERY_MS 10

uint64_t hub_tag(struct hub *hub)
{
    return ++hub->tags;
}

void hub_mark_dirty(struct session *session)
{
    if (session->dirty || session->state == SESSION_ENDED)
        return;
    session->dirty = true;
    session->dirty_next = session->hub->dirty;
    session->hub->dirty = session;
}

/* Bus events: each finds its session and passes on. */

static struct session *find(struct hub *hub, const char *id)
{
    return session_find(hub, id, strlen(id));
}

static void on_connected(void *ctx)
{
    struct hub *hub = ctx;
    hub->bus_connected = true;
    lease_on_connected(hub);
    ownership_on_connected(hub);
}

static void on_disconnected(void *ctx)
{
    struct hub *hub = ctx;
    hub->bus_connected = false;
    metric_set(METRIC_BUS_CONNECTED, 0);
}

static void on_renewed(void *ctx, uint64_t tag, enum status status, bool present,
                       const struct bus_node *nodes, size_t len)
{
    lease_on_renewed(ctx, tag, status, present, nodes, len);
}

static void on_subscribed(void *ctx, const char *id)
{
    struct session *session = find(ctx, id);
    if (session)
        ownership_on_subscribed(session);
}

static void on_refused(void *ctx, const char *id, const char *why, bool deaf)
{
    struct session *session = find(ctx, id);
    if (session)
        ownership_on_refused(session, why, deaf);
}

static void on_claimed(void *ctx, const char *id, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch)
{
    ownership_on_claimed(ctx, find(ctx, id), id, tag, status, owner ? owner : "", epoch);
}

static void on_released(void *ctx, const char *id, uint64_t tag, enum status status)
{
    struct session *session = find(ctx, id);
    if (session && tag)
        ownership_on_released(session, tag, status);
}

static void on_transferred(void *ctx, const char *id, uint64_t tag, enum status status,
                           uint64_t epoch)
{
    struct session *session = find(ctx, id);
    if (session)
        handover_on_transferred(session, tag, status, epoch);
}

static void on_asserted(void *ctx, const char *id, uint64_t tag, enum status status,
                        const char *owner, uint64_t epoch)
{
    struct session *session = find(ctx, id);
    if (session)
        assertion_on_answer(session, tag, status, owner, epoch);
}

static void on_published(void *ctx, const char *id, uint64_t tag, enum status status)
{
    struct session *session = find(ctx, id);
    if (session)
        fanout_on_published(session, tag, status);
}

static void on_history(void *ctx, const char *id, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *items, size_t len,
                       bool more)
{
    struct session *session = find(ctx, id);
    if (tail_on_history(ctx, tag, items, status == STATUS_OK ? len : 0))
        return;
    if (!subscription_on_history(ctx, tag, status, oldest, items, len, more) && session &&
        session->recover_tag == tag)
        history_on_answer(session, status, oldest, items, len, more);
}

static void on_told(void *ctx, uint64_t tag, enum status status)
{
    operators_on_told(ctx, tag, status);
}

static void on_push(struct session *session, const struct envelope *envelope)
{
    /* Not subscribed yet: of an earlier subscription, and nobody heard what came after it. */
    if (session->state == SESSION_ENDED || !session->subscribed)
        return;
    /* The channel is in the order of the store, but answers and inbox may run ahead of it: what
     * counts is where the stream stands. */
    if (envelope->epoch < (session->positioned ? session->at.epoch : session->epoch)) {
        metric_drop(DROP_STALE_EPOCH, envelope->items_len);
        membership_ask_position(session);
        return;
    }
    ownership_announced(session, envelope->node, envelope->epoch, 0);
    bool late = session_is_owned(session) && envelope->epoch < session->epoch;
    if (session->state == SESSION_ENDED || (session_is_owned(session) && !late))
        return; /* the own publications come back to their owner */
    metric_add(METRIC_BUS_RECEIVED, envelope->items_len);
    bool again = false; /* something that had been there before */
    for (size_t i = 0; i < envelope->items_len; i++) {
        const struct envelope_item *item = &envelope->items[i];
        struct publication *publication = publication_copy(
            item->opcode == OPCODE_BINARY ? OPCODE_BINARY : OPCODE_TEXT, item->bytes.at,
            item->bytes.len);
        if (!publication || !item->number) {
            metric_drop(publication ? DROP_BUS_UNREADABLE : DROP_NO_MEMORY, 1);
            if (publication)
                publication_unref(publication);
            continue; /* a hole, which the next one shows */
        }
        publication->at = (struct position){envelope->epoch, item->number};
        publication->time_ms = item->time_ms;
        again = again || position_compare(publication->at, session->at) <= 0;
        (late ? history_late : history_receive)(session, publication);
        publication_unref(publication);
    }
    if (again)
        membership_ask_position(session);
}

static void on_channel(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_PUSH: on_push(session, envelope); return;
    case ENVELOPE_GRANT:
        history_epoch_begins(session, envelope->epoch);
        ownership_announced(session, envelope->node, envelope->epoch, envelope->number);
        return;
    case ENVELOPE_CLOSE: operators_on_close(session); return;
    default: metric_drop(DROP_BUS_UNREADABLE, 1); /* of a newer version */
    }
}

/* Messages for which the session must be there. */
static void on_session_message(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_JOINED: membership_on_joined(session, envelope); return;
    case ENVELOPE_LEFT: membership_on_left(session, envelope); return;
    case ENVELOPE_NOT_OWNER: membership_on_not_owner(session, envelope); return;
    case ENVELOPE_STATUS: membership_on_status(session, envelope); return;
    case ENVELOPE_CONFIRM: commands_on_confirm(session, envelope); return;
    case ENVELOPE_HANDBACK: commands_on_handback(session, envelope); return;
    case ENVELOPE_TAKE_ID: client_ids_on_take(session, envelope); return;
    case ENVELOPE_ID_TAKEN: client_ids_on_taken(session, envelope); return;
    case ENVELOPE_ACCEPT:
    case ENVELOPE_DECLINE: handover_on_answer(session, envelope); return;
    default: metric_drop(DROP_BUS_UNREADABLE, 1);
    }
}

static void on_message(void *ctx, const struct envelope *envelope, bool push)
{
    struct hub *hub = ctx;
    struct session *session = envelope->session.len
                                  ? session_find(hub, envelope->session.at, envelope->session.len)
                                  : NULL;
    bool from_node = peer_is_name(envelope->node);
    if (envelope->epoch > BUS_EPOCH_MAX) {
        metric_drop(DROP_BUS_UNREADABLE, 1);
        return;
    }
    if (push) {
        if (session)
            on_channel(session, envelope);
        else if (hub->tails)
            tail_on_push(hub, envelope);
        return;
    }
    if (!from_node) {
        metric_drop(DROP_BUS_UNREADABLE, 1);
        return;
    }
    peers_heard(hub, envelope);
    if (session && session->state == SESSION_ENDED)
        session = NULL;
    switch (envelope->type) {
    case ENVELOPE_JOIN: membership_on_join(hub, session, envelope); return;
    case ENVELOPE_LEAVE: membership_on_leave(hub, session, envelope); return;
    case ENVELOPE_COMMANDS: commands_on_commands(hub, session, envelope); return;
    case ENVELOPE_OFFER: handover_on_offer(hub, session, envelope); return;
    case ENVELOPE_TAKE: handover_on_take(hub, session, envelope); return;
    case ENVELOPE_TAKEN: handover_on_taken(hub, envelope); return;
    case ENVELOPE_SENDS: kept_sends_on_told(hub, session, envelope); return;
    case ENVELOPE_PUBLISH: operators_on_publish(hub, session, envelope); return;
    case ENVELOPE_PUBLISHED: operators_on_published(hub, envelope); return;
    case ENVELOPE_DRAIN:
        if (hub->setup.events && hub->setup.events->on_drain_asked)
            hub->setup.events->on_drain_asked(hub->setup.events_ctx);
        return;
    case ENVELOPE_HELLO: lease_on_hello(hub, envelope); return;
    case ENVELOPE_PROBE: return;
    default:
        if (session)
            on_session_message(session, envelope);
        else if (envelope->type == ENVELOPE_JOINED || envelope->type == ENVELOPE_STATUS)
            membership_stray(hub, envelope);
    }
}

static const struct bus_events bus_events = {
    .on_connected = on_connected,
    .on_disconnected = on_disconnected,
    .on_renewed = on_renewed,
    .on_subscribed = on_subscribed,
    .on_refused = on_refused,
    .on_claimed = on_claimed,
    .on_released = on_released,
    .on_transferred = on_transferred,
    .on_asserted = on_asserted,
    .on_published = on_published,
    .on_history = on_history,
    .on_told = on_told,
    .on_message = on_message,
};

struct hub *hub_new(const struct hub_setup *setup)
{
    struct hub *hub = calloc(1, sizeof *hub);
    uint8_t *scratch = malloc(SCRATCH_BYTES);
    if (!hub || !scratch)
        abort();
    hub->scratch = scratch;
    hub->setup = *setup;
    hub->conf = conf_ref(setup->conf);
    snprintf(hub->id, sizeof hub->id, "%s", setup->node_id);
    hub->bus = setup->bus;
    rng_seed(&hub->rng, setup->seed);
    timers_init(&hub->timers);
    hub->now_ms = setup->now_ms(setup->clock_ctx);
    hub->started_unix_ms = setup->unix_ms(setup->clock_ctx);
    bus_listen(hub->bus, &bus_events, hub);
    return hub;
}

void hub_free(struct hub *hub)
{
    operators_free_all(hub);
    handover_free_all(hub);
    kept_sends_free_all(hub);
    hub->dirty = NULL;
    for (struct session *session = hub->dead; session; session = session->dead_next)
        session->dirty = false;
    session_reap(hub);
    door_forget_all(hub);
    session_free_all(hub);
    client_ids_free_all(hub);
    peers_trim(hub, true);
    timer_stop(&hub->timers, &hub->lease.timer);
    timer_stop(&hub->timers, &hub->drain);
    timer_stop(&hub->timers, &hub->removal);
    timers_fini(&hub->timers);
    conf_unref(hub->conf);
    queue_free_spares(&hub->spare_queues);
    free(hub->due);
    free(hub->scratch);
    free(hub);
}

void hub_start(struct hub *hub)
{
    lease_start(hub);
}

void hub_enter(struct hub *hub, uint64_t now_ms)
{
    lease_check(hub, now_ms);
    timers_run(&hub->timers, hub->now_ms);
}

bool hub_may_write(struct hub *hub)
{
    if (!hub->bus->shared)
        return true;
    lease_check(hub, hub->setup.now_ms(hub->setup.clock_ctx));
    return lease_valid(hub) || hub->conf->redis.on_loss == ON_LOSS_SERVE;
}

/* What other nodes wait for leaves before the clients here are written to: its way is the longer
 * one, and the time of all those writes would be added to it. */
static void flush_far(struct hub *hub)
{
    bool any = false;
    for (struct session *session = hub->dirty; session; session = session->dirty_next)
        any = (session->state != SESSION_ENDED && fanout_flush_far(session)) || any;
    if (any)
        hub->bus->ops->flush(hub->bus);
}

/* All that is due for a client, from however many sessions, leaves in one write. */
static void flush_clients(struct hub *hub)
{
    for (size_t i = 0; i < hub->due_len; i++)
        if (hub->due[i])
            client_drain(hub->due[i]);
    hub->due_len = 0;
}

void hub_flush(struct hub *hub)
{
    flush_far(hub);
    while (hub->dirty) {
        struct session *session = hub->dirty;
        hub->dirty = session->dirty_next;
        session->dirty = false;
        if (session->state == SESSION_ENDED)
            continue;
        fanout_flush(session);
        client_ids_flush(session); /* before the messages of these clients */
        commands_flush(session);
    }
    flush_clients(hub);
    session_reap(hub);
    hub->bus->ops->flush(hub->bus);
}

uint64_t hub_next_deadline(const struct hub *hub)
{
    return timers_next(&hub->timers);
}

static void on_removal(struct timer *timer, uint64_t now_ms);

/* Clients of services that are not configured any more, so many at a time that nobody else waits.
 */
static void close_of_removed(struct hub *hub)
{
    unsigned left = REMOVED_A_TURN;
    struct session *session, *next;
    struct subscription *subscription, *next_subscription;
    HASH_ITER (hh, hub->sessions, session, next) {
        if (conf_service(hub->conf, session->service->name, strlen(session->service->name)))
            continue;
        DL_FOREACH_SAFE (session->subscriptions, subscription, next_subscription) {
            if (!client_takes(subscription->client))
                continue;
            if (!left--) {
                timer_start(&hub->timers, &hub->removal, hub->now_ms + REMOVED_EVERY_MS,
                            on_removal);
                return;
            }
            subscription_end(subscription, CLOSE_GOING_AWAY, "service removed");
        }
    }
}

static void on_removal(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    close_of_removed(CONTAINER_OF(timer, struct hub, removal));
}

void hub_reload(struct hub *hub, struct conf *conf)
{
    struct conf *before = hub->conf;
    hub->conf = conf_ref(conf);
    close_of_removed(hub);
    conf_unref(before);
}

void hub_drain(struct hub *hub)
{
    drain_start(hub);
}

enum node_state hub_state(const struct hub *hub)
{
    return hub->state;
}

bool hub_ready(const struct hub *hub)
{
    if (hub->state != NODE_UP)
        return false;
    return lease_valid(hub) || hub->conf->redis.on_loss == ON_LOSS_SERVE;
}

void hub_why_not_ready(const struct hub *hub, char *out)
{
    out[0] = '\0';
    if (!hub_ready(hub))
        lease_why_not(hub, out, HUB_WHY_BYTES);
}

const char *hub_node_id(const struct hub *hub)
{
    return hub->id;
}

struct conf *hub_conf(const struct hub *hub)
{
    return hub->conf;
}

void hub_count(const struct hub *hub, struct hub_counts *out)
{
    *out = (struct hub_counts){
        .clients = hub->clients,
        .sessions = HASH_COUNT(hub->sessions),
        .owned = hub->owned,
        .upstreams = hub->upstreams,
        .messages_in = metric_get(METRIC_MESSAGES_IN),
        .messages_out = metric_get(METRIC_MESSAGES_OUT),
    };
}
