#include "core/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client_ids.h"
#include "core/commands.h"
#include "core/fanout.h"
#include "core/handover.h"
#include "core/history.h"
#include "core/link.h"
#include "core/membership.h"
#include "core/ownership.h"
#include "core/peers.h"
#include "core/pubs.h"
#include "core/record.h"
#include "core/tail.h"

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

bool session_is_owned(const struct session *session)
{
    return session->state == SESSION_OWNER || session->state == SESSION_MOVING ||
           session->state == SESSION_RELEASING;
}

/* What a state does when its time has come. */
static void on_step(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, step);
    (void)now_ms;
    switch (session->state) {
    case SESSION_CLAIMING: ownership_claim(session); break;
    case SESSION_JOINING:
    case SESSION_MEMBER: membership_step(session); break;
    case SESSION_LEAVING: membership_send_leave(session); break;
    case SESSION_OWNER: ownership_release(session); break; /* linger has passed */
    case SESSION_RELEASING: ownership_send_release(session); break;
    case SESSION_SUBSCRIBING:
    case SESSION_MOVING:
    case SESSION_FENCED:
    case SESSION_ENDED:
    case SESSION_STATES: break;
    }
}

void session_step_after(struct session *session, uint64_t after_ms)
{
    timer_start(&session->hub->timers, &session->step, session->hub->now_ms + after_ms, on_step);
}

void session_ask_again(struct session *session)
{
    if (session->asked < ASK_TIMES)
        session->asked++;
    session_step_after(session, session->asked > 2 ? (uint64_t)ASK_AGAIN_MS << (session->asked - 2)
                                                   : ASK_AGAIN_MS);
}

void session_set_state(struct session *session, enum session_state state)
{
    struct hub *hub = session->hub;
    if (session->state == state)
        return;
    assert(next_states[session->state] & BIT(state));
    bool was_owned = session_is_owned(session);
    session->state = state;
    session->asked = 0;
    timer_stop(&hub->timers, &session->step);
    if (was_owned != session_is_owned(session))
        hub->owned += was_owned ? (uint64_t)-1 : 1;
    session->since_unix_ms = hub->setup.unix_ms(hub->setup.clock_ctx);
    record_session_soon(session);
    log_debug("session_state", LOG_STR("session", session->id),
              LOG_STR("state", state_names[state]), LOG_U64("epoch", session->epoch));
}

const char *session_state_word(const struct session *session)
{
    if (session->state == SESSION_MOVING)
        return "moving";
    if (session->state != SESSION_OWNER && session->state != SESSION_RELEASING)
        return session->state == SESSION_MEMBER
                   ? (session->status == UPSTREAM_CONNECTED ? "connected" : "waiting")
                   : "claiming";
    if (!session->clients_len && !session->members_len)
        return "lingering";
    switch (session->link) {
    case LINK_OPEN: return "connected";
    case LINK_CONNECTING: return session->backoff_ms ? "waiting" : "connecting";
    case LINK_NONE:
    case LINK_WAITING:
    case LINK_CLOSING:
    case LINK_STATES: break;
    }
    return "waiting";
}

struct session *session_find(struct hub *hub, const char *id, size_t len)
{
    struct session *session = NULL;
    HASH_FIND(hh, hub->sessions, id, len, session);
    return session;
}

static void session_free(struct session *session)
{
    struct hub *hub = session->hub;
    assert(!session->subscriptions && !session->upstream);
    timer_stop(&hub->timers, &session->step);
    timer_stop(&hub->timers, &session->recover);
    timer_stop(&hub->timers, &session->link_timer);
    timer_stop(&hub->timers, &session->record);
    timer_stop(&hub->timers, &session->prove);
    handover_forget(session);
    commands_fini(session);
    client_ids_fini(session);
    peer_set_owner(session, NULL);
    pubs_fini(&session->batch);
    pubs_fini(&session->to_bus);
    pubs_fini(&session->unconfirmed);
    pubs_fini(&session->held);
    ring_clear(session);
    service_unref(session->service);
    free(session->id);
    attempt_fini(&session->attempt);
    free(session->url);
    free(session->redacted);
    free(session);
}

