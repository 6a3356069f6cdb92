#include "core/session/state.h"

#include <assert.h>

#include "common/log.h"

static const char *const state_names[SESSION_STATES] = {
    "subscribing", "claiming",  "joining", "member", "owner",
    "moving",      "releasing", "leaving", "fenced", "ended",
};

#define BIT(state) (1u << (state))
/* Which states may follow which. */
static const unsigned next_states[SESSION_STATES] = {
    [SESSION_SUBSCRIBING] = BIT(SESSION_CLAIMING) | BIT(SESSION_OWNER) | BIT(SESSION_ENDED),
    [SESSION_CLAIMING] = BIT(SESSION_JOINING) | BIT(SESSION_OWNER) | BIT(SESSION_ENDED),
    [SESSION_JOINING] = BIT(SESSION_MEMBER) | BIT(SESSION_CLAIMING) | BIT(SESSION_OWNER) |
                        BIT(SESSION_LEAVING) | BIT(SESSION_ENDED),
    [SESSION_MEMBER] = BIT(SESSION_JOINING) | BIT(SESSION_CLAIMING) | BIT(SESSION_OWNER) |
                       BIT(SESSION_LEAVING) | BIT(SESSION_ENDED),
    [SESSION_OWNER] = BIT(SESSION_MOVING) | BIT(SESSION_RELEASING) | BIT(SESSION_FENCED) |
                      BIT(SESSION_JOINING) | BIT(SESSION_CLAIMING) | BIT(SESSION_ENDED),
    [SESSION_MOVING] = BIT(SESSION_OWNER) | BIT(SESSION_JOINING) | BIT(SESSION_CLAIMING) |
                       BIT(SESSION_FENCED) | BIT(SESSION_LEAVING) | BIT(SESSION_ENDED),
    [SESSION_RELEASING] = BIT(SESSION_OWNER) | BIT(SESSION_CLAIMING) | BIT(SESSION_JOINING) |
                          BIT(SESSION_FENCED) | BIT(SESSION_ENDED),
    [SESSION_LEAVING] = BIT(SESSION_JOINING) | BIT(SESSION_CLAIMING) | BIT(SESSION_ENDED),
    [SESSION_FENCED] = BIT(SESSION_CLAIMING) | BIT(SESSION_JOINING) | BIT(SESSION_ENDED),
    [SESSION_ENDED] = 0,
};

const char *session_state_name(enum session_state state)
{
    return state_names[state];
}

static void on_step(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, step.timer);
    (void)now_ms;
    session_event(session, COURSE_STEP);
}

void session_step_after(struct session *session, uint64_t after_ms)
{
    timer_start(&session->hub->timers, &session->step.timer, session->hub->now_ms + after_ms,
                on_step);
}

void session_step_within(struct session *session, uint64_t after_ms)
{
    const struct timer *timer = &session->step.timer;
    if (!timer_armed(timer) || timer->at_ms > session->hub->now_ms + after_ms)
        session_step_after(session, after_ms);
}

void session_ask_again(struct session *session)
{
    uint8_t *asked = &session->step.asked;
    if (*asked < ASK_TIMES)
        ++*asked;
    session_step_after(session, *asked > 2 ? (uint64_t)ASK_AGAIN_MS << (*asked - 2) : ASK_AGAIN_MS);
}

void session_set_state(struct session *session, enum session_state state)
{
    struct hub *hub = session->hub;
    if (session->state == state)
        return;
    assert(next_states[session->state] & BIT(state));
    bool was_owned = session_is_owned(session);
    session->state = state;
    session->step.asked = 0;
    timer_stop(&hub->timers, &session->step.timer);
    if (was_owned != session_is_owned(session))
        hub->counts.owned += was_owned ? (uint64_t)-1 : 1;
    session->facts.since_unix_ms = node_unix_ms(hub);
    hub->sessions->on_state(session);
    log_debug("session_state", LOG_STR("session", session->id),
              LOG_STR("state", state_names[state]), LOG_U64("epoch", session->epoch));
}

void session_event(struct session *session, enum course_event event)
{
    session->hub->sessions->on_event(session, event);
}

void session_mark_dirty(struct session *session)
{
    struct sessions *sessions = session->hub->sessions;
    if (session->turn.dirty || session->state == SESSION_ENDED)
        return;
    session->turn.dirty = true;
    session->turn.dirty_next = sessions->dirty;
    sessions->dirty = session;
}
