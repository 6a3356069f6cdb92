#include "core/session/course.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "common/node_messages.h"
#include "core/node/drain.h"
#include "core/session/backlog.h"
#include "core/session/handover.h"
#include "core/session/kept_sends.h"
#include "core/session/link.h"
#include "core/session/membership.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session.h"
#include "core/session/session_record.h"
#include "core/session/stream.h"

#define NAMED_WAIT_MS 500 /* TAKE follows the announcement by another way */
/* A changed number of clients is told this late, so that many changes are one message */
#define JOIN_AGAIN_MS 1000
/* The same while the upstream is down: the owner may wait for a client with another URL */
#define JOIN_DOWN_MS 200
/* Of clients' URLs in one JOIN; a single larger one goes */
#define REQUESTS_BYTES (32u * 1024)

bool session_is_wanted(const struct session *session)
{
    return session->facts.clients || (!outbox_is_empty(session) && !drain_is_late(session->hub));
}

static struct slice owner_of(const struct session *session)
{
    return slice_of(ownership_owner(session));
}

static void learn_epoch(struct session *session, uint64_t epoch)
{
    if (epoch > session->epoch)
        session->epoch = epoch;
}

/* --- claiming --- */

/* What was published at the end of an epoch and did not reach the store: its clients here may have
 * it, those of members are told that it is missing, before the next epoch begins. */
static void tell_lost_end(struct session *session)
{
    struct hub *hub = session->hub;
    const struct ended_message message = {backlog_unannounced_end(session)};
    if (!message.last.epoch || !hub->bus_connected || !node_has_lease(hub))
        return;
    struct envelope ended = ended_encode(&message);
    ended.session = slice_of(session->id);
    hub->bus->ops->broadcast(hub->bus, session->id, &ended);
    backlog_end_announced(session);
    stream_ended(session, message.last);
}

void course_claim(struct session *session)
{
    struct hub *hub = session->hub;
    tell_lost_end(session);
    if (!session_is_wanted(session)) {
        session_end(session);
        return;
    }
    session_set_state(session, SESSION_CLAIMING);
    if (!ownership_is_settled(session))
        return;
    if (!hub->bus_connected || !node_has_lease(hub) || !stream_is_subscribed(session)) {
        session_step_after(session, ASK_AGAIN_MS);
        return;
    }
    handover_disown_offer(session);
    ownership_claim(session, link_redacted(session));
}

