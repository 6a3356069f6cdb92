#include "core/membership.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client_ids.h"
#include "core/commands.h"
#include "core/handover.h"
#include "core/history.h"
#include "core/link.h"
#include "core/ownership.h"
#include "core/peers.h"
#include "core/record.h"
#include "core/session.h"

#define ROLL_CALL_LEASES 20 /* a membership that only one side believes in ends after that */
/* A changed number of clients is told this late, so that many changes are one message */
#define JOIN_AGAIN_MS 1000
/* The same while the upstream is down: the owner may wait for a client with another URL */
#define JOIN_DOWN_MS 200
/* Of clients' URLs in one JOIN; a single larger one goes */
#define REQUESTS_BYTES (32u * 1024)

void membership_tell(struct hub *hub, struct slice node, struct envelope *envelope)
{
    char id[CONF_NAME_MAX + 1];
    assert(node.len && node.len <= CONF_NAME_MAX);
    memcpy(id, node.at, node.len);
    id[node.len] = '\0';
    envelope->node = slice_of(hub->id);
    envelope->life = hub->setup.life;
    hub->bus->ops->tell(hub->bus, id, envelope, 0);
}

bool membership_from_owner(const struct session *session, const struct envelope *envelope)
{
    return session->owner && strlen(session->owner->id) == envelope->node.len &&
           !memcmp(session->owner->id, envelope->node.at, envelope->node.len);
}

static uint64_t roll_call_ms(const struct session *session)
{
    return ROLL_CALL_LEASES * (uint64_t)session->hub->conf->node.lease_ms;
}

void membership_step(struct session *session)
{
    if (session->state == SESSION_MEMBER &&
        session->hub->now_ms - session->owner_heard_ms >= 3 * roll_call_ms(session))
        membership_join(session); /* it may have forgotten this node */
    else
        membership_send_join(session);
    if (session->state == SESSION_MEMBER)
        session_step_after(session, roll_call_ms(session));
}

/* The URLs of the clients here, among which the owner may choose. */
static size_t gather_requests(const struct session *session,
                              struct envelope_item items[ATTEMPT_REQUESTS])
{
    size_t n = 0, bytes = 0;
    for (size_t i = 0; i < ATTEMPT_REQUESTS; i++) {
        struct slice text = slice_of(attempt_own(&session->attempt, i));
        if (!text.len || (n && bytes + text.len > REQUESTS_BYTES))
            continue;
        bytes += text.len;
        items[n++] = (struct envelope_item){.kind = ITEM_REQUEST, .bytes = text};
    }
    return n;
}

void membership_send_join(struct session *session)
{
    struct hub *hub = session->hub;
    uint64_t number = ++hub->numbers;
    if (session->state == SESSION_JOINING)
        session_ask_again(session);
    else if (!session->join_due)
        return;
    session->join_due = false;
    session->asked_number = number;
    session->asked_at = session->positioned ? session->at : (struct position){0, 0};
    if (!session->owner || !hub->bus_connected)
        return;
    struct envelope join = {
        .type = ENVELOPE_JOIN,
        .session = slice_of(session->id),
        .number = number,
        .epoch = session->epoch,
        .count = session->clients_len,
        .offset = commands_confirmed(session),
        .status = session->owner_epoch,
    };
    struct envelope_item items[ATTEMPT_REQUESTS];
    join.items_len = gather_requests(session, items);
    join.items = items;
    membership_tell(hub, slice_of(session->owner->id), &join);
}

void membership_join(struct session *session)
{
    assert(session->owner);
    session_set_state(session, SESSION_JOINING);
    session->asked = 0;
    session->join_number = session->hub->numbers + 1;
    membership_send_join(session);
}

/* Many reasons within a while make one JOIN. */
static void join_soon(struct session *session)
{
    uint64_t after_ms = session->status == UPSTREAM_CONNECTED ? JOIN_AGAIN_MS : JOIN_DOWN_MS;
    session->join_due = true;
    if (!timer_armed(&session->step) || session->step.at_ms > session->hub->now_ms + after_ms)
        session_step_after(session, after_ms);
}

void membership_count_changed(struct session *session)
{
    if (session->state == SESSION_LEAVING) {
        membership_join(session);
    } else if (session->state == SESSION_JOINING) {
        session->join_due = true; /* the JOIN under way has the old number */
    } else if (session->state == SESSION_MEMBER) {
        join_soon(session);
    }
}

