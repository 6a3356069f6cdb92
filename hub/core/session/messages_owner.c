#include "core/session/messages_private.h"

#include <string.h>

#include "core/node/peers.h"
#include "core/session/backlog.h"
#include "core/session/course_owner.h"
#include "core/session/handover.h"
#include "core/session/link.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session.h"
#include "core/session/session_record.h"

static void send_not_owner(struct hub *hub, const struct envelope *asked, uint64_t seen_epoch)
{
    const struct not_owner_message message = {seen_epoch};
    struct envelope no = not_owner_encode(&message);
    no.session = asked->session;
    node_send(hub, asked->node, &no);
}

bool messages_id_of(struct slice session, char id[SESSION_ID_MAX])
{
    if (!session.len || session.len >= SESSION_ID_MAX)
        return false;
    memcpy(id, session.at, session.len);
    id[session.len] = '\0';
    return true;
}

bool messages_is_of_session(const struct session *session, struct slice request)
{
    struct target target;
    if (url_reread(session->service, request.at, request.len, &target) != STATUS_OK)
        return false;
    bool same = !strcmp(target.session_id, session->id);
    target_fini(&target);
    return same;
}

/* Named owner of what it does not hold: the record must not go on naming this node. */
static void disown(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!messages_id_of(envelope->session, id))
        return;
    const struct join_message join = join_decode(envelope);
    uint64_t named_at = join.named_epoch ? join.named_epoch : join.seen_epoch;
    if (named_at)
        ownership_refuse_grant(hub, id, named_at);
    send_not_owner(hub, envelope, join.seen_epoch);
}

static bool is_on_its_way(const struct session *session)
{
    return session->state == SESSION_SUBSCRIBING || session->state == SESSION_CLAIMING ||
           session->state == SESSION_RELEASING || session->state == SESSION_MOVING ||
           session->state == SESSION_FENCED;
}

struct ends_receiver {
    struct session *session;
    struct slice node;
};

static void send_end(void *ctx, struct position last)
{
    const struct ends_receiver *to = ctx;
    const struct ended_message message = {last};
    struct envelope ended = ended_encode(&message);
    ended.session = slice_of(to->session->id);
    node_send(to->session->hub, to->node, &ended);
}

/* Before JOINED, by the same way: the member goes on into this epoch when it has those. */
static void send_ends_before(struct session *session, struct slice node)
{
    struct ends_receiver to = {session, node};
    epoch_ends_each(backlog_announced_ends(session), send_end, &to);
}

static void note_answer(struct member *member, uint64_t number)
{
    if (member->answered[0].number != number)
        member->answered[1] = member->answered[0];
    member->answered[0].number = number;
    member->answered[0].at_ms = member->session->hub->now_ms;
}

/*
 * For how long COMMANDS were on their way at most, the way of JOINED included: clocks of two nodes
 * have nothing in common but their speed. 0: not known.
 */
static uint64_t on_the_way_ms(const struct member *member, const struct commands_message *commands)
{
    const struct session *session = member->session;
    for (size_t i = 0; commands->joined_number && i < 2; i++) {
        uint64_t since_ms = session->hub->now_ms - member->answered[i].at_ms;
        if (member->answered[i].number == commands->joined_number)
            return since_ms > commands->joined_ago_ms ? since_ms - commands->joined_ago_ms : 0;
    }
    return 0;
}

static void answer_joined(struct session *session, struct slice node, uint64_t number)
{
    struct member *member = roster_find(session, node);
    if (member)
        note_answer(member, number);
    send_ends_before(session, node);
    const char *text = attempt_current(link_attempt(session));
    const struct request_entry request = {slice_of(text),
                                          text && attempt_is_attended(link_attempt(session))};
    const struct envelope_item item = request_item(&request);
    const struct joined_message message = {
        .number = number,
        .at = {session->epoch, backlog_placed(session)},
        .on_the_way = backlog_on_the_way(session),
        .status = link_status(session),
        .reason = slice_of(link_reason(session)),
        .url = slice_of(link_url(session)),
        .requests = {&item, text ? 1 : 0},
    };
    struct envelope joined = joined_encode(&message);
    joined.session = slice_of(session->id);
    node_send(session->hub, node, &joined);
}

/* Returns whether the member has a URL that it did not have. */
static bool learn_requests(struct session *session, struct member *member,
                           const struct message_items *requests)
{
    uint16_t before = member->requests;
    size_t n = 0;
    member->requests = 0;
    for (size_t i = 0; i < requests->len && n < ATTEMPT_REQUESTS; i++) {
        struct request_entry request;
        if (!request_entry_of(&requests->at[i], &request))
            continue;
        n++;
        if (messages_is_of_session(session, request.text))
            member->requests |= attempt_note(link_attempt(session), request.text.at,
                                             request.text.len);
    }
    return member->requests & ~before;
}

static void admit(struct session *session, const struct envelope *envelope,
                  const struct join_message *join)
{
    struct member *member = roster_add(session, envelope->node, envelope->life, join->number);
    if (join->number < member->number)
        return;
    bool came = learn_requests(session, member, &join->requests) || join->clients > member->count;
    if (member->count != join->clients)
        record_session_soon(session);
    member->number = join->number;
    member->count = join->clients;
    member->watch.since_ms = session->hub->now_ms;
    outbox_member_confirmed(session, member, join->confirmed);
    session_event(session, COURSE_WANTED);
    if (came)
        link_client_came(session);
    session_write_history(session, true);
    answer_joined(session, envelope->node, join->number);
    session_event(session, COURSE_MAY_MOVE);
}

void messages_on_join(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (peers_outlived(hub, envelope->node, envelope->life))
        return;
    if (session && session->state == SESSION_RELEASING)
        session_event(session, COURSE_WANTED);
    const struct join_message join = join_decode(envelope);
    if (session && (is_on_its_way(session) || handover_awaited(session, join.seen_epoch)))
        return; /* the asker asks again */
    if (!session || session->state != SESSION_OWNER)
        disown(hub, envelope);
    else if (join.seen_epoch > session->epoch)
        course_outbid(session, join.seen_epoch);
    else
        admit(session, envelope, &join);
}

void messages_on_leave(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    const struct leave_message leave = leave_decode(envelope);
    struct member *member = session ? roster_find(session, envelope->node) : NULL;
    if (member && (member->watch.life != envelope->life || leave.number < member->number))
        return;
    if (member)
        roster_remove(member);
    const struct left_message message = {leave.number};
    struct envelope left = left_encode(&message);
    left.session = envelope->session;
    node_send(hub, envelope->node, &left);
}

void messages_on_commands(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    const struct commands_message message = commands_decode(envelope);
    bool owner = session && session->state == SESSION_OWNER && message.epoch == session->epoch;
    struct member *member = owner ? roster_find(session, envelope->node) : NULL;
    if (!member || member->watch.life != envelope->life) {
        if (!session || !session_is_owned(session)) /* else its JOIN comes, or a new owner */
            send_not_owner(hub, envelope, message.epoch);
        return;
    }
    /* Sent before this membership began: what went upstream of the one before is not known here. */
    if (message.joined_number && message.joined_number < member->since) {
        answer_joined(session, envelope->node, member->since);
        return;
    }
    /* What comes late, over a connection that is none any more, may have been handed back since. */
    if (message.number && message.number < member->number)
        return;
    if (message.number)
        member->number = message.number;
    outbox_take(session, member, member->number, on_the_way_ms(member, &message),
                &message.commands);
}
