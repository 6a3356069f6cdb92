#include "core/session/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "common/node_messages.h"
#include "core/node/drain.h"
#include "core/node/peers.h"
#include "core/session/backlog.h"
#include "core/session/kept_sends.h"
#include "core/session/link.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/parts.h"
#include "core/session/roster.h"
#include "core/session/session_record.h"
#include "core/session/stream.h"

struct session *session_find(struct hub *hub, const char *id, size_t len)
{
    struct session *session = NULL;
    HASH_FIND(hh, hub->sessions->by_id, id, len, session);
    return session;
}

/* --- its life --- */

static void session_free(struct session *session)
{
    struct hub *hub = session->hub;
    assert(!session->subscriptions);
    timer_stop(&hub->timers, &session->step.timer);
    timer_stop(&hub->timers, &session->facts.record);
    parts_free(session);
    service_unref(session->service);
    free(session->id);
    free(session);
}

static void enlist(struct session *session)
{
    struct hub *hub = session->hub;
    HASH_ADD_KEYPTR(hh, hub->sessions->by_id, session->id, strlen(session->id), session);
    hub->counts.sessions++;
    metric_set(METRIC_SESSIONS, hub->counts.sessions);
    metric_service_add(session->facts.metrics, SERVICE_SESSIONS, 1);
}

struct session *session_open(struct hub *hub, const struct target *target)
{
    struct session *session = session_find(hub, target->session_id, strlen(target->session_id));
    if (session)
        return session;
    session = calloc(1, sizeof(*session));
    char *id = strdup(target->session_id);
    if (!session || !id) {
        free(session);
        free(id);
        return NULL;
    }
    session->hub = hub;
    session->id = id;
    session->state = SESSION_SUBSCRIBING;
    session->facts.opened_ms = hub->now_ms;
    session->facts.since_unix_ms = node_unix_ms(hub);
    if (!parts_new(session, target)) {
        free(session);
        free(id);
        return NULL;
    }
    session->service = service_ref(target->service);
    session->facts.metrics = metric_service(session->service->name);
    enlist(session);
    kept_sends_take(hub, slice_of(session->id), outbox_note, session);
    hub->bus->ops->subscribe(hub->bus, session->id);
    return session;
}

static void skip_in_walks(const struct session *session)
{
    struct session **next = session->hub->sessions->walk_next;
    for (size_t i = 0; i < WALKS; i++)
        if (next[i] == session)
            next[i] = session->hh.next;
}

/* What its clients have sent is remembered until there is the session again. Returns how many items
 * that is. */
static size_t list_and_keep_sends(struct session *session, struct envelope_item *items)
{
    size_t len = outbox_sends(session, SEND_MEMORY_MS, items, SENDS_A_SESSION);
    if (len)
        kept_sends_keep(session->hub, slice_of(session->id), (struct message_items){items, len});
    return len;
}

static void keep_sends(struct session *session)
{
    struct envelope_item items[SENDS_A_SESSION];
    if (outbox_sends_len(session))
        list_and_keep_sends(session, items);
}

void session_end(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->state == SESSION_ENDED)
        return;
    link_reset(session);
    roster_clear(session, false);
    backlog_drop(session);
    if (outbox_last_number(session) > hub->sessions->commands)
        hub->sessions->commands = outbox_last_number(session);
    keep_sends(session); /* the owner that knows them, too, may be killed before they come again */
    session_set_state(session, SESSION_ENDED);
    log_info("session_closed", LOG_STR("session", session->id),
             LOG_U64("duration_ms", hub->now_ms - session->facts.opened_ms),
             LOG_U64("epoch", session->epoch), LOG_U64("offset", stream_at(session).offset),
             LOG_U64("messages_in", session->facts.messages_in),
             LOG_U64("messages_out", session->facts.messages_out));
    hub->sessions->on_ended(session);
    skip_in_walks(session);
    HASH_DEL(hub->sessions->by_id, session);
    hub->counts.sessions--;
    metric_set(METRIC_SESSIONS, hub->counts.sessions);
    metric_service_add(session->facts.metrics, SERVICE_SESSIONS, -1);
    session->turn.dead_next = hub->sessions->dead;
    hub->sessions->dead = session;
}