static void note_kept(void *ctx, const char *client, uint64_t id, bool expired)
{
    (expired ? outbox_note_expired : outbox_note_send)(ctx, client, id);
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
    kept_sends_take(hub, slice_of(session->id), note_kept, session);
    link_start(session);
    course(session, COURSE_UNWANTED);
    course_consider_handover(session);
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
    if (!ownership_is_settled(session) || ownership_is_unproven(session) ||
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

static void fence(struct session *session, const struct news *news)
{
    (void)news;
    stream_rewind(session);
    course_drop_owner_part(session);
    session_set_state(session, SESSION_FENCED);
    link_tell(session, UPSTREAM_DOWN, "node is cut off from Redis");
    course(session, COURSE_UNWANTED);
}

static void give_up(struct session *session, const char *why)
{
    uint64_t epoch = session->epoch;
    stream_rewind(session);
    course_drop_owner_part(session);
    session_set_state(session, SESSION_FENCED);
    ownership_refuse_grant(session->hub, session->id, epoch);
    link_tell(session, UPSTREAM_DOWN, why);
    course_claim(session); /* waits for the channel, or ends it */
}

/* Nobody who can't hear the channel of a session may hold it. The record is given back, for another
 * node may have the right. */
void course_refused(struct session *session, const char *why, bool deaf)
{
    if (session->state == SESSION_ENDED)
        return;
    if (deaf)
        stream_deaf(session);
    if (deaf && session_is_owned(session))
        give_up(session, why);
    else if (deaf || session->state == SESSION_CLAIMING)
        link_tell(session, UPSTREAM_DOWN, why);
}

static void forget_told(struct session *session, const struct news *news)
{
    (void)news;
    outbox_owner_lost(session);
    stream_unconfirmed(session); /* it takes this node for dead */
    /* A grant of before the lapse is none: another may have taken it from this node since */
    ownership_forget_answer(session);
}

/* --- joining --- */

/* The URLs of the clients here, among which the owner may choose. */
static size_t gather_requests(const struct session *session,
                              struct envelope_item items[ATTEMPT_REQUESTS])
{
    size_t n = 0, bytes = 0;
    for (size_t i = 0; i < ATTEMPT_REQUESTS; i++) {
        struct slice text = slice_of(attempt_own(link_attempt(session), i));
        if (!text.len || (n && bytes + text.len > REQUESTS_BYTES))
            continue;
        bytes += text.len;
        items[n++] = request_item(&(struct request_entry){.text = text});
    }
    return n;
}

static struct slice who_is_asked(const struct session *session)
{
    return session->hub->bus_connected ? owner_of(session) : (struct slice){0};
}

static void send_join(struct session *session)
{
    struct envelope_item items[ATTEMPT_REQUESTS];
    struct membership_join join = {
        .owner = who_is_asked(session),
        .named_at = ownership_named_at(session),
        .confirmed = outbox_confirmed(session),
        .stands = stream_at(session),
        .requests = {items, gather_requests(session, items)},
    };
    membership_send_join(session, &join);
}

void course_join(struct session *session)
{
    session_set_state(session, SESSION_JOINING);
    stream_unconfirmed(session);
    session->step.asked = 0;
    membership_begin(session);
    session_ask_again(session);
    send_join(session);
}

/* Many reasons within a while make one JOIN. */
void course_join_soon(struct session *session)
{
    membership_want_join(session);
    if (session->state == SESSION_MEMBER)
        session_step_within(session, link_status(session) == UPSTREAM_CONNECTED ? JOIN_AGAIN_MS
                                                                                : JOIN_DOWN_MS);
}

void course_member(struct session *session, bool ask_soon)
{
    uint64_t roll_ms = roll_call_ms(session->hub);
    bool soon = ask_soon || membership_wants_join(session);
    session_step_after(session, soon ? JOIN_AGAIN_MS : roll_ms);
    course(session, COURSE_UNWANTED);
}

static void member_step(struct session *session, const struct news *news)
{
    uint64_t roll_ms = roll_call_ms(session->hub);
    (void)news;
    if (membership_is_forgotten(session, roll_ms)) {
        course_join(session); /* the owner may have forgotten this node */
        return;
    }
    if (membership_wants_join(session))
        send_join(session);
    session_step_after(session, roll_ms);
}

static void join_again(struct session *session, const struct news *news)
{
    (void)news;
    session_ask_again(session);
    send_join(session);
}

void course_not_owner(struct session *session)
{
    outbox_owner_lost(session);
    bool again = membership_refused(session);
    ownership_set_nobody(session);
    if (!again) {
        course_claim(session);
        return;
    }
    /* The record goes on naming it: not as fast as the network goes */
    session_set_state(session, SESSION_CLAIMING);
    session_step_after(session, ASK_AGAIN_MS / 4);
}

/* --- leaving --- */

static void send_leave(struct session *session, const struct news *news)
{
    (void)news;
    session_ask_again(session);
    membership_send_leave(session, who_is_asked(session));
}

/* Its messages that still wait go first: a member with work left leaves when that is done. */
static void leave_if_unwanted(struct session *session, const struct news *news)
{
    if (session_is_wanted(session))
        return;
    session_set_state(session, SESSION_LEAVING);
    membership_begin(session);
    send_leave(session, news);
}

static void end(struct session *session, const struct news *news)
{
    (void)news;
    session_end(session);
}

static void end_if_unwanted(struct session *session, const struct news *news)
{
    if (session->state == SESSION_FENCED && backlog_unannounced_end(session).epoch)
        return; /* it has something to tell when the lease is back */
    (void)news;
    if (!session_is_wanted(session))
        session_end(session);
}

/* While a claim is under way its answer decides; a grant is given back. */
static void end_if_settled(struct session *session, const struct news *news)
{
    if (ownership_is_settled(session))
        end_if_unwanted(session, news);
}

/* --- releasing --- */

static void send_release(struct session *session, const struct news *news)
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
    session_tell_sends(session); /* before anybody can be granted it */
    ownership_release(session);
}

static void release(struct session *session, const struct news *news)
{
    course_place_aside(session);
    session_flush(session);
    session_set_state(session, SESSION_RELEASING);
    if (link_close(session))
        return; /* COURSE_LINK_CLOSED follows */
    send_release(session, news);
}

static void linger_if_unwanted(struct session *session, const struct news *news)
{
    if (session_is_wanted(session) || roster_len(session))
        return;
    if (session->hub->state == NODE_DRAINING)
        release(session, news);
    else
        session_step_after(session, session->service->linger_ms);
}

static void stop_lingering(struct session *session, const struct news *news)
{
    (void)news;
    timer_stop(&session->hub->timers, &session->step.timer);
}

static void own_again(struct session *session, const struct news *news)
{
    (void)news;
    if (ownership_release_was_sent(session))
        return;
    session_set_state(session, SESSION_OWNER);
    link_start(session); /* or, once it is closed to the end, by that */
}

static void start_link(struct session *session, const struct news *news)
{
    (void)news;
    link_start(session); /* a client came back while it was closing */
}

/* --- who else owns it --- */

static void take_over(struct session *session, const struct news *news)
{
    (void)news;
    outbox_owner_lost(session);
    ownership_owner_died(session);
    course_claim(session);
}

/* What this node asked for comes as an answer, too. */
static void lose_to(struct session *session, const struct news *news)
{
    if (!node_is_self(session->hub, news->owner) && !handover_expects(session, news->owner))
        course_lose(session, news->owner, news->epoch);
}

/* Its publications count from here on; the answer, if one is under way, brings the JOIN. */
static void note_owner(struct session *session, const struct news *news)
{
    if (node_is_self(session->hub, news->owner))
        return; /* the answer under way says so, too */
    session->epoch = news->epoch;
    ownership_set_owner(session, news->owner, news->epoch);
    if (ownership_is_settled(session) && session_is_wanted(session))
        course_join(session);
}

static void follow_owner(struct session *session, const struct news *news)
{
    ownership_set_owner(session, news->owner, news->epoch);
    handover_disown_offer(session);
    if (session_is_wanted(session))
        course_join(session);
    else
        session_end(session);
}

static void follow_after_fence(struct session *session, const struct news *news)
{
    if (node_is_self(session->hub, news->owner))
        return;
    session->epoch = news->epoch;
    outbox_owner_lost(session);
    follow_owner(session, news);
}

/* By a hand-over of the owner that this node knew, its successor was told what had gone upstream.
 */
static void learn_owner(struct session *session, const struct news *news)
{
    bool handed_over = news->from && news->from == session->epoch;
    session->epoch = news->epoch;
    if (!handed_over)
        outbox_owner_lost(session);
    if (!node_is_self(session->hub, news->owner)) {
        follow_owner(session, news);
        return;
    }
    ownership_set_nobody(session); /* TAKE is on its way, or the session is claimed */
    session_set_state(session, SESSION_CLAIMING);
    session_step_after(session, NAMED_WAIT_MS);
}

/* --- is the record this node's? --- */

static void assert_record(struct session *session, const struct news *news)
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
        assert_record(session, NULL);
}

