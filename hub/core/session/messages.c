#include "core/session/messages.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
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

static struct publication *publication_of(uint64_t epoch, const struct envelope_item *item)
{
    enum opcode opcode = item->opcode == OPCODE_BINARY ? OPCODE_BINARY : OPCODE_TEXT;
    struct publication *publication = publication_copy(opcode, item->bytes.at, item->bytes.len);
    if (!publication)
        return NULL;
    publication->at = (struct position){epoch, item->number};
    publication->time_ms = item->time_ms;
    return publication;
}

/* Returns whether it had been there before. A hole is shown by the next one. */
static bool receive(struct session *session, uint64_t epoch, const struct envelope_item *item,
                    bool late)
{
    struct publication *publication = item->number ? publication_of(epoch, item) : NULL;
    if (!publication) {
        metric_drop(item->number ? DROP_NO_MEMORY : DROP_BUS_UNREADABLE, 1);
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
    uint64_t stands = stream_is_known(session) ? stream_at(session).epoch : session->epoch;
    if (envelope->epoch < stands) {
        metric_drop(DROP_STALE_EPOCH, envelope->items_len);
        doubt_position(session);
        return;
    }
    course_announced(session, &(struct news){envelope->node, envelope->epoch, 0});
    bool late = session_is_owned(session) && envelope->epoch < session->epoch;
    if (session->state == SESSION_ENDED || (session_is_owned(session) && !late))
        return; /* the own publications come back to their owner */
    metric_add(METRIC_BUS_RECEIVED, envelope->items_len);
    bool again = false;
    for (size_t i = 0; i < envelope->items_len; i++)
        again = receive(session, envelope->epoch, &envelope->items[i], late) || again;
    if (again)
        doubt_position(session);
}

bool messages_on_channel(struct session *session, const struct envelope *envelope)
{
    struct news news = {envelope->node, envelope->epoch, envelope->number};
    switch (envelope->type) {
    case ENVELOPE_PUSH: on_push(session, envelope); return true;
    case ENVELOPE_GRANT:
        stream_epoch_begins(session, envelope->epoch);
        course_announced(session, &news);
        return true;
    default: return false;
    }
}

/* --- JOIN and LEAVE, at the owner --- */

static void tell_not_owner(struct hub *hub, const struct envelope *asked)
{
    struct envelope no = {
        .type = ENVELOPE_NOT_OWNER, .session = asked->session, .epoch = asked->epoch};
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
    uint64_t named_at = envelope->status ? envelope->status : envelope->epoch;
    if (named_at)
        ownership_refuse_grant(hub, id, named_at);
    tell_not_owner(hub, envelope);
}

static bool is_on_its_way(const struct session *session)
{
    return session->state == SESSION_SUBSCRIBING || session->state == SESSION_CLAIMING ||
           session->state == SESSION_RELEASING || session->state == SESSION_MOVING ||
           session->state == SESSION_FENCED;
}

static void answer_joined(struct session *session, struct slice node, uint64_t number)
{
    struct envelope joined = {
        .type = ENVELOPE_JOINED,
        .session = slice_of(session->id),
        .number = number,
        .epoch = session->epoch,
        .offset = backlog_placed(session),
        .count = backlog_on_the_way(session),
        .status = link_status(session),
        .text = slice_of(link_reason(session)),
        .url = slice_of(link_url(session)),
    };
    struct envelope_item request;
    const char *text = attempt_current(link_attempt(session));
    if (text) {
        request = (struct envelope_item){.kind = ITEM_REQUEST,
                                         .number = attempt_is_attended(link_attempt(session)),
                                         .bytes = slice_of(text)};
        joined.items = &request;
        joined.items_len = 1;
    }
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
                           const struct envelope *envelope)
{
    uint16_t before = member->requests;
    size_t n = 0;
    member->requests = 0;
    for (size_t i = 0; i < envelope->items_len && n < ATTEMPT_REQUESTS; i++) {
        const struct envelope_item *item = &envelope->items[i];
        if (item->kind != ITEM_REQUEST)
            continue;
        n++;
        if (is_of_session(session, item->bytes))
            member->requests |= attempt_note(link_attempt(session), item->bytes.at,
                                             item->bytes.len);
    }
    return member->requests & ~before;
}

static void admit(struct session *session, const struct envelope *join)
{
    struct member *member = roster_add(session, join->node, join->life, join->number);
    if (join->number < member->number)
        return;
    bool came = learn_requests(session, member, join) || join->count > member->count;
    if (member->count != join->count)
        record_session_soon(session);
    member->number = join->number;
    member->count = join->count;
    member->watch.since_ms = session->hub->now_ms;
    outbox_member_confirmed(session, member, join->offset);
    course(session, COURSE_WANTED);
    if (came)
        link_client_came(session);
    answer_joined(session, join->node, join->number);
    course_consider_handover(session);
}

static void on_join(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (peers_outlived(hub, envelope->node, envelope->life))
        return;
    if (session && session->state == SESSION_RELEASING)
        course(session, COURSE_WANTED);
    if (session && (is_on_its_way(session) || handover_awaited(session, envelope->epoch)))
        return; /* the asker asks again */
    if (!session || session->state != SESSION_OWNER)
        disown(hub, envelope);
    else if (envelope->epoch > session->epoch)
        course_outbid(session, envelope->epoch);
    else
        admit(session, envelope);
}

static void on_leave(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    struct member *member = session ? roster_find(session, envelope->node) : NULL;
    if (member && (member->watch.life != envelope->life || envelope->number < member->number))
        return;
    if (member)
        roster_remove(member);
    struct envelope left = {
        .type = ENVELOPE_LEFT, .session = envelope->session, .number = envelope->number};
    node_tell(hub, envelope->node, &left);
}

static void on_commands(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    bool owner = session && session->state == SESSION_OWNER && envelope->epoch == session->epoch;
    struct member *member = owner ? roster_find(session, envelope->node) : NULL;
    if (!member || member->watch.life != envelope->life) {
        if (!session || !session_is_owned(session)) /* else its JOIN comes, or a new owner */
            tell_not_owner(hub, envelope);
        return;
    }
    /* Told before this membership began: what went upstream of the one before is not known here. */
    if (envelope->offset && envelope->offset < member->since) {
        answer_joined(session, envelope->node, member->since);
        return;
    }
    /* What comes late, over a connection that is none any more, may have been handed back since. */
    if (envelope->number && envelope->number < member->number)
        return;
    if (envelope->number)
        member->number = envelope->number;
    outbox_take(session, member, member->number, envelope);
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

static void on_status(struct session *session, const struct envelope *envelope)
{
    char reason[96];
    if (!is_of_owner(session, envelope) || envelope->epoch != session->epoch || !is_member(session))
        return;
    membership_heard(session);
    snprintf(reason, sizeof(reason), "%.*s",
             (int)(envelope->text.len < sizeof(reason) ? envelope->text.len : sizeof(reason) - 1),
             envelope->text.at ? envelope->text.at : "");
    enum upstream_status status = envelope->status <= UPSTREAM_CONNECTED
                                      ? (enum upstream_status)envelope->status
                                      : UPSTREAM_DOWN;
    link_tell(session, status, reason);
    if (status == UPSTREAM_CONNECTED)
        outbox_owner_ready(session);
}

/* A take-over goes on with the URL that the owner has used, if it is one of this session. */
static void adopt_request(struct session *session, const struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->items_len; i++) {
        const struct envelope_item *item = &envelope->items[i];
        if (item->kind == ITEM_REQUEST && item->number && is_of_session(session, item->bytes))
            attempt_adopt(link_attempt(session), item->bytes.at, item->bytes.len);
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

static void enter(struct session *session, const struct envelope *joined)
{
    bool entered = session->state == SESSION_JOINING;
    session_set_state(session, SESSION_MEMBER);
    adopt_request(session, joined);
    stream_joined(session, (struct position){joined->epoch, joined->offset}, joined->count);
    on_status(session, joined);
    session->hub->sessions->audience->joined(session);
    if (entered)
        outbox_owner_ready(session);
    /* What was on the way may have passed before this node listened. */
    course_member(session, joined->count != 0);
}

static void on_joined(struct session *session, const struct envelope *envelope)
{
    if (!is_of_owner(session, envelope) || envelope->epoch < session->epoch ||
        !is_member(session) || !membership_is_answer(session, envelope->number))
        return;
    membership_joined(session, envelope->number);
    if (session->epoch != envelope->epoch) {
        /* It began anew: what was thought of it, and what it had, was of an older epoch */
        ownership_renew_owner(session);
        outbox_owner_lost(session);
    }
    session->epoch = envelope->epoch;
    ownership_set_named_at(session, envelope->epoch);
    if (membership_disproves(session, envelope))
        begin_anew(session);
    else
        enter(session, envelope);
}

static void on_left(struct session *session, const struct envelope *envelope)
{
    if (session->state == SESSION_LEAVING && membership_is_answer(session, envelope->number))
        session_end(session);
}

static void on_not_owner(struct session *session, const struct envelope *envelope)
{
    if (!is_of_owner(session, envelope) || envelope->epoch < session->epoch)
        return;
    if (session->state == SESSION_LEAVING)
        session_end(session);
    else if (is_member(session))
        course_not_owner(session);
}

static void on_commands_answer(struct session *session, const struct envelope *envelope)
{
    if (!is_of_owner(session, envelope) || envelope->epoch != session->epoch ||
        session->state == SESSION_OWNER)
        return;
    if (envelope->type == ENVELOPE_CONFIRM)
        outbox_on_confirm(session, envelope->number);
    else
        outbox_on_handback(session, envelope);
}

/* --- the hand-over --- */

static void on_offer(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    bool accept = session && is_member(session) && session->facts.clients &&
                  hub->state == NODE_UP && node_has_lease(hub) && is_of_owner(session, envelope) &&
                  envelope->epoch == session->epoch;
    if (accept)
        handover_accept(session, envelope->epoch);
    struct envelope answer = {.type = accept ? ENVELOPE_ACCEPT : ENVELOPE_DECLINE,
                              .session = envelope->session,
                              .epoch = envelope->epoch};
    node_tell(hub, envelope->node, &answer);
}

static void on_offer_answer(struct session *session, const struct envelope *envelope)
{
    if (handover_accepted(session, envelope))
        course_move(session);
}

static void learn_member(struct session *session, const struct envelope_item *item, bool current)
{
    struct member *member = roster_find(session, item->name);
    if (!member && current && !peers_outlived(session->hub, item->name, item->id))
        member = roster_add(session, item->name, item->id, 0);
    if (member && member->watch.life == item->id)
        outbox_member_confirmed(session, member, item->after);
}

static void learn_send(void *ctx, const struct envelope_item *item)
{
    char client[33] = {0};
    if (!item->name.len || item->name.len > 32)
        return;
    memcpy(client, item->name.at, item->name.len);
    outbox_note_send(ctx, client, item->id);
}

/*
 * What the old owner knew: members with their last commands, last SEND ids. Own commands up to the
 * mark went upstream. Of a hand-over that is not the last one, who was a member then does not
 * count.
 */
static void learn(struct session *session, const struct envelope *take)
{
    bool current = take->epoch == session->epoch;
    for (size_t i = 0; i < take->items_len; i++) {
        const struct envelope_item *item = &take->items[i];
        if (item->kind == ITEM_MEMBER && node_is_self(session->hub, item->name))
            outbox_went_upstream(session, item->after);
        else if (item->kind == ITEM_MEMBER && peer_is_name(item->name))
            learn_member(session, item, current);
        else if (item->kind == ITEM_SEND)
            learn_send(session, item);
    }
}

static void answer_taken(struct hub *hub, const struct envelope *envelope)
{
    struct envelope taken = {
        .type = ENVELOPE_TAKEN, .session = envelope->session, .epoch = envelope->epoch};
    node_tell(hub, envelope->node, &taken);
}

static void give_back(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!id_of(envelope->session, id))
        return;
    ownership_refuse_grant(hub, id, envelope->epoch);
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
    if (session_is_owned(session) || envelope->epoch < session->epoch) {
        if (session_is_owned(session))
            learn(session, envelope);
        answer_taken(hub, envelope);
        return;
    }
    bool waits = is_member(session) ||
                 (session->state == SESSION_CLAIMING && ownership_is_settled(session));
    if (!waits || !node_has_lease(hub))
        return; /* it is sent again */
    if (!handover_awaited(session, envelope->epoch)) {
        /* The lease lapsed since: only the store can say whose it is by now */
        course_claim(session);
        return;
    }
    course_take(session, envelope->epoch);
    learn(session, envelope);
    roster_expect(session);
    answer_taken(hub, envelope);
}

/* --- what is remembered of released sessions --- */

static void note_kept(void *ctx, const char *client, uint64_t id)
{
    outbox_note_send(ctx, client, id);
}

static void on_sends(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!envelope->session.len || envelope->session.len >= SESSION_ID_MAX)
        return;
    kept_sends_keep(hub, envelope);
    if (session && session_is_owned(session)) /* it was faster than this message */
        kept_sends_take(hub, envelope->session, note_kept, session);
}

/* --- by type --- */

/* Messages for which the session must be there; false: it is none of those. */
static bool on_session_message(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_JOINED: on_joined(session, envelope); return true;
    case ENVELOPE_LEFT: on_left(session, envelope); return true;
    case ENVELOPE_NOT_OWNER: on_not_owner(session, envelope); return true;
    case ENVELOPE_STATUS: on_status(session, envelope); return true;
    case ENVELOPE_CONFIRM:
    case ENVELOPE_HANDBACK: on_commands_answer(session, envelope); return true;
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
    case ENVELOPE_TAKEN: handover_on_taken(hub, envelope); return true;
    case ENVELOPE_SENDS: on_sends(hub, session, envelope); return true;
    default: break;
    }
    if (session)
        return on_session_message(session, envelope);
    if (envelope->type == ENVELOPE_JOINED || envelope->type == ENVELOPE_STATUS)
        membership_send_stray(hub, envelope);
    return true;
}
