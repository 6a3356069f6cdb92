#include "core/session/messages.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "common/node_messages.h"
#include "core/node/peers.h"
#include "core/session/backlog.h"
#include "core/session/course.h"
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

/* --- the push channel --- */

void messages_on_subscribed(struct session *session)
{
    stream_subscribed(session);
    course(session, COURSE_SUBSCRIBED);
}

/* The owner says soon where the stream stands, for what came had been there before. */
static void doubt_position(struct session *session)
{
    if (session->state == SESSION_MEMBER)
        course_join_soon(session);
}

static struct publication *publication_of(uint64_t epoch, const struct publication_entry *entry)
{
    struct publication *publication = publication_copy(entry->opcode, entry->payload.at,
                                                       entry->payload.len);
    if (!publication)
        return NULL;
    publication->at = (struct position){epoch, entry->offset};
    publication->time_ms = entry->time_ms;
    return publication;
}

/* Returns whether it had been there before. A hole is shown by the next one. */
static bool receive(struct session *session, uint64_t epoch, const struct envelope_item *item,
                    bool late)
{
    struct publication_entry entry;
    bool readable = publication_entry_of(item, &entry) && entry.offset;
    struct publication *publication = readable ? publication_of(epoch, &entry) : NULL;
    if (!publication) {
        metric_drop(readable ? DROP_NO_MEMORY : DROP_BUS_UNREADABLE, 1);
        return false;
    }
    bool again = position_compare(publication->at, stream_at(session)) <= 0;
    (late ? stream_late : stream_receive)(session, publication);
    publication_unref(publication);
    return again;
}

static void on_push(struct session *session, const struct envelope *envelope)
{
    /* Not subscribed yet: of an earlier subscription, and nobody heard what came after it. */
    if (session->state == SESSION_ENDED || !stream_is_subscribed(session))
        return;
    /* The channel is in the order of the store, but answers and inbox may run ahead of it: what
     * counts is where the stream stands. */
    const struct push_message push = push_decode(envelope);
    uint64_t stands = stream_is_known(session) ? stream_at(session).epoch : session->epoch;
    if (push.epoch < stands) {
        metric_drop(DROP_STALE_EPOCH, push.publications.len);
        doubt_position(session);
        return;
    }
    course_announced(session, &(struct news){envelope->node, push.epoch, 0});
    bool late = session_is_owned(session) && push.epoch < session->epoch;
    if (session->state == SESSION_ENDED || (session_is_owned(session) && !late))
        return; /* the own publications come back to their owner */
    metric_add(METRIC_BUS_RECEIVED, push.publications.len);
    bool again = false;
    for (size_t i = 0; i < push.publications.len; i++)
        again = receive(session, push.epoch, &push.publications.at[i], late) || again;
    if (again)
        doubt_position(session);
}

static void on_grant(struct session *session, const struct envelope *envelope)
{
    const struct grant_message grant = grant_decode(envelope);
    stream_epoch_begins(session, grant.epoch, ownership_is_from_owner(session, envelope->node));
    course_announced(session, &(struct news){envelope->node, grant.epoch, grant.from_epoch});
}

static void on_ended(struct session *session, const struct envelope *envelope)
{
    stream_ended(session, ended_decode(envelope).last);
}

bool messages_on_channel(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_PUSH: on_push(session, envelope); return true;
    case ENVELOPE_GRANT: on_grant(session, envelope); return true;
    case ENVELOPE_ENDED: on_ended(session, envelope); return true;
    default: return false;
    }
}

/* --- JOIN and LEAVE, at the owner --- */

static void tell_not_owner(struct hub *hub, const struct envelope *asked, uint64_t seen_epoch)
{
    const struct not_owner_message message = {seen_epoch};
    struct envelope no = not_owner_encode(&message);
    no.session = asked->session;
    node_tell(hub, asked->node, &no);
}

/* The id as text; false where it can't be one. */
static bool id_of(struct slice session, char id[SESSION_ID_MAX])
{
    if (!session.len || session.len >= SESSION_ID_MAX)
        return false;
    memcpy(id, session.at, session.len);
    id[session.len] = '\0';
    return true;
}

