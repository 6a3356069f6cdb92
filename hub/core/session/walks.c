#include "core/session/walks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "core/session/backlog.h"
#include "core/session/course.h"
#include "core/session/course_owner.h"
#include "core/session/handover.h"
#include "core/session/link.h"
#include "core/session/roster.h"
#include "core/session/session.h"
#include "core/session/session_record.h"

#define WALKED_A_TURN   500  /* sessions of a walk */
#define CLOSED_A_TURN   1000 /* clients of removed services, and of a drain */
#define RELEASED_A_TURN 200  /* sessions, at the end of a drain */

struct walk {
    struct hub *hub;
    enum walk_kind kind;
    struct timer timer; /* armed while it goes on */
    size_t visited;     /* sessions, in this turn */
};

struct walks {
    struct walk of[WALKS];
};

/* --- walks --- */

static void visit_connected(struct session *session)
{
    session_event(session, COURSE_CONNECTED);
}

static void visit_lease_back(struct session *session)
{
    session_event(session, COURSE_LEASE_BACK);
}

static void visit_service(struct session *session)
{
    const char *name = session->service->name;
    struct sessions *sessions = session->hub->sessions;
    if (conf_service(session->hub->conf, name, strlen(name)))
        return;
    uint64_t closed = sessions->audience->end_some(session, CLOSED_A_TURN, CLOSE_GOING_AWAY,
                                                   "service removed");
    if (closed == CLOSED_A_TURN)
        sessions->walk_next[WALK_SERVICES] = session; /* it has more: once again, next turn */
}

static void visit_drain(struct session *session)
{
    session_event(session, COURSE_MAY_MOVE);
    session_event(session, COURSE_UNWANTED);
}

static void visit_fence(struct session *session)
{
    session_event(session, COURSE_FENCED);
}

static void visit_fenced(struct session *session)
{
    if (session->state == SESSION_FENCED)
        link_set_status(session, UPSTREAM_DOWN, "node is cut off from Redis");
}

typedef void visit_fn(struct session *session);

static visit_fn *const visits[WALKS] = {
    [WALK_CONNECTED] = visit_connected, [WALK_LEASE_BACK] = visit_lease_back,
    [WALK_EMPTIED] = course_emptied,    [WALK_SERVICES] = visit_service,
    [WALK_FENCE] = visit_fence,         [WALK_FENCED] = visit_fenced,
    [WALK_DRAIN] = visit_drain,
};

static void on_walk(struct timer *timer, uint64_t now_ms);

static void end_fence(struct hub *hub);

static void go_on_next_turn(struct walk *walk)
{
    timer_start(&walk->hub->timers, &walk->timer, walk->hub->now_ms, on_walk);
}

static void walk_on(struct walk *walk)
{
    struct session **next = &walk->hub->sessions->walk_next[walk->kind];
    for (; *next && walk->visited < WALKED_A_TURN; walk->visited++) {
        struct session *session = *next;
        *next = session->hh.next;
        visits[walk->kind](session);
        if (*next == session)
            break;
    }
    if (*next)
        go_on_next_turn(walk);
    else if (walk->kind == WALK_FENCE)
        end_fence(walk->hub);
}

static void on_walk(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    walk_on(CONTAINER_OF(timer, struct walk, timer));
}

/* Anew from the first, where it is under way. */
static void walk_start(struct hub *hub, enum walk_kind kind)
{
    hub->sessions->walk_next[kind] = hub->sessions->by_id;
    walk_on(&hub->sessions->walks->of[kind]);
}

static void walk_stop(struct hub *hub, enum walk_kind kind)
{
    hub->sessions->walk_next[kind] = NULL;
    timer_stop(&hub->timers, &hub->sessions->walks->of[kind].timer);
}

void walks_new(struct hub *hub, const struct audience_events *audience,
               void (*on_ended)(struct session *session))
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));
    struct walks *walks = calloc(1, sizeof(*walks));
    if (!sessions || !walks)
        abort();
    for (size_t i = 0; i < WALKS; i++)
        walks->of[i] = (struct walk){.hub = hub, .kind = (enum walk_kind)i};
    *sessions = (struct sessions){.commands = node_first_number(hub),
                                  .audience = audience,
                                  .on_event = course,
                                  .on_state = record_session_soon,
                                  .on_ended = on_ended,
                                  .walks = walks};
    hub->sessions = sessions;
    backlogs_new(hub);
}

void walks_free(struct hub *hub)
{
    for (size_t i = 0; i < WALKS; i++)
        walk_stop(hub, (enum walk_kind)i);
    handover_free_all(hub);
    session_free_all(hub);
    backlogs_free(hub);
    free(hub->sessions->walks);
    free(hub->sessions);
    hub->sessions = NULL;
}

