#include "core/session/session_record.h"

#include "core/node/record.h"
#include "core/session/backlog.h"
#include "core/session/link.h"
#include "core/session/roster.h"

/* Each owned session at least this often: the record lives 30 minutes */
#define REFRESH_MS (10 * 60 * 1000u)

/* The word of contract section 1. Only of a session that is owned here. */
static const char *state_word(const struct session *session)
{
    if (session->state == SESSION_MOVING)
        return "moving";
    if (!session->facts.clients && !roster_len(session))
        return "lingering";
    switch (link_state(session)) {
    case LINK_OPEN: return "connected";
    case LINK_CONNECTING: return link_is_retrying(session) ? "waiting" : "connecting";
    case LINK_NONE:
    case LINK_WAITING:
    case LINK_CLOSING:
    case LINK_STATES: break;
    }
    return "waiting";
}

static void on_record_timer(struct timer *timer, uint64_t now_ms);

static void arm(struct session *session, uint64_t after_ms)
{
    timer_start(&session->hub->timers, &session->facts.record, session->hub->now_ms + after_ms,
                on_record_timer);
}

static void on_record_timer(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, facts.record);
    struct hub *hub = session->hub;
    (void)now_ms;
    if (!session_is_owned(session))
        return;
    if (!hub->bus_connected || !record_spend(hub)) {
        arm(session, hub->conf->node.lease_ms);
        return;
    }
    struct bus_session_record record = {
        .state = state_word(session),
        .reason = link_reason(session),
        .upstream = link_redacted(session),
        .since_ms = session->facts.since_unix_ms,
        .clients = session->facts.clients + roster_clients(session),
        .members = roster_len(session) + (session->facts.clients ? 1 : 0),
        .offset = backlog_placed(session),
    };
    hub->bus->ops->record_session(hub->bus, session->id, session->epoch, &record);
    arm(session, REFRESH_MS);
}

void record_session_soon(struct session *session)
{
    const struct timer *timer = &session->facts.record;
    uint64_t soon_ms = session->hub->conf->node.lease_ms / 3;
    if (!session_is_owned(session))
        return;
    if (!timer_armed(timer) || timer->at_ms > session->hub->now_ms + soon_ms)
        arm(session, soon_ms);
}