void membership_ask_position(struct session *session)
{
    if (session->state == SESSION_MEMBER)
        join_soon(session);
}

/* What was heard before the JOIN went out can't be more than the owner has published until then. */
static bool disproves(const struct session *session, const struct envelope *joined)
{
    return joined->number == session->asked_number && session->asked_at.epoch == joined->epoch &&
           session->asked_at.offset > joined->offset;
}

/*
 * Something that was never published has been taken for a publication. All that comes now would
 * be taken for late: the owner is asked for another epoch, as by a node that has seen a higher one.
 */
static void begin_anew(struct session *session)
{
    log_warn_cause("stream_disproved", LOG_STR("session", session->id),
                   LOG_U64("epoch", session->epoch), LOG_U64("offset", session->asked_at.offset));
    session->doubt = true; /* what is missing is told of at the end of the epoch */
    session->epoch++;
    membership_join(session);
}

void membership_send_leave(struct session *session)
{
    struct hub *hub = session->hub;
    struct envelope leave = {.type = ENVELOPE_LEAVE,
                             .session = slice_of(session->id),
                             .number = ++hub->numbers,
                             .epoch = session->epoch};
    session_ask_again(session);
    if (session->owner && hub->bus_connected)
        membership_tell(hub, slice_of(session->owner->id), &leave);
}

/* Its messages that still wait go first: a member with work left leaves when that is done. */
void membership_leave(struct session *session)
{
    if (session_wanted(session))
        return;
    session_set_state(session, SESSION_LEAVING);
    session->join_number = session->hub->numbers + 1;
    membership_send_leave(session);
}

void membership_stray(struct hub *hub, const struct envelope *envelope)
{
    struct envelope leave = {.type = ENVELOPE_LEAVE,
                             .session = envelope->session,
                             .number = ++hub->numbers,
                             .epoch = envelope->epoch};
    membership_tell(hub, envelope->node, &leave);
}

struct member *membership_find(struct session *session, struct slice node)
{
    struct member *member;
    DL_FOREACH (session->members, member)
        if (strlen(member->peer->id) == node.len && !memcmp(member->peer->id, node.at, node.len))
            return member;
    return NULL;
}

static void tell_status(struct session *session, const struct member *member)
{
    struct envelope status = {
        .type = ENVELOPE_STATUS,
        .session = slice_of(session->id),
        .epoch = session->epoch,
        .status = session->status,
        .text = slice_of(session->reason),
    };
    membership_tell(session->hub, slice_of(member->peer->id), &status);
}

static void call_roll_after(struct session *session, uint64_t after_ms);

/* Who is no member answers with LEAVE; who was named by the last owner and has not come since is
 * none. */
static void on_roll_call(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, roll);
    struct member *member, *next;
    (void)now_ms;
    DL_FOREACH_SAFE (session->members, member, next) {
        if (member->heard_ms)
            tell_status(session, member);
        else
            membership_remove(member);
    }
    if (session->members)
        call_roll_after(session, roll_call_ms(session));
}

static void call_roll_after(struct session *session, uint64_t after_ms)
{
    timer_start(&session->hub->timers, &session->roll, session->hub->now_ms + after_ms,
                on_roll_call);
}

void membership_expect(struct session *session)
{
    if (session->members)
        call_roll_after(session, 2 * (uint64_t)session->hub->conf->node.lease_ms);
}

struct member *membership_add(struct session *session, struct slice node, uint64_t life,
                              uint64_t since)
{
    struct member *member = membership_find(session, node);
    if (member && member->life == life)
        return member;
    if (member) { /* another life under the same name: nothing of the old one counts */
        commands_member_gone(session, member);
        member->number = member->taken = member->sent = 0;
        member->requests = 0;
        member->life = life;
        member->since = since;
        return member;
    }
    member = calloc(1, sizeof *member);
    if (!member)
        abort();
    member->session = session;
    member->life = life;
    member->since = since;
    member->peer = peer_get(session->hub, node.at, node.len);
    DL_APPEND(session->members, member);
    DL_APPEND2(member->peer->members, member, peer_prev, peer_next);
    session->members_len++;
    if (!timer_armed(&session->roll))
        call_roll_after(session, roll_call_ms(session));
    record_session_soon(session);
    return member;
}