struct session *session_open(struct hub *hub, const struct target *target)
{
    struct session *session = session_find(hub, target->session_id, strlen(target->session_id));
    if (session)
        return session;
    session = calloc(1, sizeof *session);
    char *id = strdup(target->session_id), *url = url_upstream(target);
    char *redacted = url ? url_redact(url) : NULL;
    if (!session || !id || !url || !redacted) {
        free(session);
        free(id);
        free(url);
        free(redacted);
        return NULL;
    }
    session->hub = hub;
    session->service = service_ref(target->service);
    session->metrics = metric_service(session->service->name);
    session->id = id;
    session->url = url;
    session->redacted = redacted;
    session->opened_at_ms = hub->now_ms;
    /* An owner may remember the session that was here before */
    session->out.last_number = hub->commands;
    session->since_unix_ms = hub->setup.unix_ms(hub->setup.clock_ctx);
    HASH_ADD_KEYPTR(hh, hub->sessions, session->id, strlen(session->id), session);
    metric_set(METRIC_SESSIONS, HASH_COUNT(hub->sessions));
    metric_service_add(session->metrics, SERVICE_SESSIONS, 1);
    ownership_start(session);
    return session;
}

void session_add(struct session *session, struct subscription *subscription)
{
    subscription->session = session;
    DL_APPEND(session->subscriptions, subscription);
    session->clients_len++;
    session->hub->clients++;
    metric_set(METRIC_CLIENTS, session->hub->clients);
    metric_service_add(session->metrics, SERVICE_CLIENTS, 1);
    if (session->state == SESSION_OWNER || session->state == SESSION_RELEASING)
        ownership_wanted(session);
    else
        membership_count_changed(session);
    link_client_came(session);
    record_session_soon(session);
}

void session_remove(struct session *session, struct subscription *subscription)
{
    DL_DELETE(session->subscriptions, subscription);
    subscription->session = NULL;
    attempt_leave(&session->attempt, subscription->request);
    session->clients_len--;
    session->hub->clients--;
    metric_set(METRIC_CLIENTS, session->hub->clients);
    metric_service_add(session->metrics, SERVICE_CLIENTS, -1);
    record_session_soon(session);
    if (session->clients_len) {
        membership_count_changed(session);
        return;
    }
    ownership_unwanted(session);
}

void session_end(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->state == SESSION_ENDED)
        return;
    link_reset(session);
    membership_remove_all(session);
    if (session->out.last_number > hub->commands)
        hub->commands = session->out.last_number;
    session_set_state(session, SESSION_ENDED);
    log_info("session_closed", LOG_STR("session", session->id),
             LOG_U64("duration_ms", hub->now_ms - session->opened_at_ms),
             LOG_U64("epoch", session->epoch), LOG_U64("offset", session->at.offset),
             LOG_U64("messages_in", session->messages_in),
             LOG_U64("messages_out", session->messages_out));
    if (!tail_wants(hub, session->id))
        hub->bus->ops->unsubscribe(hub->bus, session->id);
    HASH_DEL(hub->sessions, session);
    metric_set(METRIC_SESSIONS, HASH_COUNT(hub->sessions));
    metric_service_add(session->metrics, SERVICE_SESSIONS, -1);
    session->dead_next = hub->dead;
    hub->dead = session;
}

void session_reap(struct hub *hub)
{
    while (hub->dead) {
        struct session *session = hub->dead;
        hub->dead = session->dead_next;
        assert(!session->dirty);
        session_free(session);
    }
}

void session_free_all(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next) {
        link_reset(session);
        membership_remove_all(session);
        HASH_DEL(hub->sessions, session);
        session_free(session);
    }
}
