#include "core/session/outbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/session/outbox_expiry.h"
#include "core/session/outbox_forward.h"
#include "core/session/outbox_members.h"
#include "core/session/outbox_queue.h"
#include "core/session/outbox_upstream.h"

#define LOOK_MS     500 /* how often is looked for answers that do not come */
#define SENT_A_TURN 500 /* messages that go upstream in one turn */

struct outbox {
    struct session *session;
    const struct outbox_events *events;
    uint64_t last_number;
    struct timer timer;
    size_t sent;      /* in this turn */
    bool emptied_due; /* the last message is gone, and no client is left to end the session */
    struct outbox_queue queue;
    struct outbox_upstream upstream;
    struct outbox_forward forward;
    struct outbox_members members;
    struct outbox_expiry expiry;
};

static void on_expired(struct outbox_source *source);
static void on_ttl_due(struct session *session);

void outbox_new(struct session *session, const struct outbox_events *events)
{
    struct outbox *out = calloc(1, sizeof(*out));
    if (!out)
        abort();
    out->session = session;
    out->events = events;
    out->last_number = session->hub->sessions->commands;
    outbox_queue_init(&out->queue, &session->hub->timers, on_expired, out);
    outbox_upstream_init(&out->upstream, session, &out->queue, events);
    outbox_forward_init(&out->forward, session, &out->queue);
    outbox_members_init(&out->members, session, &out->queue);
    outbox_expiry_init(&out->expiry, session, &out->queue, on_ttl_due);
    session->outbox = out;
}

void outbox_free(struct session *session)
{
    struct outbox *out = session->outbox;
    timer_stop(&session->hub->timers, &out->timer);
    metric_drop(DROP_UPSTREAM_QUEUE, out->queue.len);
    outbox_members_fini(&out->members);
    outbox_queue_fini(&out->queue);
    outbox_expiry_fini(&out->expiry);
    free(out);
    session->outbox = NULL;
}

static void on_timer(struct timer *timer, uint64_t now_ms);

static void look_within(struct outbox *out, uint64_t after_ms)
{
    uint64_t at_ms = out->session->hub->now_ms + after_ms;
    if (!timer_armed(&out->timer) || out->timer.at_ms > at_ms)
        timer_start(&out->session->hub->timers, &out->timer, at_ms, on_timer);
}

static void on_added(struct outbox *out, const struct outbox_item *item)
{
    metric_observe(HISTOGRAM_UPSTREAM_QUEUE, out->queue.bytes);
    look_within(out, LOOK_MS);
    outbox_expiry_add(&out->expiry, item->ttl_at_ms);
}

/* Nothing that a source has here goes upstream any more: its place in the order is gone. */
static void refuse_source(struct outbox *out, struct subscription *from,
                          struct outbox_source *source, uint64_t dropped, const char *why)
{
    struct session *session = out->session;
    if (source)
        dropped += outbox_queue_drop_source(&out->queue, source);
    metric_drop(DROP_UPSTREAM_QUEUE, dropped);
    log_info_cause("command_dropped", LOG_STR("session", session->id), LOG_STR("reason", why));
    if (from)
        out->events->refused(session, from);
}

static void on_expired(struct outbox_source *source)
{
    struct outbox *out = source->queue->ctx;
    refuse_source(out, source->from, source, 0, "waited too long");
    if (!out->queue.first)
        out->events->emptied(out->session);
}

/* --- from a client --- */

static bool is_writable(const struct outbox *out)
{
    return out->upstream.state == OUTBOX_WRITABLE;
}

/* Sends the one message without queueing it, where nothing waits before it. */
static bool send_straight(struct outbox *out, const struct outbox_message *message)
{
    return !out->queue.first && is_writable(out) &&
           out->events->way(out->session) == OUTBOX_UPSTREAM &&
           outbox_upstream_send(&out->upstream, message->opcode, message->payload, message->len);
}

bool outbox_add(struct session *session, struct subscription *from, bool may_pause,
                const struct outbox_message *message)
{
    struct outbox *out = session->outbox;
    struct hub *hub = session->hub;
    uint32_t wait_ms = session->service->to_upstream.wait_ms;
    if (!message->send_id && send_straight(out, message))
        return true;
    if (message->send_id &&
        outbox_expiry_refuses(&out->expiry, message->sender, message->send_id)) {
        out->events->expired(session, from, message->send_id);
        return true;
    }
    struct outbox_source *source = outbox_queue_find(&out->queue, from);
    /* While the upstream takes messages, a full queue stops the reading; what was read until then
     * is still taken. */
    bool room = may_pause || outbox_queue_has_room(&out->queue, message,
                                                   session->service->to_upstream.queue_bytes);
    struct outbox_item *item = room ? outbox_item_new(message) : NULL;
    if (!item) {
        refuse_source(out, from, source, 1, "queue full");
        return false;
    }
    if (!source)
        source = outbox_queue_client(&out->queue, from, rng_below(&hub->rng, wait_ms / 2 + 1));
    item->number = ++out->last_number;
    item->expires_ms = hub->now_ms + wait_ms + source->spread_ms;
    item->ttl_at_ms = message->ttl_ms ? hub->now_ms + message->ttl_ms : 0;
    outbox_queue_add(&out->queue, source, item);
    on_added(out, item);
    if (may_pause)
        outbox_upstream_maybe_pause(&out->upstream, from);
    outbox_pump(session);
    return true;
}

