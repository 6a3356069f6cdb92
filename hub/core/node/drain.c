#include "core/node/drain.h"

#include <assert.h>
#include <stdlib.h>

#include "common/log.h"
#include "core/node/lease.h"

#define LOOK_MS      50   /* how finely closes are spread */
#define HAND_OVER_MS 2000 /* the closing of clients does not wait longer for hand-overs */
#define FORCED_MS    5000 /* after node.drain what is left is let go */

enum drain_step {
    DRAIN_NOT,
    DRAIN_HANDING_OVER, /* until no hand-over is left, or HAND_OVER_MS */
    DRAIN_CLOSING,      /* until all clients are gone and all is settled, or FORCED_MS late */
    DRAIN_DONE,
    DRAIN_STEPS
};

static const char *const step_names[DRAIN_STEPS] = {"not", "handing_over", "closing", "done"};

struct drain {
    struct hub *hub;
    const struct drain_events *events;
    enum drain_step step;
    uint64_t started_ms;
    uint64_t closing_ms; /* when the closing of clients began */
    uint64_t clients;    /* how many there were then */
    uint64_t closed;
    struct timer timer;
};

void drain_new(struct hub *hub, const struct drain_events *events)
{
    hub->drain = calloc(1, sizeof(*hub->drain));
    if (!hub->drain)
        abort();
    hub->drain->hub = hub;
    hub->drain->events = events;
}

void drain_free(struct hub *hub)
{
    timer_stop(&hub->timers, &hub->drain->timer);
    free(hub->drain);
    hub->drain = NULL;
}

static void set_step(struct drain *drain, enum drain_step step)
{
    assert(step == drain->step + 1);
    drain->step = step;
    log_debug("drain", LOG_STR("step", step_names[step]));
}

static uint64_t late_ms(const struct drain *drain)
{
    uint64_t end_ms = drain->closing_ms + drain->hub->conf->node.drain_ms;
    return drain->hub->now_ms > end_ms ? drain->hub->now_ms - end_ms : 0;
}

bool drain_is_late(const struct hub *hub)
{
    const struct drain *drain = hub->drain;
    return drain->step >= DRAIN_CLOSING &&
           hub->now_ms - drain->closing_ms >= hub->conf->node.drain_ms;
}

/* Closes as many as are due by now of those that were there when the closing began: each in the
 * middle of its share of the time, so that a node with few clients does not wait for the end. */
static void close_due(struct drain *drain)
{
    uint64_t drain_ms = drain->hub->conf->node.drain_ms,
             passed_ms = drain->hub->now_ms - drain->closing_ms;
    uint64_t due = drain_ms && passed_ms < drain_ms
                       ? (2 * drain->clients * passed_ms / drain_ms + 1) / 2
                       : UINT64_MAX;
    if (due > drain->closed)
        drain->closed += drain->events->close_clients(drain->hub, due - drain->closed);
}

static void finish(struct drain *drain)
{
    struct hub *hub = drain->hub;
    set_step(drain, DRAIN_DONE);
    log_info("drained", LOG_U64("duration_ms", hub->now_ms - drain->started_ms),
             LOG_U64("clients_left", hub->counts.clients),
             LOG_U64("sessions_left", hub->counts.sessions));
    lease_stop(hub);
    node_set_state(hub, NODE_STOPPED);
    if (hub->setup.events && hub->setup.events->on_drained)
        hub->setup.events->on_drained(hub->setup.events_ctx);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct drain *drain = CONTAINER_OF(timer, struct drain, timer);
    struct hub *hub = drain->hub;
    /* Without a lease nothing can be handed over or released, and nothing needs to be: others take
     * it for that of a dead node. */
    bool alone = !node_has_lease(hub);
    if (drain->step == DRAIN_HANDING_OVER && (alone || !drain->events->handing_over(hub) ||
                                              now_ms - drain->started_ms >= HAND_OVER_MS)) {
        set_step(drain, DRAIN_CLOSING);
        drain->closing_ms = now_ms;
        drain->clients = hub->counts.clients;
    }
    if (drain->step == DRAIN_CLOSING) {
        close_due(drain);
        if (drain_is_late(hub) && !hub->counts.clients)
            drain->events->release_rest(hub);
        bool settled = !hub->counts.clients && (alone || drain->events->settled(hub));
        if (settled || late_ms(drain) >= FORCED_MS) {
            finish(drain);
            return;
        }
    }
    timer_start(&hub->timers, timer, now_ms + LOOK_MS, on_timer);
}

void drain_start(struct hub *hub)
{
    struct drain *drain = hub->drain;
    if (hub->state == NODE_DRAINING || hub->state == NODE_STOPPED)
        return;
    node_set_state(hub, NODE_DRAINING);
    set_step(drain, DRAIN_HANDING_OVER);
    drain->started_ms = hub->now_ms;
    drain->events->begun(hub);
    timer_start(&hub->timers, &drain->timer, hub->now_ms, on_timer);
}

void drain_check(const struct hub *hub)
{
    const struct drain *drain = hub->drain;
    bool drains = drain->step == DRAIN_HANDING_OVER || drain->step == DRAIN_CLOSING;
    assert(drains == (hub->state == NODE_DRAINING));
    assert(drains == timer_armed(&drain->timer));
    assert((drain->step == DRAIN_DONE) == (hub->state == NODE_STOPPED));
    assert(drain->started_ms <= hub->now_ms && drain->closing_ms <= hub->now_ms);
}