/* Named owner of what it does not hold: the record must not go on naming this node. */
static void disown(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!id_of(envelope->session, id))
        return;
    const struct join_message join = join_decode(envelope);
    uint64_t named_at = join.named_epoch ? join.named_epoch : join.seen_epoch;
    if (named_at)
        ownership_refuse_grant(hub, id, named_at);
    tell_not_owner(hub, envelope, join.seen_epoch);
}

static bool is_on_its_way(const struct session *session)
{
    return session->state == SESSION_SUBSCRIBING || session->state == SESSION_CLAIMING ||
           session->state == SESSION_RELEASING || session->state == SESSION_MOVING ||
           session->state == SESSION_FENCED;
}

/* Before JOINED, by the same way: the member goes on into this epoch when it has that. */
static void tell_end_before(struct session *session, struct slice node)
{
    const struct ended_message message = {backlog_announced_end(session)};
    if (!message.last.epoch)
        return;
    struct envelope ended = ended_encode(&message);
    ended.session = slice_of(session->id);
    node_tell(session->hub, node, &ended);
}

static void answer_joined(struct session *session, struct slice node, uint64_t number)
{
    tell_end_before(session, node);
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
    node_tell(session->hub, node, &joined);
}

/*
 * A request is another node's word: it must name this very session. The URL is made of it here, by
 * this node's template, so nobody on the bus can name a backend that is not the service's.
 */
static bool is_of_session(const struct session *session, struct slice request)
{
    struct target target;
    if (url_reread(session->service, request.at, request.len, &target) != STATUS_OK)
        return false;
    bool same = !strcmp(target.session_id, session->id);
    target_fini(&target);
    return same;
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
        if (is_of_session(session, request.text))
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
    course(session, COURSE_WANTED);
    if (came)
        link_client_came(session);
    session_write_history(session, true);
    answer_joined(session, envelope->node, join->number);
    course_consider_handover(session);
}

static void on_join(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (peers_outlived(hub, envelope->node, envelope->life))
        return;
    if (session && session->state == SESSION_RELEASING)
        course(session, COURSE_WANTED);
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

static void on_leave(struct hub *hub, struct session *session, const struct envelope *envelope)
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
    node_tell(hub, envelope->node, &left);
}

static void on_commands(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    const struct commands_message told = commands_decode(envelope);
    bool owner = session && session->state == SESSION_OWNER && told.epoch == session->epoch;
    struct member *member = owner ? roster_find(session, envelope->node) : NULL;
    if (!member || member->watch.life != envelope->life) {
        if (!session || !session_is_owned(session)) /* else its JOIN comes, or a new owner */
            tell_not_owner(hub, envelope, told.epoch);
        return;
    }
    /* Told before this membership began: what went upstream of the one before is not known here. */
    if (told.joined_number && told.joined_number < member->since) {
        answer_joined(session, envelope->node, member->since);
        return;
    }
    /* What comes late, over a connection that is none any more, may have been handed back since. */
    if (told.number && told.number < member->number)
        return;
    if (told.number)
        member->number = told.number;
    outbox_take(session, member, member->number, &told.commands);
}

/* --- their answers, at the member --- */

static bool is_member(const struct session *session)
{
    return session->state == SESSION_JOINING || session->state == SESSION_MEMBER;
}

static bool is_of_owner(const struct session *session, const struct envelope *envelope)
{
    return ownership_is_from_owner(session, envelope->node);
}

/* What the owner says of the upstream. */
static void adopt_status(struct session *session, uint64_t told, struct slice why)
{
    char reason[96];
    membership_heard(session);
    snprintf(reason, sizeof(reason), "%.*s",
             (int)(why.len < sizeof(reason) ? why.len : sizeof(reason) - 1), why.at ? why.at : "");
    enum upstream_status status = told <= UPSTREAM_CONNECTED ? (enum upstream_status)told
                                                             : UPSTREAM_DOWN;
    link_tell(session, status, reason);
    if (status == UPSTREAM_CONNECTED)
        outbox_owner_ready(session);
}