static void member_free(struct member *member)
{
    struct session *session = member->session;
    commands_member_gone(session, member);
    DL_DELETE(session->members, member);
    DL_DELETE2(member->peer->members, member, peer_prev, peer_next);
    session->members_len--;
    free(member);
}

void membership_remove(struct member *member)
{
    struct session *session = member->session;
    member_free(member);
    record_session_soon(session);
    ownership_unwanted(session);
}

void membership_remove_all(struct session *session)
{
    timer_stop(&session->hub->timers, &session->roll);
    while (session->members)
        member_free(session->members);
}

static void tell_not_owner(struct hub *hub, struct slice session, struct slice node, uint64_t epoch)
{
    struct envelope no = {.type = ENVELOPE_NOT_OWNER, .session = session, .epoch = epoch};
    membership_tell(hub, node, &no);
}

void membership_dismiss_all(struct session *session)
{
    while (session->members) {
        tell_not_owner(session->hub, slice_of(session->id), slice_of(session->members->peer->id),
                       session->epoch);
        member_free(session->members);
    }
}

void membership_tell_status(struct session *session)
{
    struct member *member;
    DL_FOREACH (session->members, member)
        tell_status(session, member);
}

/* Offsets given out that the store may not have, counted from the last one back. They come by on
 * the push channel. */
static uint64_t on_the_way(const struct session *session)
{
    const struct pubs *first = session->unconfirmed.len ? &session->unconfirmed : &session->to_bus;
    if (!session->service->history.size || !first->len ||
        first->items[0]->at.epoch != session->epoch)
        return 0;
    return session->placed - first->items[0]->at.offset + 1;
}

void membership_answer_joined(struct session *session, struct slice node, uint64_t number)
{
    struct envelope joined = {
        .type = ENVELOPE_JOINED,
        .session = slice_of(session->id),
        .number = number,
        .epoch = session->epoch,
        .offset = session->placed,
        .count = on_the_way(session),
        .status = session->status,
        .text = slice_of(session->reason),
        .url = slice_of(session->url),
    };
    struct envelope_item request;
    const char *text = attempt_current(&session->attempt);
    if (text) {
        request = (struct envelope_item){.kind = ITEM_REQUEST,
                                         .number = attempt_is_attended(&session->attempt),
                                         .bytes = slice_of(text)};
        joined.items = &request;
        joined.items_len = 1;
    }
    membership_tell(session->hub, node, &joined);
}

/* Named owner of what it does not hold: the record must not go on naming this node. */
static void disown(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!envelope->session.len || envelope->session.len >= sizeof id)
        return;
    memcpy(id, envelope->session.at, envelope->session.len);
    id[envelope->session.len] = '\0';
    uint64_t named_at = envelope->status ? envelope->status : envelope->epoch;
    if (named_at)
        hub->bus->ops->release(hub->bus, id, 0, named_at, 10 * 60 * 1000);
    tell_not_owner(hub, envelope->session, envelope->node, envelope->epoch);
}

static bool on_its_way(const struct session *session)
{
    return session->state == SESSION_SUBSCRIBING || session->state == SESSION_CLAIMING ||
           session->state == SESSION_RELEASING || session->state == SESSION_MOVING ||
           session->state == SESSION_FENCED;
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
            member->requests |= attempt_note(&session->attempt, item->bytes.at, item->bytes.len);
    }
    return member->requests & ~before;
}

void membership_requests(struct session *session)
{
    uint16_t mask = 0;
    struct member *member;
    DL_FOREACH (session->members, member)
        mask |= member->requests;
    attempt_set_far(&session->attempt, mask);
}

void membership_on_join(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (peers_outlived(hub, envelope->node, envelope->life))
        return;
    if (session && session->state == SESSION_RELEASING)
        ownership_wanted(session);
    if (session && (on_its_way(session) || handover_awaited(session, envelope->epoch)))
        return; /* the asker asks again */
    if (!session || session->state != SESSION_OWNER) {
        disown(hub, envelope);
        return;
    }
    if (envelope->epoch > session->epoch) {
        ownership_outbid(session, envelope->epoch);
        return;
    }
    struct member *member = membership_add(session, envelope->node, envelope->life,
                                           envelope->number);
    if (envelope->number < member->number)
        return;
    if (member->count != envelope->count)
        record_session_soon(session);
    bool came = learn_requests(session, member, envelope) || envelope->count > member->count;
    member->number = envelope->number;
    member->count = envelope->count;
    member->heard_ms = hub->now_ms;
    if (envelope->offset > member->taken)
        member->taken = member->sent = envelope->offset;
    ownership_wanted(session);
    if (came)
        link_client_came(session);
    membership_answer_joined(session, envelope->node, envelope->number);
    handover_consider(session);
}

