#include "core/session/course_member.h"

#include <stdlib.h>

#include "common/node_messages.h"
#include "core/session/backlog.h"
#include "core/session/handover.h"
#include "core/session/link.h"
#include "core/session/membership.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session.h"
#include "core/session/stream.h"

#define NAMED_WAIT_MS 500 /* TAKE follows the announcement by another way */
/* A JOIN for a changed number of clients waits so long: many changes are one message */
#define JOIN_AGAIN_MS 1000
/* The same while the upstream is down: the owner may wait for a client with another URL */
#define JOIN_DOWN_MS 200
/* Of clients' URLs in one JOIN; a single larger one goes */
#define REQUESTS_BYTES (32u * 1024)

static struct slice owner_of(const struct session *session)
{
    return slice_of(ownership_owner(session));
}

/* --- claiming --- */

static void announce(void *ctx, struct position last)
{
    struct session *session = ctx;
    struct hub *hub = session->hub;
    const struct ended_message message = {last};
    struct envelope ended = ended_encode(&message);
    ended.session = slice_of(session->id);
    hub->bus->ops->broadcast(hub->bus, session->id, &ended);
    stream_ended(session, last);
}

/* What was published at the end of an epoch and did not reach the store: clients here may have it;
 * those of members learn that it is missing, before the next epoch begins. */
static void announce_ends(struct session *session)
{
    struct hub *hub = session->hub;
    const struct epoch_ends *ends = backlog_unannounced_ends(session);
    if (!epoch_ends_last(ends) || !hub->bus_connected || !node_has_lease(hub))
        return;
    epoch_ends_each(ends, announce, session);
    backlog_ends_announced(session);
}

void course_claim(struct session *session)
{
    struct hub *hub = session->hub;
    announce_ends(session);
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
    session_event(session, COURSE_UNWANTED);
}

void course_member_step(struct session *session, const struct owner_news *news)
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

void course_join_again(struct session *session, const struct owner_news *news)
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

void course_clients_changed(struct session *session, const struct owner_news *news)
{
    (void)news;
    course_join_soon(session);
}

/* --- leaving --- */

void course_send_leave(struct session *session, const struct owner_news *news)
{
    (void)news;
    session_ask_again(session);
    membership_send_leave(session, who_is_asked(session));
}

/* Its messages that still wait go first: a member with work left leaves when that is done. */
void course_leave_if_unwanted(struct session *session, const struct owner_news *news)
{
    if (session_is_wanted(session))
        return;
    session_set_state(session, SESSION_LEAVING);
    membership_begin(session);
    course_send_leave(session, news);
}

void course_end(struct session *session, const struct owner_news *news)
{
    (void)news;
    session_end(session);
}

/* When the lease is back: a drain without one does not wait where no clients are left. */
static bool has_end_to_announce(const struct session *session)
{
    const struct hub *hub = session->hub;
    return session->state == SESSION_FENCED && epoch_ends_last(backlog_unannounced_ends(session)) &&
           (hub->state != NODE_DRAINING || hub->counts.clients);
}

void course_end_if_unwanted(struct session *session, const struct owner_news *news)
{
    (void)news;
    if (has_end_to_announce(session))
        return;
    if (!session_is_wanted(session))
        session_end(session);
}

/* While a claim is under way its answer decides; a grant is given back. */
void course_end_if_settled(struct session *session, const struct owner_news *news)
{
    if (ownership_is_settled(session))
        course_end_if_unwanted(session, news);
}

/* --- what becomes known of the owner --- */

void course_lapse(struct session *session, const struct owner_news *news)
{
    (void)news;
    outbox_owner_lost(session);
    stream_unconfirmed(session); /* it takes this node for dead */
    /* A grant of before the lapse is none: another may have taken it from this node since */
    ownership_forget_answer(session);
}

void course_take_over(struct session *session, const struct owner_news *news)
{
    (void)news;
    outbox_owner_lost(session);
    ownership_owner_died(session);
    course_claim(session);
}

/* Its publications count from here on; the answer, if one is under way, brings the JOIN. */
void course_note_owner(struct session *session, const struct owner_news *news)
{
    if (node_is_self(session->hub, news->owner))
        return; /* the answer under way says so, too */
    session->epoch = news->epoch;
    ownership_set_owner(session, news->owner, news->epoch);
    if (ownership_is_settled(session) && session_is_wanted(session))
        course_join(session);
}

static void follow_owner(struct session *session, const struct owner_news *news)
{
    ownership_set_owner(session, news->owner, news->epoch);
    handover_disown_offer(session);
    if (session_is_wanted(session))
        course_join(session);
    else
        session_end(session);
}

void course_follow_after_fence(struct session *session, const struct owner_news *news)
{
    if (node_is_self(session->hub, news->owner))
        return;
    session->epoch = news->epoch;
    outbox_owner_lost(session);
    follow_owner(session, news);
}

/* After a hand-over by the owner that this node knew, the successor knows what has gone upstream.
 */
void course_learn_owner(struct session *session, const struct owner_news *news)
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