static void on_status(struct session *session, const struct envelope *envelope)
{
    const struct status_message told = status_decode(envelope);
    if (is_of_owner(session, envelope) && told.epoch == session->epoch && is_member(session))
        adopt_status(session, told.status, told.reason);
}

/* A take-over goes on with the URL that the owner has used, if it is one of this session. */
static void adopt_request(struct session *session, const struct message_items *requests)
{
    for (size_t i = 0; i < requests->len; i++) {
        struct request_entry request;
        if (request_entry_of(&requests->at[i], &request) && request.attended &&
            is_of_session(session, request.text))
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

static void on_joined(struct session *session, const struct envelope *envelope)
{
    const struct joined_message joined = joined_decode(envelope);
    if (!is_of_owner(session, envelope) || joined.at.epoch < session->epoch ||
        !is_member(session) || !membership_is_answer(session, joined.number))
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

static void on_left(struct session *session, const struct envelope *envelope)
{
    if (session->state == SESSION_LEAVING &&
        membership_is_answer(session, left_decode(envelope).number))
        session_end(session);
}

static void on_not_owner(struct session *session, const struct envelope *envelope)
{
    if (!is_of_owner(session, envelope) || not_owner_decode(envelope).epoch < session->epoch)
        return;
    if (session->state == SESSION_LEAVING)
        session_end(session);
    else if (is_member(session))
        course_not_owner(session);
}

/* Does the answer count, which is of that epoch? */
static bool is_current(const struct session *session, const struct envelope *envelope,
                       uint64_t epoch)
{
    return is_of_owner(session, envelope) && epoch == session->epoch &&
           session->state != SESSION_OWNER;
}

static void on_confirm(struct session *session, const struct envelope *envelope)
{
    const struct confirm_message confirm = confirm_decode(envelope);
    if (is_current(session, envelope, confirm.epoch))
        outbox_on_confirm(session, &confirm);
}

static void on_handback(struct session *session, const struct envelope *envelope)
{
    const struct handback_message handback = handback_decode(envelope);
    if (is_current(session, envelope, handback.epoch))
        outbox_on_handback(session, handback.from, handback.seen_number);
}

/* --- the hand-over --- */

static void on_offer(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    const struct offer_message offer = offer_decode(envelope);
    bool accept = session && is_member(session) && session->facts.clients &&
                  hub->state == NODE_UP && node_has_lease(hub) && is_of_owner(session, envelope) &&
                  offer.epoch == session->epoch;
    if (accept)
        handover_accept(session, offer.epoch);
    const struct answer_message message = {accept, offer.epoch};
    struct envelope answer = answer_encode(&message);
    answer.session = envelope->session;
    node_tell(hub, envelope->node, &answer);
}

static void on_offer_answer(struct session *session, const struct envelope *envelope)
{
    const struct answer_message answer = answer_decode(envelope);
    if (handover_accepted(session, envelope->node, &answer))
        course_move(session);
}

static void learn_member(struct session *session, const struct member_entry *known, bool current)
{
    if (node_is_self(session->hub, known->node)) {
        outbox_went_upstream(session, known->sent);
        return;
    }
    if (!peer_is_name(known->node))
        return;
    struct member *member = roster_find(session, known->node);
    if (!member && current && !peers_outlived(session->hub, known->node, known->life))
        member = roster_add(session, known->node, known->life, 0);
    if (member && member->watch.life == known->life)
        outbox_member_confirmed(session, member, known->sent);
}

static void learn_send(struct session *session, const struct send_entry *send)
{
    char client[33] = {0};
    if (!send->client.len || send->client.len > 32)
        return;
    memcpy(client, send->client.at, send->client.len);
    outbox_note_send(session, client, send->send_id);
}

static void learn_expired(struct session *session, const struct envelope_item *item)
{
    struct expired_entry expired;
    char client[33] = {0};
    if (!expired_entry_of(item, &expired))
        return;
    memcpy(client, expired.client.at, expired.client.len);
    outbox_note_expired(session, client, expired.send_id);
}

/*
 * What the old owner knew: members with their last commands, last SEND ids. Own commands up to the
 * mark went upstream. Of a hand-over that is not the last one, who was a member then does not
 * count.
 */
static void learn(struct session *session, const struct take_message *take)
{
    bool current = take->epoch == session->epoch;
    struct member_entry member;
    struct send_entry send;
    for (size_t i = 0; i < take->items.len; i++) {
        if (send_entry_of(&take->items.at[i], &send))
            learn_send(session, &send);
        else
            learn_expired(session, &take->items.at[i]);
    }
    /* What expired is known by now: it is not taken for what went */
    for (size_t i = 0; i < take->items.len; i++)
        if (member_entry_of(&take->items.at[i], &member))
            learn_member(session, &member, current);
}

static void answer_taken(struct hub *hub, const struct envelope *envelope)
{
    const struct taken_message message = {take_decode(envelope).epoch};
    struct envelope taken = taken_encode(&message);
    taken.session = envelope->session;
    node_tell(hub, envelope->node, &taken);
}

static void give_back(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!id_of(envelope->session, id))
        return;
    ownership_refuse_grant(hub, id, take_decode(envelope).epoch);
    answer_taken(hub, envelope);
}

static void on_take(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!session || session->state == SESSION_LEAVING) {
        give_back(hub, envelope);
        if (session)
            session_end(session);
        return;
    }
    const struct take_message take = take_decode(envelope);
    if (session_is_owned(session) || take.epoch < session->epoch) {
        if (session_is_owned(session))
            learn(session, &take);
        answer_taken(hub, envelope);
        return;
    }
    bool waits = is_member(session) ||
                 (session->state == SESSION_CLAIMING && ownership_is_settled(session));
    if (!waits || !node_has_lease(hub))
        return; /* it is sent again */
    if (!handover_awaited(session, take.epoch)) {
        /* The lease lapsed since: only the store can say whose it is by now */
        course_claim(session);
        return;
    }
    course_take(session, take.epoch);
    learn(session, &take);
    roster_expect(session);
    answer_taken(hub, envelope);
}

/* --- what is remembered of released sessions --- */

static void note_kept(void *ctx, const char *client, uint64_t id, bool expired)
{
    (expired ? outbox_note_expired : outbox_note_send)(ctx, client, id);
}

static void on_sends(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!envelope->session.len || envelope->session.len >= SESSION_ID_MAX)
        return;
    kept_sends_keep(hub, envelope->session, sends_decode(envelope).sends);
    if (session && session_is_owned(session)) /* it was faster than this message */
        kept_sends_take(hub, envelope->session, note_kept, session);
}