/* A take-over goes on with the URL that the owner has used, if it is one of this session. */
static void adopt_request(struct session *session, const struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->items_len; i++) {
        const struct envelope_item *item = &envelope->items[i];
        if (item->kind == ITEM_REQUEST && item->number && is_of_session(session, item->bytes))
            attempt_adopt(&session->attempt, item->bytes.at, item->bytes.len);
    }
}

void membership_on_joined(struct session *session, const struct envelope *envelope)
{
    if (!membership_from_owner(session, envelope) || envelope->epoch < session->epoch)
        return;
    if (session->state != SESSION_JOINING && session->state != SESSION_MEMBER)
        return;
    if (envelope->number < session->join_number)
        return;
    session->joined_number = envelope->number;
    if (session->epoch != envelope->epoch) {
        /* It began anew: what was thought of it, and what it had, was of an older epoch */
        peer_set_owner(session, session->owner);
        commands_owner_lost(session);
    }
    session->epoch = session->owner_epoch = envelope->epoch;
    if (disproves(session, envelope)) {
        begin_anew(session);
        return;
    }
    bool entered = session->state == SESSION_JOINING;
    session_set_state(session, SESSION_MEMBER);
    adopt_request(session, envelope);
    history_joined(session, (struct position){envelope->epoch, envelope->offset}, envelope->count);
    membership_on_status(session, envelope);
    client_ids_on_joined(session);
    if (entered)
        commands_owner_ready(session);
    /* What was on the way may have passed before this node listened. */
    bool soon = session->join_due || envelope->count;
    session_step_after(session, soon ? JOIN_AGAIN_MS : roll_call_ms(session));
    if (!session->clients_len)
        membership_leave(session);
}

void membership_on_leave(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    struct member *member = session ? membership_find(session, envelope->node) : NULL;
    if (member && (member->life != envelope->life || envelope->number < member->number))
        return;
    if (member)
        membership_remove(member);
    struct envelope left = {
        .type = ENVELOPE_LEFT, .session = envelope->session, .number = envelope->number};
    membership_tell(hub, envelope->node, &left);
}

void membership_on_left(struct session *session, const struct envelope *envelope)
{
    if (session->state == SESSION_LEAVING && envelope->number >= session->join_number)
        session_end(session);
}

void membership_on_not_owner(struct session *session, const struct envelope *envelope)
{
    if (!membership_from_owner(session, envelope) || envelope->epoch < session->epoch)
        return;
    if (session->state == SESSION_LEAVING) {
        session_end(session);
    } else if (session->state == SESSION_JOINING || session->state == SESSION_MEMBER) {
        commands_owner_lost(session);
        bool again = session->hub->now_ms - session->refused_ms < ASK_AGAIN_MS;
        session->refused_ms = session->hub->now_ms;
        peer_set_owner(session, NULL);
        if (!again) {
            ownership_claim(session);
            return;
        }
        session_set_state(
            session,
            SESSION_CLAIMING); /* the record goes on naming it: not as fast as the network goes */
        session_step_after(session, ASK_AGAIN_MS / 4);
    }
}

void membership_on_status(struct session *session, const struct envelope *envelope)
{
    if (!membership_from_owner(session, envelope) || envelope->epoch != session->epoch)
        return;
    if (session->state != SESSION_MEMBER && session->state != SESSION_JOINING)
        return;
    session->owner_heard_ms = session->hub->now_ms;
    char reason[sizeof session->reason];
    snprintf(reason, sizeof reason, "%.*s",
             (int)(envelope->text.len < sizeof reason ? envelope->text.len : sizeof reason - 1),
             envelope->text.at ? envelope->text.at : "");
    enum upstream_status status = envelope->status <= UPSTREAM_CONNECTED
                                      ? (enum upstream_status)envelope->status
                                      : UPSTREAM_DOWN;
    link_tell(session, status, reason);
    if (status == UPSTREAM_CONNECTED)
        commands_owner_ready(session);
}