void outbox_from_gone(struct session *session, struct subscription *from)
{
    struct outbox_source *source = outbox_queue_find(&session->outbox->queue, from);
    if (source)
        outbox_queue_orphan(&session->outbox->queue, source);
}

void outbox_drop_unsent(struct session *session, struct subscription *from)
{
    struct outbox *out = session->outbox;
    struct outbox_source *source = outbox_queue_find(&out->queue, from);
    if (source)
        metric_drop(DROP_DUPLICATE, outbox_forward_drop_unsent(&out->forward, source));
}

bool outbox_is_empty(const struct session *session)
{
    return !session->outbox->queue.first;
}

size_t outbox_bytes(const struct session *session)
{
    return session->outbox->queue.bytes;
}

uint64_t outbox_last_number(const struct session *session)
{
    return session->outbox->last_number;
}

uint64_t outbox_confirmed(const struct session *session)
{
    const struct outbox *out = session->outbox;
    return outbox_forward_confirmed(&out->forward, out->last_number);
}

/* --- to the upstream --- */

/* Whose it is hears that it never goes. */
static void report_expired(struct outbox *out, const struct outbox_item *item)
{
    struct outbox_source *source = item->source;
    if (source->kind == SOURCE_CLIENT)
        out->events->expired(out->session, source->from, item->send_id);
    else if (source->kind == SOURCE_MEMBER)
        outbox_members_expired(&out->members, source, outbox_item_sender(item), item->send_id);
}

static void acknowledge(struct outbox *out, const struct outbox_item *item)
{
    outbox_expiry_went_from_here(&out->expiry, outbox_item_sender(item), item->send_id);
    out->events->acked(out->session, item->source->from, item->send_id);
}

/* It has had its turn: it went upstream, or it expired and never will. */
static void went(struct outbox *out, struct outbox_item *item, bool expired)
{
    struct outbox_source *source = item->source;
    if (source->kind == SOURCE_MEMBER)
        outbox_members_sent(&out->members, source, item->number);
    if (expired)
        report_expired(out, item);
    else if (source->kind == SOURCE_CLIENT && item->send_id)
        acknowledge(out, item);
    outbox_queue_drop(&out->queue, item);
}

/* Its time is over. Of a client that has several before it these stay. */
static void expire(void *ctx, struct outbox_item *item)
{
    struct outbox *out = ctx;
    if (item->source->first == item) {
        went(out, item, outbox_expiry_has(&out->expiry, item));
        return;
    }
    report_expired(out, item);
    if (outbox_item_is_own(item))
        outbox_queue_drop(&out->queue, item);
    else /* its turn is reported once more: this word of it may be lost */
        outbox_queue_expire(&out->queue, item);
}

/* The same for a repeated SEND that went before. A member gets the answer in its CONFIRM. */
static void acknowledge_again(void *ctx, struct outbox_item *item)
{
    struct outbox *out = ctx;
    struct outbox_source *source = item->source;
    item->ttl_at_ms = 0;
    if (source->first == item) {
        went(out, item, false);
    } else if (outbox_item_is_own(item)) {
        if (source->kind == SOURCE_CLIENT)
            acknowledge(out, item);
        outbox_queue_drop(&out->queue, item);
    }
}

static void on_ttl_due(struct session *session)
{
    struct outbox *out = session->outbox;
    outbox_expiry_run(&out->expiry, expire, acknowledge_again, out);
    session_mark_dirty(session); /* the owner has to learn it */
    outbox_upstream_maybe_resume(&out->upstream);
    if (!out->queue.first)
        out->events->emptied(session);
}

/* Returns false where it has to wait. */
static bool send_first(struct outbox *out)
{
    struct outbox_item *item = out->queue.first;
    enum outbox_verdict verdict = outbox_expiry_verdict(&out->expiry, item);
    if (verdict == VERDICT_SEND) {
        if (!outbox_upstream_send(&out->upstream, item->opcode, outbox_item_payload(item),
                                  item->len))
            return false;
        if (item->send_id)
            outbox_expiry_note_sent(&out->expiry, outbox_item_sender(item), item->send_id);
    }
    went(out, item, verdict == VERDICT_EXPIRED);
    return true;
}

