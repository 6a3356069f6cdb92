#include "core/handover.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/commands.h"
#include "core/fanout.h"
#include "core/last_sends.h"
#include "core/lease.h"
#include "core/link.h"
#include "core/membership.h"
#include "core/ownership.h"
#include "core/peers.h"
#include "core/session.h"

#define OFFER_ANSWER_MS      1000
#define UNREACHABLE_EVERY_MS 60000
#define NAMED_WAIT_MS        500 /* TAKE follows the announcement by another way */
#define TAKE_AGAIN_MS        500
#define TAKE_TRIES           20
#define RECORD_KEPT_MS       (10 * 60 * 1000u)

/* A TAKE on its way: outlives the session, which may have no clients here any more. */
struct parting {
    struct hub *hub;
    char *session, *url;
    char to[CONF_NAME_MAX + 1];
    uint64_t epoch;
    unsigned tries;
    struct envelope_item *items; /* names are owned */
    size_t items_len;
    struct timer timer;
    struct parting *prev, *next;
};

static void on_offer_timer(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, move.timer);
    (void)now_ms;
    if (session->move.step == MOVE_OFFERED)
        session->move.step = MOVE_NONE; /* no answer: the next one is asked */
    handover_consider(session);
}

static void offer(struct session *session)
{
    struct hub *hub = session->hub;
    struct member *member = session->members;
    for (unsigned skip = session->move.tries++ % session->members_len; skip; skip--)
        member = member->next;
    session->move.step = MOVE_OFFERED;
    session->move.at_ms = hub->now_ms;
    snprintf(session->move.to, sizeof session->move.to, "%s", member->peer->id);
    timer_start(&hub->timers, &session->move.timer, hub->now_ms + OFFER_ANSWER_MS, on_offer_timer);
    struct envelope envelope = {.type = ENVELOPE_OFFER,
                                .session = slice_of(session->id),
                                .epoch = session->epoch,
                                .url = slice_of(session->url)};
    membership_tell(hub, slice_of(session->move.to), &envelope);
}

void handover_consider(struct session *session)
{
    if (session->hub->state == NODE_DRAINING && session->state == SESSION_OWNER &&
        session->members_len && session->move.step == MOVE_NONE)
        offer(session);
}

void handover_unreachable(struct session *session)
{
    struct move *move = &session->move;
    if (!session->members_len || move->step != MOVE_NONE ||
        (move->at_ms && session->hub->now_ms - move->at_ms < UNREACHABLE_EVERY_MS))
        return;
    offer(session);
}

void handover_forget(struct session *session)
{
    timer_stop(&session->hub->timers, &session->move.timer);
    session->move.step = MOVE_NONE;
}

bool handover_expects(const struct session *session, struct slice owner)
{
    return session->move.step == MOVE_TRANSFERRING && strlen(session->move.to) == owner.len &&
           !memcmp(session->move.to, owner.at, owner.len);
}

void handover_on_offer(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    bool accept = session &&
                  (session->state == SESSION_MEMBER || session->state == SESSION_JOINING) &&
                  session->clients_len && (hub->state == NODE_UP) && lease_valid(hub) &&
                  membership_from_owner(session, envelope) && envelope->epoch == session->epoch;
    if (accept) {
        session->accepted_epoch = envelope->epoch;
        session->accepted_run = hub->lease.runs;
    }
    struct envelope answer = {.type = accept ? ENVELOPE_ACCEPT : ENVELOPE_DECLINE,
                              .session = envelope->session,
                              .epoch = envelope->epoch};
    membership_tell(hub, envelope->node, &answer);
}

static void start_move(struct session *session)
{
    timer_stop(&session->hub->timers, &session->move.timer);
    session->move.step = MOVE_CLOSING;
    session_set_state(session, SESSION_MOVING);
    if (!link_close(session))
        handover_upstream_gone(session);
}

