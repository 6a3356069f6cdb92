#include "core/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client/audience.h"
#include "core/client/client.h"
#include "core/client/client_ids.h"
#include "core/client/door.h"
#include "core/client/rate.h"
#include "core/client/subscribing.h"
#include "core/client/subscription.h"
#include "core/clients.h"
#include "core/node/lease.h"
#include "core/node/peers.h"
#include "core/node/record.h"
#include "core/operators.h"
#include "core/polls.h"
#include "core/presence.h"
#include "core/revoked.h"
#include "core/session/answers.h"
#include "core/session/course_owner.h"
#include "core/session/kept_sends.h"
#include "core/session/link.h"
#include "core/session/messages.h"
#include "core/session/outbox.h"
#include "core/session/session.h"
#include "core/session/stream.h"
#include "core/session/walks.h"
#include "core/tail.h"

/* Bus events: each finds its session and passes on. */

static struct session *find(struct hub *hub, const char *id)
{
    return session_find(hub, id, strlen(id));
}

static void on_connected(void *ctx)
{
    struct hub *hub = ctx;
    hub->bus_connected = true;
    hub->links++;
    lease_on_connected(hub);
    walks_on_connected(hub);
    revoked_on_connected(hub);
}

static void on_disconnected(void *ctx)
{
    struct hub *hub = ctx;
    hub->bus_connected = false;
    walks_on_disconnected(hub);
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
        messages_on_subscribed(session);
}

static void on_refused(void *ctx, const char *id, const char *why, bool not_subscribed)
{
    struct session *session = find(ctx, id);
    if (session)
        course_refused(session, why, not_subscribed);
}

static void on_claimed(void *ctx, const char *id, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch)
{
    answers_on_claimed(ctx, find(ctx, id), id, tag, status, owner ? owner : "", epoch);
}

static void on_released(void *ctx, const char *id, uint64_t tag, enum status status)
{
    struct session *session = find(ctx, id);
    if (session)
        answers_on_released(session, tag, status);
}

static void on_transferred(void *ctx, const char *id, uint64_t tag, enum status status,
                           uint64_t epoch)
{
    struct session *session = find(ctx, id);
    if (session)
        answers_on_transferred(session, tag, status, epoch);
}

static void on_asserted(void *ctx, const char *id, uint64_t tag, enum status status,
                        const char *owner, uint64_t epoch)
{
    struct session *session = find(ctx, id);
    if (session)
        answers_on_asserted(session, tag, status, owner, epoch);
}

static void on_published(void *ctx, const char *id, uint64_t tag, enum status status)
{
    struct session *session = find(ctx, id);
    if (session)
        answers_on_published(session, tag, status);
}

static void on_history(void *ctx, const char *id, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *items, size_t len,
                       bool more)
{
    struct session *session = find(ctx, id);
    if (!tail_on_history(ctx, tag, items, status == STATUS_OK ? len : 0) &&
        !subscription_on_history(ctx, tag, status, oldest, items, len, more) && session)
        stream_on_history(session, tag, status, oldest, items, len, more);
}

static void on_sent(void *ctx, uint64_t tag, enum status status)
{
    operators_on_sent(ctx, tag, status);
    polls_on_sent(ctx, tag, status);
}

static void on_revoked(void *ctx, uint64_t tag, enum status status)
{
    revoked_on_stored(ctx, tag, status);
}

static void on_push(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!session) {
        if (hub->tails)
            tail_on_push(hub, envelope);
    } else if (envelope->type == ENVELOPE_CLOSE) {
        operators_on_close(session);
    } else if (!messages_on_channel(session, envelope)) {
        metric_drop(DROP_BUS_UNREADABLE, 1); /* of a newer version */
    }
}

