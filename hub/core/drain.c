#include "core/drain.h"

#include "common/log.h"
#include "core/handover.h"
#include "core/lease.h"
#include "core/ownership.h"
#include "core/session.h"

#define LOOK_MS      50   /* how finely closes are spread */
#define HAND_OVER_MS 2000 /* the closing of clients does not wait longer for hand-overs */
#define FORCED_MS    5000 /* after node.drain what is left is let go */

static void on_drain_timer(struct timer *timer, uint64_t now_ms);

static bool hand_overs_left(const struct hub *hub)
{
    for (const struct session *session = hub->sessions; session; session = session->hh.next)
        if (session->state == SESSION_MOVING ||
            (session->state == SESSION_OWNER && session->members_len))
            return true;
    return hub->partings != NULL;
}

/* Closes as many as are due by now of those that were there when the closing began. */
static void close_due(struct hub *hub)
{
    uint64_t drain_ms = hub->conf->node.drain_ms, passed_ms = hub->now_ms - hub->drain_closing_ms;
    uint64_t due = drain_ms && passed_ms < drain_ms ? hub->drain_clients * passed_ms / drain_ms
                                                    : UINT64_MAX;
    struct session *session, *next;
    struct subscription *subscription, *next_subscription;
    HASH_ITER (hh, hub->sessions, session, next) {
        DL_FOREACH_SAFE (session->subscriptions, subscription, next_subscription) {
            if (hub->drain_closed >= due)
                return;
            if (!client_takes(subscription->client))
                continue;
            hub->drain_closed++;
            client_close(subscription->client, CLOSE_RESTART, "node restarts");
        }
    }
}

static void release_rest(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next) {
        if (session->state == SESSION_OWNER)
            ownership_release(session);
        else
            ownership_unwanted(session);
    }
}

static void finish(struct hub *hub)
{
    hub->drained = true;
    log_info("drained", LOG_U64("duration_ms", hub->now_ms - hub->drain_started_ms),
             LOG_U64("clients_left", hub->clients),
             LOG_U64("sessions_left", HASH_COUNT(hub->sessions)));
    lease_stop(hub);
    node_set_state(hub, NODE_STOPPED);
    if (hub->setup.events && hub->setup.events->on_drained)
        hub->setup.events->on_drained(hub->setup.events_ctx);
}

static void on_drain_timer(struct timer *timer, uint64_t now_ms)
{
    struct hub *hub = CONTAINER_OF(timer, struct hub, drain);
    /* Without a lease nothing can be handed over or released, and nothing needs to be: others take
     * it for that of a dead node. */
    bool alone = !lease_valid(hub);
    if (!hub->drain_closing_ms &&
        (alone || !hand_overs_left(hub) || now_ms - hub->drain_started_ms >= HAND_OVER_MS)) {
        hub->drain_closing_ms = now_ms;
        hub->drain_clients = hub->clients;
    }
    if (hub->drain_closing_ms)
        close_due(hub);
    if (drain_is_late(hub) && !hub->clients && !hub->partings)
        release_rest(hub);
    bool forced = hub->drain_closing_ms &&
                  now_ms - hub->drain_closing_ms >= hub->conf->node.drain_ms + FORCED_MS;
    bool settled = alone || (!hub->sessions && !hub->partings);
    if (forced || (hub->drain_closing_ms && !hub->clients && settled))
        finish(hub);
    else
        timer_start(&hub->timers, &hub->drain, now_ms + LOOK_MS, on_drain_timer);
}

void drain_start(struct hub *hub)
{
    if (hub->state == NODE_DRAINING || hub->state == NODE_STOPPED)
        return;
    node_set_state(hub, NODE_DRAINING);
    hub->drain_started_ms = hub->now_ms;
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next) {
        handover_consider(session);
        ownership_unwanted(session);
    }
    timer_start(&hub->timers, &hub->drain, hub->now_ms, on_drain_timer);
}