void handover_on_answer(struct session *session, const struct envelope *envelope)
{
    struct move *move = &session->move;
    if (move->step != MOVE_OFFERED || session->state != SESSION_OWNER ||
        envelope->epoch != session->epoch || strlen(move->to) != envelope->node.len ||
        memcmp(move->to, envelope->node.at, envelope->node.len) != 0)
        return;
    if (envelope->type == ENVELOPE_ACCEPT) {
        start_move(session);
        return;
    }
    /* The timer asks the next one, so that decliners are not asked in a circle */
    move->step = MOVE_NONE;
}

void handover_upstream_gone(struct session *session)
{
    struct hub *hub = session->hub;
    assert(session->move.step == MOVE_CLOSING);
    fanout_flush(session);
    if (session->state != SESSION_MOVING)
        return; /* fenced by the flush */
    session->move.step = MOVE_TRANSFERRING;
    session->tag = hub_tag(hub);
    hub->bus->ops->transfer(hub->bus, session->id, session->tag, session->epoch, session->move.to);
}

/* The parting: TAKE, repeated. */

static void parting_free(struct parting *parting)
{
    struct hub *hub = parting->hub;
    DL_DELETE(hub->partings, parting);
    timer_stop(&hub->timers, &parting->timer);
    for (size_t i = 0; i < parting->items_len; i++)
        free((void *)(uintptr_t)parting->items[i].name.at);
    free(parting->items);
    free(parting->session);
    free(parting->url);
    free(parting);
}

void handover_free_all(struct hub *hub)
{
    while (hub->partings)
        parting_free(hub->partings);
}

static void on_parting_timer(struct timer *timer, uint64_t now_ms);

static void send_take(struct parting *parting)
{
    struct hub *hub = parting->hub;
    struct envelope take = {
        .type = ENVELOPE_TAKE,
        .session = slice_of(parting->session),
        .epoch = parting->epoch,
        .url = slice_of(parting->url),
        .items = parting->items,
        .items_len = parting->items_len,
    };
    membership_tell(hub, slice_of(parting->to), &take);
    timer_start(&hub->timers, &parting->timer, hub->now_ms + TAKE_AGAIN_MS, on_parting_timer);
}

static void on_parting_timer(struct timer *timer, uint64_t now_ms)
{
    struct parting *parting = CONTAINER_OF(timer, struct parting, timer);
    (void)now_ms;
    if (++parting->tries >= TAKE_TRIES)
        parting_free(parting);
    else
        send_take(parting);
}

static struct slice copy(const char *text)
{
    char *at = strdup(text);
    if (!at)
        abort();
    return slice_of(at);
}

static void part(struct session *session, uint64_t epoch)
{
    struct hub *hub = session->hub;
    size_t len = session->members_len + HASH_COUNT(session->last_sends);
    struct parting *parting = calloc(1, sizeof *parting);
    struct envelope_item *items = calloc(len ? len : 1, sizeof *items);
    char *id = strdup(session->id), *url = strdup(session->url);
    if (!parting || !items || !id || !url)
        abort();
    struct member *member;
    struct last_send *send, *next;
    uint64_t unix_ms = hub->setup.unix_ms(hub->setup.clock_ctx);
    size_t n = 0;
    DL_FOREACH (session->members, member)
        items[n++] = (struct envelope_item){.kind = ITEM_MEMBER,
                                            .name = copy(member->peer->id),
                                            .id = member->life,
                                            .number = member->number,
                                            .after = member->sent};
    HASH_ITER (hh, session->last_sends, send, next)
        items[n++] = (struct envelope_item){.kind = ITEM_SEND,
                                            .name = copy(send->client),
                                            .id = send->id,
                                            .time_ms = unix_ms - (hub->now_ms - send->at_ms)};
    *parting = (struct parting){
        .hub = hub, .session = id, .url = url, .epoch = epoch, .items = items, .items_len = n};
    memcpy(parting->to, session->move.to, sizeof parting->to);
    DL_APPEND(hub->partings, parting);
    send_take(parting);
}

