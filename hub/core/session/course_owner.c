#include "core/session/course_owner.h"

#include "common/log.h"
#include "common/metrics.h"
#include "core/session/backlog.h"
#include "core/session/course_member.h"
#include "core/session/handover.h"
#include "core/session/link.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session.h"
#include "core/session/session_record.h"
#include "core/session/stream.h"

static void learn_epoch(struct session *session, uint64_t epoch)
{
    if (epoch > session->epoch)
        session->epoch = epoch;
}

void course_take(struct session *session, uint64_t epoch)
{
    struct hub *hub = session->hub;
    if (ownership_is_takeover(session))
        metric_add(METRIC_TAKEOVERS, 1);
    handover_disown_offer(session);
    ownership_taken(session);
    session->epoch = epoch;
    session_set_state(session, SESSION_OWNER);
    backlog_begin_epoch(session);
    stream_owner_epoch(session);
    backlog_publish_until(session, hub->now_ms + 2 * (uint64_t)hub->conf->node.lease_ms);
    outbox_owner_changed(session);
    link_start(session);
    session_event(session, COURSE_UNWANTED);
    session_event(session, COURSE_MAY_MOVE);
    hub->sessions->audience->members(session);
    log_debug("session_owned", LOG_STR("session", session->id), LOG_U64("epoch", epoch));
}

/* --- a higher epoch of this node's own --- */

void course_outbid(struct session *session, uint64_t seen_epoch)
{
    /* What was published before it reaches the store before it; what comes meanwhile is set aside,
     * and placed in the epoch that it ends with. So nothing is published in an epoch that is over.
     */
    session_write_history(session, false);
    if (!ownership_is_settled(session) || ownership_is_unsure(session) ||
        !backlog_is_live(session) || seen_epoch <= session->epoch)
        return;
    session_flush(session);
    ownership_outbid(session, seen_epoch, link_redacted(session));
}

void course_place_aside(struct session *session)
{
    struct pubs aside = backlog_take_aside(session);
    for (size_t i = 0; i < aside.len; i++)
        session_place_now(session, aside.items[i]);
    pubs_fini(&aside);
}

/* --- losing it --- */

/* Everything that only an owner has goes; what was to be published and is not certain to be, is
 * counted. */
void course_drop_owner_part(struct session *session)
{
    link_reset(session);
    handover_forget(session);
    outbox_owner_lost(session);
    roster_clear(session, false);
    backlog_drop(session);
    ownership_dropped(session);
}

void course_lose(struct session *session, struct slice owner, uint64_t epoch)
{
    course_drop_owner_part(session);
    learn_epoch(session, epoch);
    if (owner.len)
        ownership_set_owner(session, owner, epoch);
    else
        ownership_set_nobody(session);
    log_info("session_lost", LOG_STR("session", session->id),
             LOG_STR("owner", owner.len ? ownership_owner(session) : ""), LOG_U64("epoch", epoch));
    if (!session_is_wanted(session))
        session_end(session);
    else if (owner.len)
        course_join(session);
    else
        course_claim(session);
}

/* What this node asked for comes as an answer, too. */
void course_lose_to(struct session *session, const struct owner_news *news)
{
    if (!node_is_self(session->hub, news->owner) && !handover_expects(session, news->owner))
        course_lose(session, news->owner, news->epoch);
}

void course_fence(struct session *session, const struct owner_news *news)
{
    (void)news;
    stream_rewind(session);
    course_drop_owner_part(session);
    session_set_state(session, SESSION_FENCED);
    session_event(session, COURSE_UNWANTED);
}

static void give_up(struct session *session, const char *why)
{
    uint64_t epoch = session->epoch;
    stream_rewind(session);
    course_drop_owner_part(session);
    session_set_state(session, SESSION_FENCED);
    ownership_refuse_grant(session->hub, session->id, epoch);
    link_set_status(session, UPSTREAM_DOWN, why);
    course_claim(session); /* waits for the channel, or ends it */
}

/* Nobody who can't hear the channel of a session may hold it. The record is given back, for another
 * node may have the right. */
void course_refused(struct session *session, const char *why, bool no_subscription)
{
    if (session->state == SESSION_ENDED)
        return;
    if (no_subscription)
        stream_unsubscribed(session);
    if (no_subscription && session_is_owned(session))
        give_up(session, why);
    else if (no_subscription || session->state == SESSION_CLAIMING)
        link_set_status(session, UPSTREAM_DOWN, why);
}

/* --- releasing it --- */

void course_send_release(struct session *session, const struct owner_news *news)
{
    struct hub *hub = session->hub;
    (void)news;
    session_flush(session);
    if (!ownership_is_settled(session) || link_state(session) != LINK_NONE)
        return;
    if (!hub->bus_connected) {
        session_step_after(session, ASK_AGAIN_MS);
        return;
    }
    backlog_finish(session);
    session_broadcast_sends(session); /* before anybody can be granted it */
    ownership_release(session);
}

void course_release(struct session *session, const struct owner_news *news)
{
    course_place_aside(session);
    session_flush(session);
    session_set_state(session, SESSION_RELEASING);
    if (link_close(session))
        return; /* COURSE_LINK_CLOSED follows */
    course_send_release(session, news);
}

void course_linger_if_unwanted(struct session *session, const struct owner_news *news)
{
    if (session_is_wanted(session) || roster_len(session))
        return;
    if (session->hub->state == NODE_DRAINING)
        course_release(session, news);
    else
        session_step_after(session, session->service->linger_ms);
}

void course_stop_lingering(struct session *session, const struct owner_news *news)
{
    (void)news;
    timer_stop(&session->hub->timers, &session->step.timer);
}

void course_own_again(struct session *session, const struct owner_news *news)
{
    (void)news;
    if (ownership_is_released(session))
        return;
    session_set_state(session, SESSION_OWNER);
    link_start(session); /* or, once it is closed to the end, by that */
}

void course_start_link(struct session *session, const struct owner_news *news)
{
    (void)news;
    link_start(session); /* a client came back while it was closing */
}

/* --- is the record this node's? --- */

void course_assert(struct session *session, const struct owner_news *news)
{
    (void)news;
    if (!ownership_must_assert(session))
        return;
    bool outbidding = ownership_is_outbidding(session);
    ownership_assert(session, link_redacted(session));
    if (outbidding)
        course_place_aside(session);
    record_session_soon(session);
}

void course_emptied(struct session *session)
{
    if (!ownership_must_assert(session))
        return;
    backlog_append_all(session);
    if (ownership_is_settled(session))
        course_assert(session, NULL);
}

/* --- handing it over --- */

static void offer(struct session *session)
{
    struct member *member = roster_first(session);
    for (unsigned skip = handover_tries(session) % roster_len(session); skip; skip--)
        member = member->next;
    handover_offer(session, member_node(member), link_url(session));
}

void course_consider_handover(struct session *session, const struct owner_news *news)
{
    (void)news;
    if (session->hub->state == NODE_DRAINING && session->state == SESSION_OWNER &&
        roster_len(session) && handover_step(session) == HANDOVER_NONE)
        offer(session);
}

void course_escape(struct session *session, const struct owner_news *news)
{
    (void)news;
    if (roster_len(session) && handover_may_escape(session))
        offer(session);
}

void course_transfer(struct session *session, const struct owner_news *news)
{
    (void)news;
    session_flush(session);
    backlog_finish(session);
    handover_set_transferring(session);
    ownership_transfer(session, handover_to(session));
}

void course_move(struct session *session)
{
    course_place_aside(session);
    session_set_state(session, SESSION_MOVING);
    if (!link_close(session))
        course_transfer(session, NULL);
}