static void pump_upstream(struct outbox *out)
{
    struct session *session = out->session;
    size_t before = out->sent;
    while (out->queue.first && is_writable(out) && out->sent < SENT_A_TURN &&
           node_may_write(session->hub) && send_first(out))
        out->sent++;
    bool sent = out->sent > before;
    if (sent)
        session_mark_dirty(session); /* the next turn has its own portion */
    if (out->sent == SENT_A_TURN && out->queue.first)
        look_within(out, 0);
    outbox_upstream_maybe_resume(&out->upstream);
    if (sent && !out->queue.first && !session->facts.clients) {
        out->emptied_due = true;
        look_within(out, 0);
    }
    if (!out->queue.first && out->members.room_awaited) {
        out->members.room_awaited = false;
        out->events->room_again(session);
    }
}

void outbox_pump(struct session *session)
{
    struct outbox *out = session->outbox;
    switch (out->events->way(session)) {
    case OUTBOX_UPSTREAM: pump_upstream(out); break;
    case OUTBOX_OWNER:
        if (outbox_forward_is_due(&out->forward))
            session_mark_dirty(session); /* at the end of the turn, all in one message */
        break;
    case OUTBOX_NOWHERE: break;
    }
}

/* --- to the owner --- */

static void forward(struct outbox *out, bool messages)
{
    struct envelope_item items[COMMANDS_ITEMS];
    size_t n = outbox_expiry_report(&out->expiry, items, COMMANDS_ITEMS / 2);
    struct commands_message commands = outbox_forward_next(&out->forward, items, n, messages);
    out->events->send_commands(out->session, &commands);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct outbox *out = CONTAINER_OF(timer, struct outbox, timer);
    struct session *session = out->session;
    (void)now_ms;
    out->sent = 0;
    if (session->state == SESSION_MEMBER)
        outbox_forward_look(&out->forward);
    outbox_pump(session);
    bool emptied = out->emptied_due && !out->queue.first;
    out->emptied_due = false;
    if (out->queue.first)
        look_within(out, LOOK_MS);
    if (emptied)
        out->events->emptied(session);
}

void outbox_owner_ready(struct session *session)
{
    struct outbox *out = session->outbox;
    outbox_expiry_report_again(&out->expiry);
    if (outbox_expiry_has_report(&out->expiry))
        session_mark_dirty(session);
    outbox_forward_open(&out->forward);
    outbox_pump(session);
}

void outbox_owner_lost(struct session *session)
{
    struct outbox *out = session->outbox;
    outbox_forward_owner_lost(&out->forward);
    outbox_upstream_open(&out->upstream);
    outbox_expiry_look(&out->expiry);
}

/* What the owner says of it. That is remembered here, too: the owner may be killed before the SEND
 * comes again. */
static void settle(struct outbox *out, struct outbox_item *item, bool expired)
{
    if (item->send_id && !expired)
        outbox_expiry_note_sent(&out->expiry, outbox_item_sender(item), item->send_id);
    went(out, item, expired);
}

void outbox_went_upstream(struct session *session, uint64_t number)
{
    struct outbox *out = session->outbox;
    struct outbox_item *item;
    while ((item = out->queue.first) && outbox_item_is_own(item) && item->number <= number)
        settle(out, item, outbox_expiry_may_have(&out->expiry, item));
}

/* The owner says what went, and which of those after `from` did not. Returns false at the first
 * SEND of which it said so in a message that has not come. */
static bool went_after(struct outbox *out, uint64_t from, uint64_t upto)
{
    struct outbox_item *item;
    while ((item = out->queue.first) && outbox_item_is_own(item) && item->number <= upto) {
        if (item->send_id && item->number <= from)
            return false;
        settle(out, item, outbox_expiry_has(&out->expiry, item));
    }
    return true;
}

static void drop_expired(void *ctx, struct outbox_item *item)
{
    struct outbox *out = ctx;
    report_expired(out, item);
    outbox_queue_drop(&out->queue, item);
}

void outbox_on_confirm(struct session *session, const struct confirm_message *confirm)
{
    struct outbox *out = session->outbox;
    outbox_forward_answered(&out->forward);
    outbox_expiry_confirmed(&out->expiry, &confirm->expired, drop_expired, out);
    if (!went_after(out, confirm->from, confirm->upto)) {
        outbox_forward_ask_again(&out->forward);
        outbox_pump(session);
    }
    outbox_upstream_maybe_resume(&out->upstream);
    if (!out->queue.first)
        out->events->emptied(session);
}