void handover_on_transferred(struct session *session, uint64_t tag, enum status status,
                             uint64_t epoch)
{
    struct hub *hub = session->hub;
    if (session->tag != tag || session->state != SESSION_MOVING)
        return;
    session->tag = 0;
    if (status != STATUS_OK) { /* lost, or not known: the store says who has it */
        ownership_lost(session, NULL, session->epoch);
        return;
    }
    metric_add(METRIC_HANDOVERS, 1);
    log_info("session_moved", LOG_STR("session", session->id), LOG_STR("to", session->move.to),
             LOG_U64("epoch", epoch));
    part(session, epoch);
    ownership_lost(session, peer_get(hub, session->move.to, strlen(session->move.to)), epoch);
}

void handover_on_taken(struct hub *hub, const struct envelope *envelope)
{
    struct parting *parting, *next;
    DL_FOREACH_SAFE (hub->partings, parting, next)
        if (parting->epoch <= envelope->epoch &&
            strlen(parting->session) == envelope->session.len &&
            !memcmp(parting->session, envelope->session.at, envelope->session.len))
            parting_free(parting);
}

/* The successor's side. */

bool handover_awaited(const struct session *session, uint64_t epoch)
{
    return session->accepted_epoch && epoch > session->accepted_epoch &&
           session->accepted_run == session->hub->lease.runs;
}

void handover_named(struct session *session)
{
    session_set_state(session, SESSION_CLAIMING);
    session_step_after(session, NAMED_WAIT_MS);
}

static void learn_member(struct session *session, const struct envelope_item *item, bool current)
{
    struct member *member = membership_find(session, item->name);
    if (!member && current && !peers_outlived(session->hub, item->name, item->id))
        member = membership_add(session, item->name, item->id, 0);
    if (member && member->life == item->id && item->after > member->taken)
        member->taken = member->sent = item->after;
}

/*
 * What the old owner knew: members with their last commands, last SEND ids. Own commands up to the
 * mark went upstream. Of a hand-over that is not the last one, who was a member then does not
 * count.
 */
static void learn(struct session *session, const struct envelope *envelope)
{
    struct hub *hub = session->hub;
    bool current = envelope->epoch == session->epoch;
    for (size_t i = 0; i < envelope->items_len; i++) {
        const struct envelope_item *item = &envelope->items[i];
        bool own = item->name.len == strlen(hub->id) &&
                   !memcmp(item->name.at, hub->id, item->name.len);
        if (item->kind == ITEM_MEMBER && own) {
            commands_went_upstream(session, item->after);
        } else if (item->kind == ITEM_MEMBER && peer_is_name(item->name)) {
            learn_member(session, item, current);
        } else if (item->kind == ITEM_SEND && item->name.len && item->name.len <= 32) {
            char client[33] = {0};
            memcpy(client, item->name.at, item->name.len);
            last_sends_note(session, client, item->id);
        }
    }
}

static void answer_taken(struct hub *hub, const struct envelope *envelope)
{
    struct envelope taken = {
        .type = ENVELOPE_TAKEN, .session = envelope->session, .epoch = envelope->epoch};
    membership_tell(hub, envelope->node, &taken);
}

static void give_back(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!envelope->session.len || envelope->session.len >= sizeof id)
        return;
    memcpy(id, envelope->session.at, envelope->session.len);
    id[envelope->session.len] = '\0';
    hub->bus->ops->release(hub->bus, id, 0, envelope->epoch, RECORD_KEPT_MS);
    answer_taken(hub, envelope);
}

void handover_on_take(struct hub *hub, struct session *session, const struct envelope *envelope)
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
    bool waits = session->state == SESSION_JOINING || session->state == SESSION_MEMBER ||
                 (session->state == SESSION_CLAIMING && !session->tag);
    if (!waits || !lease_valid(hub))
        return; /* it is sent again */
    if (!handover_awaited(session, envelope->epoch)) {
        /* The lease lapsed since: only the store can say whose it is by now */
        ownership_claim(session);
        return;
    }
    ownership_take(session, envelope->epoch);
    learn(session, envelope);
    membership_expect(session);
    answer_taken(hub, envelope);
}