void walks_turn_over(struct hub *hub)
{
    for (size_t i = 0; i < WALKS; i++)
        hub->sessions->walks->of[i].visited = 0;
}

void walks_on_connected(struct hub *hub)
{
    walk_start(hub, WALK_CONNECTED);
}

void walks_on_disconnected(struct hub *hub)
{
    walk_stop(hub, WALK_CONNECTED);
    walk_stop(hub, WALK_EMPTIED);
    backlogs_on_disconnected(hub);
}

void walks_on_reload(struct hub *hub)
{
    walk_start(hub, WALK_SERVICES);
}

void walks_check(const struct hub *hub)
{
    const struct sessions *sessions = hub->sessions;
    const struct session *session;
    uint64_t len = 0, owned = 0;
    for (session = sessions->by_id; session; session = session->hh.next) {
        assert(session->hub == hub && session->state != SESSION_ENDED);
        session_check(session);
        owned += session_is_owned(session);
        len++;
    }
    assert(len == hub->counts.sessions && owned == hub->counts.owned);
    for (size_t i = 0; i < WALKS; i++)
        assert(!sessions->walk_next[i] || timer_armed(&sessions->walks->of[i].timer));
}

/* --- the lease --- */

static void all_at_once(struct hub *hub, enum course_event event)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions->by_id, session, next)
        session_event(session, event);
}

static void on_lapsed(struct hub *hub)
{
    all_at_once(hub, COURSE_LAPSED);
}

/* Somebody else may open the upstreams when the lease is over. Those that have something to write
 * at the end of this turn come first: it must not go out. */
static void on_fence(struct hub *hub)
{
    struct session *session, *next;
    for (session = hub->sessions->dirty; session; session = next) {
        next = session->turn.dirty_next;
        session_event(session, COURSE_FENCED);
    }
    hub->sessions->walk_next[WALK_FENCE] = hub->sessions->by_id;
    go_on_next_turn(&hub->sessions->walks->of[WALK_FENCE]);
}

static void on_fence_rest(struct hub *hub)
{
    walk_stop(hub, WALK_FENCE);
    all_at_once(hub, COURSE_FENCED);
    end_fence(hub);
}

static void end_fence(struct hub *hub)
{
    walk_start(hub, WALK_FENCED);
    lease_fence_is_over(hub);
}

static void on_back(struct hub *hub)
{
    walk_start(hub, WALK_LEASE_BACK);
}

static void on_emptied(struct hub *hub)
{
    log_warn("store_emptied", LOG_U64("sessions", hub->counts.owned));
    walk_start(hub, WALK_EMPTIED);
}

const struct lease_events walks_lease_events = {
    .lapsed = on_lapsed,
    .fence = on_fence,
    .fence_rest = on_fence_rest,
    .back = on_back,
    .emptied = on_emptied,
};

/* --- the drain --- */

static void on_drain_begun(struct hub *hub)
{
    walk_start(hub, WALK_DRAIN);
}

static bool is_handing_over(const struct hub *hub)
{
    const struct session *session;
    for (session = hub->sessions->by_id; session; session = session->hh.next)
        if (session->state == SESSION_MOVING ||
            (session->state == SESSION_OWNER && roster_len(session)))
            return true;
    return handover_has_pending_take(hub);
}

static uint64_t close_clients(struct hub *hub, uint64_t n)
{
    const struct audience_events *audience = hub->sessions->audience;
    struct session *session, *next;
    if (n > CLOSED_A_TURN)
        n = CLOSED_A_TURN;
    uint64_t closed = audience->close_some(hub, NULL, n, CLOSE_RESTART, "node restarts");
    HASH_ITER (hh, hub->sessions->by_id, session, next) {
        if (closed == n)
            break;
        closed += audience->close_some(hub, session, n - closed, CLOSE_RESTART, "node restarts");
    }
    return closed;
}

static void release_rest(struct hub *hub)
{
    struct session *session, *next;
    size_t released = 0;
    if (handover_has_pending_take(hub))
        return;
    HASH_ITER (hh, hub->sessions->by_id, session, next) {
        if (released == RELEASED_A_TURN)
            break;
        released += session->state == SESSION_OWNER;
        session_event(session, COURSE_DRAIN_OVER);
    }
}

static bool is_settled(const struct hub *hub)
{
    return !hub->sessions->by_id && !handover_has_pending_take(hub);
}

const struct drain_events walks_drain_events = {
    .begun = on_drain_begun,
    .handing_over = is_handing_over,
    .close_clients = close_clients,
    .release_rest = release_rest,
    .settled = is_settled,
};