void outbox_on_handback(struct session *session, uint64_t from, uint64_t seen_number)
{
    struct outbox *out = session->outbox;
    if (!outbox_forward_handed_back(&out->forward, from, seen_number))
        return;
    outbox_expiry_look(&out->expiry);
}

/* --- from members --- */

void outbox_member_came(struct session *session, const void *member, const char *node)
{
    outbox_members_add(&session->outbox->members, member, node);
}

void outbox_member_gone(struct session *session, const void *member)
{
    outbox_members_remove(&session->outbox->members, member);
}

void outbox_member_confirmed(struct session *session, const void *member, uint64_t number)
{
    outbox_members_confirmed(&session->outbox->members, member, number);
}

uint64_t outbox_member_sent(const struct session *session, const void *member)
{
    return outbox_members_find(&session->outbox->members, member)->sent;
}

static bool take_one(struct outbox *out, struct outbox_member *member,
                     const struct command_entry *entry, uint64_t late_ms)
{
    if (out->events->way(out->session) != OUTBOX_UPSTREAM)
        return false;
    const struct outbox_item *item = outbox_members_take(&out->members, member, entry, late_ms);
    if (item)
        on_added(out, item);
    return item;
}

void outbox_take(struct session *session, const void *from, uint64_t seen, uint64_t late_ms,
                 const struct message_items *commands)
{
    struct outbox *out = session->outbox;
    struct outbox_member *member = outbox_members_find(&out->members, from);
    struct outbox_repeat repeat = {0};
    member->seen = seen;
    for (size_t i = 0; i < commands->len; i++) {
        struct command_entry entry;
        outbox_expiry_note_item(&out->expiry, &commands->at[i]);
        if (!command_entry_of(&commands->at[i], &entry))
            continue;
        if (entry.number <= member->taken) {
            outbox_members_repeat(&out->members, member, &repeat, &entry,
                                  outbox_expiry_refuses_entry(&out->expiry, &entry));
            continue;
        }
        if (entry.after > member->taken || !take_one(out, member, &entry, late_ms)) {
            outbox_members_hand_back(&out->members, member, member->taken + 1);
            out->members.room_awaited = true;
            break;
        }
    }
    outbox_members_send_repeat(&out->members, member, &repeat);
    session_mark_dirty(session);
    outbox_pump(session);
}

void outbox_owner_changed(struct session *session)
{
    struct outbox *out = session->outbox;
    outbox_forward_owned(&out->forward);
    outbox_upstream_open(&out->upstream);
    outbox_expiry_look(&out->expiry);
}

void outbox_link_writable(struct session *session)
{
    outbox_upstream_open(&session->outbox->upstream);
    outbox_pump(session);
}

void outbox_link_down(struct session *session)
{
    struct outbox *out = session->outbox;
    outbox_upstream_open(&out->upstream);
    outbox_members_hand_back_all(&out->members);
}

void outbox_flush(struct session *session)
{
    struct outbox *out = session->outbox;
    if (outbox_expiry_has_report(&out->expiry) && out->events->way(session) == OUTBOX_OWNER &&
        !outbox_forward_is_due(&out->forward))
        forward(out, false);
    while (outbox_forward_is_due(&out->forward) && out->events->way(session) == OUTBOX_OWNER)
        forward(out, true);
    outbox_members_flush(&out->members);
    out->sent = 0;
}

/* --- last SENDs --- */

bool outbox_settled(const struct session *session, const char *client, uint64_t id)
{
    return outbox_expiry_settles(&session->outbox->expiry, client, id);
}

bool outbox_went(const struct session *session, const char *client, uint64_t id)
{
    return outbox_expiry_went(&session->outbox->expiry, client, id);
}

void outbox_connection_gone(struct session *session, const char *client)
{
    outbox_expiry_went_from_here(&session->outbox->expiry, client, 0);
}

void outbox_note(struct session *session, const struct envelope_item *item)
{
    outbox_expiry_note_item(&session->outbox->expiry, item);
}

size_t outbox_sends_len(const struct session *session)
{
    return last_sends_len(&session->outbox->expiry.sends);
}

size_t outbox_sends(const struct session *session, uint64_t younger_ms, struct envelope_item *items,
                    size_t max)
{
    return outbox_expiry_list(&session->outbox->expiry, younger_ms, items, max);
}

void outbox_check(const struct session *session)
{
    const struct outbox *out = session->outbox;
    outbox_queue_check(&out->queue);
    outbox_forward_check(&out->forward);
    outbox_members_check(&out->members);
    outbox_expiry_check(&out->expiry);
    assert(!out->queue.first || timer_armed(&out->timer));
}