/* --- by type --- */

/* Messages for which the session must be there; false: it is none of those. */
static bool on_session_message(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_JOINED: on_joined(session, envelope); return true;
    case ENVELOPE_ENDED: on_ended(session, envelope); return true;
    case ENVELOPE_LEFT: on_left(session, envelope); return true;
    case ENVELOPE_NOT_OWNER: on_not_owner(session, envelope); return true;
    case ENVELOPE_STATUS: on_status(session, envelope); return true;
    case ENVELOPE_CONFIRM: on_confirm(session, envelope); return true;
    case ENVELOPE_HANDBACK: on_handback(session, envelope); return true;
    case ENVELOPE_ACCEPT:
    case ENVELOPE_DECLINE: on_offer_answer(session, envelope); return true;
    default: return false;
    }
}

bool messages_on_inbox(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_JOIN: on_join(hub, session, envelope); return true;
    case ENVELOPE_LEAVE: on_leave(hub, session, envelope); return true;
    case ENVELOPE_COMMANDS: on_commands(hub, session, envelope); return true;
    case ENVELOPE_OFFER: on_offer(hub, session, envelope); return true;
    case ENVELOPE_TAKE: on_take(hub, session, envelope); return true;
    case ENVELOPE_TAKEN:
        handover_on_taken(hub, envelope->session, taken_decode(envelope).epoch);
        return true;
    case ENVELOPE_SENDS: on_sends(hub, session, envelope); return true;
    default: break;
    }
    if (session)
        return on_session_message(session, envelope);
    if (envelope->type == ENVELOPE_JOINED || envelope->type == ENVELOPE_STATUS)
        membership_send_stray(hub, envelope);
    return true;
}
