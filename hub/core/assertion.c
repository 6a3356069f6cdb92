#include "core/assertion.h"

#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/fanout.h"
#include "core/ownership.h"
#include "core/peers.h"
#include "core/record.h"
#include "core/session.h"

/* What a fail-over may have lost of acknowledged writes: replicas lag less than that */
#define LOST_WRITES_MS 10000

void assertion_send(struct session *session)
{
    struct hub *hub = session->hub;
    session->reclaiming = false;
    session->tag = hub_tag(hub);
    hub->bus->ops->assert_owner(hub->bus, session->id, session->tag, session->epoch,
                                session->redacted);
    record_session_soon(session);
}

/* The record may be another's, or just gone: data deleted by hand break no connection. Only the
 * first takes the session away. */
void assertion_on_refusal(struct session *session)
{
    if (session->state != SESSION_OWNER || session->tag)
        return;
    assertion_send(session);
    fanout_append_ring(session, UINT64_MAX);
}

bool assertion_pending(const struct session *session)
{
    return session->state == SESSION_OWNER &&
           (session->unproven || (session->tag && !session->reclaiming));
}

static void on_prove(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, prove);
    if (session->state == SESSION_OWNER && session->hub->bus_connected && !session->tag)
        assertion_send(session);
    else if (session_is_owned(session))
        timer_start(&session->hub->timers, timer, now_ms + ASK_AGAIN_MS, on_prove);
}

/* A part of the store may be away while the bus is connected, and come back without a word: a
 * Cluster whose primary died. */
void assertion_doubt(struct session *session)
{
    if (session->state != SESSION_OWNER)
        return;
    session->unproven = true;
    timer_start(&session->hub->timers, &session->prove, session->hub->now_ms + ASK_AGAIN_MS,
                on_prove);
}

/* Nobody else may be granted it yet: its upstream may be open, if only to be closed. */
bool assertion_applies(const struct session *session)
{
    return session_is_owned(session) && !session->release_sent &&
           session->move.step != MOVE_TRANSFERRING;
}

void assertion_store_emptied(struct hub *hub)
{
    struct session *session, *next;
    log_warn("store_emptied", LOG_U64("sessions", hub->owned));
    HASH_ITER (hh, hub->sessions, session, next) {
        if (assertion_applies(session) && !session->tag)
            assertion_send(session);
        if (session->state == SESSION_OWNER)
            fanout_append_ring(session, UINT64_MAX);
    }
}

void assertion_on_answer(struct session *session, uint64_t tag, enum status status,
                         const char *owner, uint64_t epoch)
{
    if (session->tag != tag)
        return;
    session->tag = 0;
    if (session->state == SESSION_RELEASING)
        ownership_send_release(session);
    if (session->state != SESSION_OWNER)
        return;
    if (status == STATUS_OK) {
        session->unproven = false;
        timer_stop(&session->hub->timers, &session->prove);
        fanout_append_ring(session, LOST_WRITES_MS);
        fanout_publish_again(session);
    } else if (status == STATUS_IO) {
        assertion_doubt(session);
    } else if (status == STATUS_REFUSED) {
        metric_add(METRIC_SPLIT_OWNERS, 1);
        bool named = owner && *owner && strcmp(owner, session->hub->id) != 0;
        ownership_lost(session, named ? peer_get(session->hub, owner, strlen(owner)) : NULL, epoch);
    }
}