/* Messages that concern no session of this node. */
static bool on_node_message(struct hub *hub, struct session *session,
                            const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_PUBLISH: operators_on_publish(hub, session, envelope); return true;
    case ENVELOPE_PUBLISHED: operators_on_published(hub, envelope); return true;
    case ENVELOPE_DRAIN:
        if (hub->setup.events && hub->setup.events->on_drain_asked)
            hub->setup.events->on_drain_asked(hub->setup.events_ctx);
        return true;
    case ENVELOPE_REVOKE: revoked_on_revoke(hub, envelope); return true;
    case ENVELOPE_ROSTER: presence_on_roster(session, envelope); return true;
    case ENVELOPE_PRESENCE: presence_on_presence(session, envelope); return true;
    case ENVELOPE_CLIENTS: clients_on_ask(hub, envelope); return true;
    case ENVELOPE_CLIENT_ROWS:
    case ENVELOPE_COUNTED: polls_on_answer(hub, envelope); return true;
    case ENVELOPE_HELLO: lease_on_hello(hub, envelope); return true;
    case ENVELOPE_TAKE_ID: client_ids_on_take(session, envelope); return true;
    case ENVELOPE_ID_TAKEN: client_ids_on_taken(session, envelope); return true;
    case ENVELOPE_PROBE: return true;
    default: return false;
    }
}

static void on_message(void *ctx, const struct envelope *envelope, bool push)
{
    struct hub *hub = ctx;
    struct session *session = envelope->session.len
                                  ? session_find(hub, envelope->session.at, envelope->session.len)
                                  : NULL;
    if (envelope->epoch > BUS_EPOCH_MAX || (!push && !peer_is_name(envelope->node))) {
        metric_drop(DROP_BUS_UNREADABLE, 1);
        return;
    }
    if (push) {
        on_push(hub, session, envelope);
        return;
    }
    peers_heard(hub, envelope);
    if (session && session->state == SESSION_ENDED)
        session = NULL;
    if (!on_node_message(hub, session, envelope) && !messages_on_inbox(hub, session, envelope))
        metric_drop(DROP_BUS_UNREADABLE, 1);
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
    .on_sent = on_sent,
    .on_revoked = on_revoked,
    .on_message = on_message,
};

static void on_session_ended(struct session *session)
{
    client_ids_fini(session);
    presence_fini(session);
    tail_session_ended(session);
}

struct hub *hub_new(const struct hub_setup *setup)
{
    struct hub *hub = calloc(1, sizeof(*hub));
    uint8_t *scratch = malloc(SCRATCH_BYTES);
    if (!hub || !scratch)
        abort();
    hub->scratch = scratch;
    hub->setup = *setup;
    hub->conf = conf_ref(setup->conf);
    snprintf(hub->id, sizeof(hub->id), "%s", setup->node_id);
    hub->bus = setup->bus;
    rng_seed(&hub->rng, setup->seed);
    rng_seed(&hub->spread, ~setup->seed);
    hub->numbers = node_first_number(hub);
    timers_init(&hub->timers);
    hub->now_ms = setup->now_ms(setup->clock_ctx);
    hub->started_unix_ms = setup->unix_ms(setup->clock_ctx);
    record_new(hub);
    peers_new(hub);
    kept_sends_new(hub);
    revoked_new(hub);
    walks_new(hub, &audience_events, on_session_ended);
    lease_new(hub, &walks_lease_events);
    drain_new(hub, &walks_drain_events);
    bus_listen(hub->bus, &bus_events, hub);
    return hub;
}

void hub_free(struct hub *hub)
{
    operators_free_all(hub);
    polls_free_all(hub);
    clients_free_all(hub);
    revoked_free(hub);
    door_forget_all(hub);
    rates_free(hub);
    client_ids_free_all(hub);
    presence_free_all(hub);
    walks_free(hub);
    kept_sends_free(hub);
    peers_free(hub);
    lease_free(hub);
    drain_free(hub);
    record_free(hub);
    timers_fini(&hub->timers);
    conf_unref(hub->conf);
    queue_free_spares(&hub->spare_queues);
    directory_free(hub);
    tokens_free(hub);
    free(hub->due);
    free(hub->scratch);
    free(hub);
}

void hub_start(struct hub *hub)
{
    lease_start(hub);
}

/* How long timers may run in one turn. The other timers that are due run in the next turns. */
#define TIMERS_US 10000

