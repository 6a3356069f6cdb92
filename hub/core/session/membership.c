#include "core/session/membership.h"

#include <assert.h>
#include <stdlib.h>

struct membership {
    uint64_t begin_number;    /* lowest number of a JOIN (or LEAVE) whose answer counts */
    uint64_t joined_number;   /* of the JOIN that was answered last; 0: none */
    uint64_t joined_ms;       /* when that answer came */
    uint64_t asked_number;    /* of the JOIN that was sent last */
    struct position asked_at; /* where this node took the stream to be then */
    uint64_t heard_ms;        /* when the owner last said something, as a member */
    uint64_t refused_ms;      /* when the named owner last said that it is not */
    bool join_wanted;
};

void membership_new(struct session *session)
{
    session->membership = calloc(1, sizeof(*session->membership));
    if (!session->membership)
        abort();
}

void membership_free(struct session *session)
{
    free(session->membership);
    session->membership = NULL;
}

void membership_begin(struct session *session)
{
    session->membership->begin_number = session->hub->numbers + 1;
}

void membership_want_join(struct session *session)
{
    session->membership->join_wanted = true;
}

bool membership_wants_join(const struct session *session)
{
    return session->membership->join_wanted;
}

void membership_send_join(struct session *session, const struct membership_join *join)
{
    struct membership *membership = session->membership;
    struct hub *hub = session->hub;
    membership->join_wanted = false;
    membership->asked_number = ++hub->numbers;
    membership->asked_at = join->stands;
    if (!join->owner.len)
        return;
    const struct join_message message = {
        .number = membership->asked_number,
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
    return number >= session->membership->begin_number;
}

void membership_joined(struct session *session, uint64_t number)
{
    session->membership->joined_number = number;
    session->membership->joined_ms = session->hub->now_ms;
}

uint64_t membership_joined_number(const struct session *session)
{
    return session->membership->joined_number;
}

uint64_t membership_joined_ago_ms(const struct session *session)
{
    return session->hub->now_ms - session->membership->joined_ms;
}

bool membership_disproves(const struct session *session, uint64_t number, struct position stands)
{
    const struct membership *membership = session->membership;
    return number == membership->asked_number && membership->asked_at.epoch == stands.epoch &&
           membership->asked_at.offset > stands.offset;
}

void membership_heard(struct session *session)
{
    session->membership->heard_ms = session->hub->now_ms;
}

bool membership_is_forgotten(const struct session *session, uint64_t roll_call_ms)
{
    return session->hub->now_ms - session->membership->heard_ms >= 3 * roll_call_ms;
}

bool membership_refused(struct session *session)
{
    struct membership *membership = session->membership;
    bool again = session->hub->now_ms - membership->refused_ms < ASK_AGAIN_MS;
    membership->refused_ms = session->hub->now_ms;
    return again;
}

void membership_check(const struct session *session)
{
    const struct membership *membership = session->membership;
    assert(membership->asked_number <= session->hub->numbers);
    assert(membership->begin_number <= session->hub->numbers + 1);
    assert(membership->heard_ms <= session->hub->now_ms);
}