/* --- handing it over --- */

void course_offer(struct session *session)
{
    struct member *member = roster_first(session);
    for (unsigned skip = handover_tries(session) % roster_len(session); skip; skip--)
        member = member->next;
    handover_offer(session, member_node(member), link_url(session));
}

void course_consider_handover(struct session *session)
{
    if (session->hub->state == NODE_DRAINING && session->state == SESSION_OWNER &&
        roster_len(session) && handover_step(session) == HANDOVER_NONE)
        course_offer(session);
}

static void transfer(struct session *session, const struct news *news)
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
        transfer(session, NULL);
}

/* --- the table --- */

static void claim(struct session *session, const struct news *news)
{
    (void)news;
    course_claim(session);
}

static void join(struct session *session, const struct news *news)
{
    (void)news;
    course_join(session);
}

typedef void follow_fn(struct session *session, const struct news *news);

/* clang-format off */
static follow_fn *const follows[SESSION_STATES][COURSE_EVENTS] = {
    /*                      STEP          SUBSCRIBED WANTED          UNWANTED            ANNOUNCED           OWNER_DEAD LINK_CLOSED   CONNECTED      LAPSED       FENCED LEASE_BACK */
    [SESSION_SUBSCRIBING] = {NULL,         claim,     NULL,           end_if_unwanted,    NULL,               NULL,      NULL,         NULL,          forget_told, NULL,  NULL},
    [SESSION_CLAIMING]    = {claim,        NULL,      NULL,           end_if_settled,     note_owner,         NULL,      NULL,         claim,         forget_told, NULL,  claim},
    [SESSION_JOINING]     = {join_again,   join,      NULL,           leave_if_unwanted,  learn_owner,        take_over, NULL,         join,          forget_told, NULL,  join},
    [SESSION_MEMBER]      = {member_step,  join,      NULL,           leave_if_unwanted,  learn_owner,        take_over, NULL,         join,          forget_told, NULL,  join},
    [SESSION_OWNER]       = {release,      NULL,      stop_lingering, linger_if_unwanted, lose_to,            NULL,      start_link,   assert_record, NULL,        fence, NULL},
    [SESSION_MOVING]      = {NULL,         NULL,      NULL,           NULL,               lose_to,            NULL,      transfer,     assert_record, NULL,        fence, NULL},
    [SESSION_RELEASING]   = {send_release, NULL,      own_again,      NULL,               lose_to,            NULL,      send_release, assert_record, NULL,        fence, NULL},
    [SESSION_LEAVING]     = {send_leave,   NULL,      join,           NULL,               learn_owner,        end,       NULL,         send_leave,    forget_told, NULL,  NULL},
    [SESSION_FENCED]      = {NULL,         NULL,      NULL,           end_if_unwanted,    follow_after_fence, NULL,      NULL,         NULL,          forget_told, NULL,  claim},
    [SESSION_ENDED]       = {NULL},
};
/* clang-format on */

void course(struct session *session, enum course_event event)
{
    follow_fn *follow = follows[session->state][event];
    if (follow)
        follow(session, NULL);
}

void course_announced(struct session *session, const struct news *news)
{
    follow_fn *follow = follows[session->state][COURSE_ANNOUNCED];
    if (follow && news->epoch > session->epoch && peer_is_name(news->owner))
        follow(session, news);
}