struct timer_portion {
    const struct hub *hub;
    uint64_t until_us;
};

static uint64_t clock_us(const struct hub *hub)
{
    return hub->setup.now_us ? hub->setup.now_us(hub->setup.clock_ctx) : 0;
}

static bool has_time(void *ctx)
{
    const struct timer_portion *portion = ctx;
    return clock_us(portion->hub) < portion->until_us;
}

void hub_enter(struct hub *hub, uint64_t now_ms)
{
    lease_enforce(hub, now_ms);
    struct timer_portion portion = {hub, clock_us(hub) + TIMERS_US};
    timers_run_portion(&hub->timers, hub->now_ms, has_time, &portion);
}

/* Output for other nodes leaves before the output for clients of this node: it has the longer
 * way, and would otherwise wait for all those writes. */
static void flush_far(struct hub *hub)
{
    bool any = false;
    for (struct session *session = hub->sessions->dirty; session;
         session = session->turn.dirty_next)
        any = (session->state != SESSION_ENDED && session_flush_far(session)) || any;
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
    lease_enforce(hub, hub->setup.now_ms(hub->setup.clock_ctx));
    subscribing_run(hub);
    flush_far(hub);
    while (hub->sessions->dirty) {
        struct session *session = hub->sessions->dirty;
        hub->sessions->dirty = session->turn.dirty_next;
        session->turn.dirty = false;
        if (session->state == SESSION_ENDED)
            continue;
        session_flush(session);
        client_ids_flush(session); /* before the messages of these clients */
        outbox_flush(session);
    }
    flush_clients(hub);
    session_reap(hub);
    walks_turn_over(hub);
    hub->bus->ops->flush(hub->bus);
}

/* Events of upstream sockets. */

void hub_upstream_opened(struct session *session, struct upstream *upstream)
{
    link_on_opened(session, upstream);
}

void hub_upstream_message(struct session *session, struct upstream *upstream,
                          struct publication *publication)
{
    session->hub->counts.messages_in++;
    metric_add(METRIC_MESSAGES_IN, 1);
    metric_service_add(session->facts.metrics, SERVICE_MESSAGES_IN, 1);
    metric_add(METRIC_BYTES_IN, publication->len);
    link_on_message(session, upstream);
    if (lease_is_fencing(session->hub)) {
        metric_drop(DROP_FENCED, 1); /* as if the upstream were reset already */
        publication_unref(publication);
        return;
    }
    session_place(session, publication);
}

void hub_upstream_dropped(struct session *session, struct upstream *upstream)
{
    session->hub->counts.messages_in++;
    metric_add(METRIC_MESSAGES_IN, 1);
    metric_service_add(session->facts.metrics, SERVICE_MESSAGES_IN, 1);
    link_on_message(session, upstream);
    if (!lease_is_fencing(session->hub))
        session_lose_one(session);
}

void hub_upstream_writable(struct session *session, struct upstream *upstream)
{
    link_on_writable(session, upstream);
    outbox_link_writable(session);
}

void hub_upstream_closed(struct session *session, struct upstream *upstream,
                         const struct upstream_end *end)
{
    link_on_closed(session, upstream, end);
}

uint64_t hub_next_deadline(const struct hub *hub)
{
    return timers_next(&hub->timers);
}

void hub_reload(struct hub *hub, struct conf *conf)
{
    struct conf *before = hub->conf;
    hub->conf = conf_ref(conf);
    conf_unref(before);
    walks_on_reload(hub);
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
    return node_has_lease(hub) || hub->conf->redis.on_loss == ON_LOSS_SERVE;
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
        .clients = hub->counts.clients,
        .sessions = hub->counts.sessions,
        .owned = hub->counts.owned,
        .upstreams = hub->counts.upstreams,
        .messages_in = hub->counts.messages_in,
        .messages_out = hub->counts.messages_out,
    };
}

void hub_check(const struct hub *hub)
{
    node_check(hub);
    lease_check(hub);
    peers_check(hub);
    drain_check(hub);
    record_check(hub);
    walks_check(hub);
}