void session_reap(struct hub *hub)
{
    while (hub->sessions->dead) {
        struct session *session = hub->sessions->dead;
        hub->sessions->dead = session->turn.dead_next;
        assert(!session->turn.dirty);
        session_free(session);
    }
}

void session_free_all(struct hub *hub)
{
    struct session *session, *next;
    hub->sessions->dirty = NULL;
    for (session = hub->sessions->dead; session; session = session->turn.dead_next)
        session->turn.dirty = false;
    session_reap(hub);
    HASH_ITER (hh, hub->sessions->by_id, session, next) {
        link_reset(session);
        HASH_DEL(hub->sessions->by_id, session);
        session_free(session);
    }
}

/* --- who follows it --- */

static void count_clients(struct session *session, int change)
{
    session->facts.clients += (uint32_t)change;
    metric_service_add(session->facts.metrics, SERVICE_CLIENTS, change);
    record_session_soon(session);
}

uint16_t session_came(struct session *session, const struct target *target)
{
    count_clients(session, 1);
    uint16_t request = attempt_come(link_attempt(session), target->path, target->query);
    session_event(session, COURSE_CLIENTS);
    session_event(session, COURSE_WANTED);
    link_client_came(session);
    return request;
}

void session_left(struct session *session, uint16_t request)
{
    attempt_leave(link_attempt(session), request);
    count_clients(session, -1);
    session_event(session, session->facts.clients ? COURSE_CLIENTS : COURSE_UNWANTED);
}

bool session_is_wanted(const struct session *session)
{
    return session->facts.clients || (!outbox_is_empty(session) && !drain_is_late(session->hub));
}

/* --- what it publishes --- */

void session_place_now(struct session *session, struct publication *publication)
{
    backlog_place(session, publication, roster_len(session) != 0);
    stream_receive(session, publication);
    session_mark_dirty(session);
}

void session_lose_one(struct session *session)
{
    stream_lost(session, backlog_skip(session));
}

bool session_may_place(const struct session *session)
{
    return session->state == SESSION_OWNER && !ownership_is_outbidding(session) &&
           node_may_write(session->hub);
}

void session_place(struct session *session, struct publication *publication)
{
    if (session->state == SESSION_OWNER && ownership_is_outbidding(session))
        backlog_set_aside(session, publication);
    else
        session_place_now(session, publication);
    publication_unref(publication);
}

static bool may_publish(const struct session *session)
{
    return session->hub->bus_connected && !ownership_is_unsure(session);
}

void session_flush(struct session *session)
{
    const struct audience_events *audience = session->hub->sessions->audience;
    if (stream_batch(session)->len)
        audience->deliver(session);
    backlog_flush(session, may_publish(session), roster_len(session) != 0);
    if (session->newcomers.waiting)
        audience->moved(session);
}

void session_count_out(struct session *session, uint64_t n)
{
    session->facts.messages_out += n;
    session->hub->counts.messages_out += n;
    metric_add(METRIC_MESSAGES_OUT, n);
    metric_service_add(session->facts.metrics, SERVICE_MESSAGES_OUT, (int64_t)n);
}

bool session_flush_far(struct session *session)
{
    if (!roster_len(session) || !backlog_has_news(session))
        return false;
    backlog_flush(session, may_publish(session), true);
    return true;
}

void session_write_history(struct session *session, bool others)
{
    if (session_is_owned(session) && may_publish(session))
        backlog_hurry(session, others);
}

bool session_ring_covers(const struct session *session, struct position after)
{
    return session_is_owned(session) && !stream_is_recovering(session) &&
           ring_holds(session, after);
}

void session_broadcast_sends(struct session *session)
{
    struct hub *hub = session->hub;
    struct envelope_item items[SENDS_A_SESSION];
    size_t len = list_and_keep_sends(session, items);
    if (!len)
        return;
    const struct sends_message message = {{items, len}};
    struct envelope sends = sends_encode(&message);
    sends.session = slice_of(session->id);
    peers_broadcast(hub, &sends);
}

void session_check(const struct session *session)
{
    parts_check(session);
}
