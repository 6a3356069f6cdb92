#include "core/session/messages_private.h"

#include <stdio.h>

#include "common/log.h"
#include "core/session/course_member.h"
#include "core/session/link.h"
#include "core/session/membership.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/session.h"
#include "core/session/stream.h"

bool messages_is_of_owner(const struct session *session, const struct envelope *envelope)
{
    return ownership_is_from_owner(session, envelope->node);
}

/* What the owner says of the upstream. */
static void adopt_status(struct session *session, uint64_t number, struct slice why)
{
    char reason[96];
    membership_heard(session);
    snprintf(reason, sizeof(reason), "%.*s",
             (int)(why.len < sizeof(reason) ? why.len : sizeof(reason) - 1), why.at ? why.at : "");
    enum upstream_status status = number <= UPSTREAM_CONNECTED ? (enum upstream_status)number
                                                               : UPSTREAM_DOWN;
    link_set_status(session, status, reason);
    if (status == UPSTREAM_CONNECTED)
        outbox_owner_ready(session);
}

void messages_on_status(struct session *session, const struct envelope *envelope)
{
    const struct status_message message = status_decode(envelope);
    if (messages_is_of_owner(session, envelope) && message.epoch == session->epoch &&
        session_is_member(session))
        adopt_status(session, message.status, message.reason);
}

/* A take-over goes on with the URL that the owner has used, if it is one of this session. */
static void adopt_request(struct session *session, const struct message_items *requests)
{
    for (size_t i = 0; i < requests->len; i++) {
        struct request_entry request;
        if (request_entry_of(&requests->at[i], &request) && request.attended &&
            messages_is_of_session(session, request.text))
            attempt_adopt(link_attempt(session), request.text.at, request.text.len);
    }
}

/*
 * Something that was never published has been taken for a publication. All that comes now would
 * be taken for late: the owner is asked for another epoch, as by a node that has seen a higher one.
 */
static void begin_anew(struct session *session)
{
    log_warn_cause("stream_disproved", LOG_STR("session", session->id),
                   LOG_U64("epoch", session->epoch), LOG_U64("offset", stream_at(session).offset));
    stream_disproved(session);
    session->epoch++;
    course_join(session);
}

static void enter(struct session *session, const struct joined_message *joined)
{
    bool entered = session->state == SESSION_JOINING;
    session_set_state(session, SESSION_MEMBER);
    adopt_request(session, &joined->requests);
    stream_joined(session, joined->at, joined->on_the_way);
    adopt_status(session, joined->status, joined->reason);
    session->hub->sessions->audience->joined(session);
    if (entered)
        outbox_owner_ready(session);
    /* What was on the way may have passed before this node listened. */
    course_member(session, joined->on_the_way != 0);
}

void messages_on_joined(struct session *session, const struct envelope *envelope)
{
    const struct joined_message joined = joined_decode(envelope);
    if (!messages_is_of_owner(session, envelope) || joined.at.epoch < session->epoch ||
        !session_is_member(session) || !membership_is_answer(session, joined.number))
        return;
    membership_joined(session, joined.number);
    if (session->epoch != joined.at.epoch) {
        /* It began anew: what was thought of it, and what it had, was of an older epoch */
        ownership_renew_owner(session);
        outbox_owner_lost(session);
    }
    session->epoch = joined.at.epoch;
    ownership_set_named_at(session, joined.at.epoch);
    if (membership_disproves(session, joined.number, joined.at))
        begin_anew(session);
    else
        enter(session, &joined);
}

void messages_on_left(struct session *session, const struct envelope *envelope)
{
    if (session->state == SESSION_LEAVING &&
        membership_is_answer(session, left_decode(envelope).number))
        session_end(session);
}

void messages_on_not_owner(struct session *session, const struct envelope *envelope)
{
    if (!messages_is_of_owner(session, envelope) ||
        not_owner_decode(envelope).epoch < session->epoch)
        return;
    if (session->state == SESSION_LEAVING)
        session_end(session);
    else if (session_is_member(session))
        course_not_owner(session);
}

/* Does the answer count, which is of that epoch? */
static bool is_current(const struct session *session, const struct envelope *envelope,
                       uint64_t epoch)
{
    return messages_is_of_owner(session, envelope) && epoch == session->epoch &&
           session->state != SESSION_OWNER;
}

void messages_on_confirm(struct session *session, const struct envelope *envelope)
{
    const struct confirm_message confirm = confirm_decode(envelope);
    if (is_current(session, envelope, confirm.epoch))
        outbox_on_confirm(session, &confirm);
}

void messages_on_handback(struct session *session, const struct envelope *envelope)
{
    const struct handback_message handback = handback_decode(envelope);
    if (is_current(session, envelope, handback.epoch))
        outbox_on_handback(session, handback.from, handback.seen_number);
}
