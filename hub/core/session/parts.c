#include "core/session/parts.h"

#include "common/node_messages.h"
#include "core/session/backlog.h"
#include "core/session/handover.h"
#include "core/session/link.h"
#include "core/session/membership.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session_record.h"
#include "core/session/stream.h"

/* --- ownership, hand-over --- */

static bool prove(struct session *session)
{
    if (session->state != SESSION_OWNER || !session->hub->bus_connected ||
        !ownership_is_settled(session))
        return false;
    session_event(session, COURSE_CONNECTED);
    return true;
}

static void on_owner_dead(struct session *session)
{
    session_event(session, COURSE_OWNER_DEAD);
}

static const struct ownership_events ownership_events = {
    .owner_dead = on_owner_dead,
    .prove = prove,
};

static void on_offer_over(struct session *session)
{
    session_event(session, COURSE_MAY_MOVE);
}

static const struct handover_events handover_events = {
    .free_again = on_offer_over,
};

static void on_member_came(struct session *session, struct member *member)
{
    outbox_member_came(session, member, member->watch.peer->id);
    record_session_soon(session);
}

static void on_member_leaves(struct session *session, struct member *member)
{
    outbox_member_gone(session, member);
}

static void on_member_left(struct session *session)
{
    session->hub->sessions->audience->members(session);
    record_session_soon(session);
    session_event(session, COURSE_UNWANTED);
}

static void fill_status(const struct session *session, struct status_message *status)
{
    status->status = link_status(session);
    status->reason = slice_of(link_reason(session));
}

static const struct roster_events roster_events = {
    .came = on_member_came,
    .leaves = on_member_leaves,
    .left = on_member_left,
    .fill_status = fill_status,
};

static void on_unreachable(struct session *session)
{
    session_event(session, COURSE_UNREACHABLE);
}

static void on_link_status(struct session *session, bool changed)
{
    record_session_soon(session);
    if (!changed)
        return;
    session->hub->sessions->audience->status(session);
    if (session->state == SESSION_OWNER)
        roster_send_status(session);
}

static void on_link_closed(struct session *session)
{
    session_event(session, COURSE_LINK_CLOSED);
}

static const struct link_events link_events = {
    .status = on_link_status,
    .opened = outbox_pump,
    .down = outbox_link_down,
    .closed = on_link_closed,
    .unreachable = on_unreachable,
    .far_requests = roster_requests,
};

/* A member without a valid lease sends nothing: its owner may have forgotten it by the time it asks
 * for an answer. */
static enum outbox_way way(const struct session *session)
{
    const struct hub *hub = session->hub;
    if (session->state == SESSION_OWNER)
        return link_state(session) == LINK_OPEN ? OUTBOX_UPSTREAM : OUTBOX_NOWHERE;
    bool may_send = session->state == SESSION_MEMBER && ownership_owner(session) &&
                    hub->bus_connected && node_has_lease(hub);
    return may_send ? OUTBOX_OWNER : OUTBOX_NOWHERE;
}

static void send_commands(struct session *session, struct commands_message *message)
{
    message->joined_number = membership_joined_number(session);
    message->joined_ago_ms = membership_joined_ago_ms(session);
    struct envelope commands = commands_encode(message);
    commands.session = slice_of(session->id);
    node_send(session->hub, slice_of(ownership_owner(session)), &commands);
}

static void on_outbox_emptied(struct session *session)
{
    session_event(session, COURSE_UNWANTED);
}

static void room_again(struct session *session)
{
    roster_send_status(session);
}

static void on_refused(struct session *session, struct subscription *from)
{
    session->hub->sessions->audience->refused(from);
}

static void on_acked(struct session *session, struct subscription *from, uint64_t send_id)
{
    session->hub->sessions->audience->acked(from, send_id);
}

static void on_send_expired(struct session *session, struct subscription *from, uint64_t send_id)
{
    session->hub->sessions->audience->expired(from, send_id);
}

static void on_paused(struct session *session, struct subscription *from)
{
    session->hub->sessions->audience->paused(from);
}

static void on_resumed(struct session *session)
{
    session->hub->sessions->audience->resumed(session);
}

static const struct outbox_events outbox_events = {
    .way = way,
    .send = link_send,
    .send_commands = send_commands,
    .emptied = on_outbox_emptied,
    .room_again = room_again,
    .refused = on_refused,
    .acked = on_acked,
    .expired = on_send_expired,
    .paused = on_paused,
    .resumed = on_resumed,
};

bool parts_new(struct session *session, const struct target *target)
{
    if (!link_new(session, target, &link_events))
        return false;
    ownership_new(session, &ownership_events);
    handover_new(session, &handover_events);
    membership_new(session, &roster_events);
    stream_new(session);
    backlog_new(session);
    outbox_new(session, &outbox_events);
    return true;
}

void parts_free(struct session *session)
{
    roster_clear(session, false);
    outbox_free(session);
    backlog_free(session);
    stream_free(session);
    membership_free(session);
    handover_free(session);
    ownership_free(session);
    link_free(session);
}

void parts_check(const struct session *session)
{
    ownership_check(session);
    handover_check(session);
    roster_check(session);
    membership_check(session);
    stream_check(session);
    backlog_check(session);
    link_check(session);
    outbox_check(session);
}
