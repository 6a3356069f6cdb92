#include "core/session/membership.h"

#include <assert.h>
#include <stdlib.h>

#include "core/session/membership_sides.h"

void membership_new(struct session *session, const struct roster_events *events)
{
    session->membership = calloc(1, sizeof(*session->membership));
    if (!session->membership)
        abort();
    roster_init(session, events);
}

void membership_free(struct session *session)
{
    roster_fini(session);
    free(session->membership);
    session->membership = NULL;
}

void membership_begin(struct session *session)
{
    session->membership->joining.begin_number = session->hub->numbers + 1;
}

void membership_want_join(struct session *session)
{
    session->membership->joining.join_wanted = true;
}

bool membership_wants_join(const struct session *session)
{
    return session->membership->joining.join_wanted;
}

void membership_send_join(struct session *session, const struct membership_join *join)
{
    struct joining *joining = &session->membership->joining;
    struct hub *hub = session->hub;
    joining->join_wanted = false;
    joining->asked_number = ++hub->numbers;
    joining->asked_at = join->stands;
    if (!join->owner.len)
        return;
    const struct join_message message = {
        .number = joining->asked_number,
        .clients = session->facts.clients,
        .seen_epoch = session->epoch,
        .named_epoch = join->named_at,
        .confirmed = join->confirmed,
        .requests = join->requests,
    };
    struct envelope envelope = join_encode(&message);
    envelope.session = slice_of(session->id);
    node_send(hub, join->owner, &envelope);
}

void membership_send_leave(struct session *session, struct slice owner)
{
    struct hub *hub = session->hub;
    const struct leave_message message = {++hub->numbers, session->epoch};
    struct envelope leave = leave_encode(&message);
    leave.session = slice_of(session->id);
    if (owner.len)
        node_send(hub, owner, &leave);
}

void membership_send_stray(struct hub *hub, const struct envelope *envelope)
{
    const struct leave_message message = {++hub->numbers, envelope->epoch};
    struct envelope leave = leave_encode(&message);
    leave.session = envelope->session;
    node_send(hub, envelope->node, &leave);
}

bool membership_is_answer(const struct session *session, uint64_t number)
{
    return number >= session->membership->joining.begin_number;
}

void membership_joined(struct session *session, uint64_t number)
{
    session->membership->joining.joined_number = number;
    session->membership->joining.joined_ms = session->hub->now_ms;
}

uint64_t membership_joined_number(const struct session *session)
{
    return session->membership->joining.joined_number;
}

uint64_t membership_joined_ago_ms(const struct session *session)
{
    return session->hub->now_ms - session->membership->joining.joined_ms;
}

bool membership_disproves(const struct session *session, uint64_t number, struct position stands)
{
    const struct joining *joining = &session->membership->joining;
    return number == joining->asked_number && joining->asked_at.epoch == stands.epoch &&
           joining->asked_at.offset > stands.offset;
}

void membership_heard(struct session *session)
{
    session->membership->joining.heard_ms = session->hub->now_ms;
}

bool membership_is_forgotten(const struct session *session, uint64_t roll_call_ms)
{
    return session->hub->now_ms - session->membership->joining.heard_ms >= 3 * roll_call_ms;
}

bool membership_refused(struct session *session)
{
    struct joining *joining = &session->membership->joining;
    bool again = session->hub->now_ms - joining->refused_ms < ASK_AGAIN_MS;
    joining->refused_ms = session->hub->now_ms;
    return again;
}

void membership_check(const struct session *session)
{
    const struct joining *joining = &session->membership->joining;
    assert(joining->asked_number <= session->hub->numbers);
    assert(joining->begin_number <= session->hub->numbers + 1);
    assert(joining->heard_ms <= session->hub->now_ms);
}
