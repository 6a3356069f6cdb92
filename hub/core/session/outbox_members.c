#include "core/session/outbox_members.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "common/node_messages.h"

/* An expired SEND of a member's client, to be reported to the member. */
struct expired_note {
    struct expired_note *prev, *next;
    const struct outbox_member *member;
    uint64_t id;
    uint64_t upto; /* what a CONFIRM with this one and those before it may confirm */
    char client[33];
};

void outbox_members_init(struct outbox_members *members, struct session *session,
                         struct outbox_queue *queue)
{
    *members = (struct outbox_members){.session = session, .queue = queue};
}

static struct outbox_member *member_of(struct outbox_source *source)
{
    assert(source->kind == SOURCE_MEMBER);
    return CONTAINER_OF(source, struct outbox_member, source);
}

static void forget_notes(struct outbox_members *members, const struct outbox_member *member)
{
    struct expired_note *note, *next;
    DL_FOREACH_SAFE (members->expired, note, next) {
        if (note->member != member)
            continue;
        DL_DELETE(members->expired, note);
        free(note);
    }
}

static void leave_row(struct outbox_members *members, struct outbox_member *member)
{
    if (!member->prev)
        return;
    DL_DELETE(members->to_confirm, member);
    member->prev = member->next = NULL;
}

static void remove_member(struct outbox_members *members, struct outbox_member *member)
{
    leave_row(members, member);
    forget_notes(members, member);
    outbox_queue_drop_source(members->queue, &member->source);
    outbox_queue_remove_member(members->queue, &member->source);
    free(member);
}

void outbox_members_fini(struct outbox_members *members)
{
    struct outbox_source *source, *next;
    HASH_ITER (hh, members->queue->sources, source, next)
        if (source->kind == SOURCE_MEMBER)
            remove_member(members, member_of(source));
}

struct outbox_member *outbox_members_find(const struct outbox_members *members, const void *key)
{
    struct outbox_source *source = outbox_queue_find(members->queue, key);
    return source ? member_of(source) : NULL;
}

void outbox_members_add(struct outbox_members *members, const void *key, const char *node)
{
    outbox_members_remove(members, key);
    struct outbox_member *member = calloc(1, sizeof(*member));
    if (!member)
        abort();
    member->node = node;
    outbox_queue_add_member(members->queue, &member->source, key);
}

void outbox_members_remove(struct outbox_members *members, const void *key)
{
    struct outbox_member *member = outbox_members_find(members, key);
    if (member)
        remove_member(members, member);
}

void outbox_members_confirmed(struct outbox_members *members, const void *key, uint64_t number)
{
    struct outbox_member *member = outbox_members_find(members, key);
    if (number > member->taken)
        member->taken = member->sent = member->reported = number;
}

struct outbox_item *outbox_members_take(struct outbox_members *members,
                                        struct outbox_member *member,
                                        const struct command_entry *entry, uint64_t late_ms)
{
    const struct session *session = members->session;
    uint64_t left_ms = entry->ttl_ms > late_ms ? entry->ttl_ms - late_ms : 0;
    char sender[33] = {0};
    if (entry->sender.len > 32)
        return NULL;
    if (entry->sender.len)
        memcpy(sender, entry->sender.at, entry->sender.len);
    const struct outbox_message message = {
        .send_id = entry->send_id,
        .sender = sender,
        .opcode = entry->opcode,
        .payload = entry->payload.at,
        .len = entry->payload.len,
    };
    bool room = outbox_queue_has_room(members->queue, &message,
                                      session->service->to_upstream.queue_bytes);
    struct outbox_item *item = room ? outbox_item_new(&message) : NULL;
    if (!item)
        return NULL;
    item->number = member->taken = entry->number;
    item->ttl_at_ms = entry->ttl_ms ? session->hub->now_ms + left_ms : 0;
    outbox_queue_add(members->queue, &member->source, item);
    return item;
}

/* --- answers to members --- */

void outbox_members_confirm(struct outbox_members *members, struct outbox_member *member)
{
    if (!member->prev)
        DL_PREPEND(members->to_confirm, member);
    session_mark_dirty(members->session);
}

void outbox_members_sent(struct outbox_members *members, struct outbox_source *source,
                         uint64_t number)
{
    struct outbox_member *member = member_of(source);
    member->sent = number;
    outbox_members_confirm(members, member);
}

void outbox_members_expired(struct outbox_members *members, struct outbox_source *source,
                            const char *client, uint64_t id)
{
    struct expired_note *note = calloc(1, sizeof(*note));
    if (!note)
        abort();
    note->member = member_of(source);
    note->id = id;
    note->upto = note->member->sent;
    memcpy(note->client, client, strlen(client));
    DL_APPEND(members->expired, note);
    outbox_members_confirm(members, member_of(source));
}

void outbox_members_hand_back(struct outbox_members *members, struct outbox_member *member,
                              uint64_t from)
{
    struct session *session = members->session;
    const struct handback_message message = {
        .epoch = session->epoch, .from = from, .seen_number = member->seen};
    struct envelope envelope = handback_encode(&message);
    envelope.session = slice_of(session->id);
    member->taken = from - 1;
    node_send(session->hub, slice_of(member->node), &envelope);
}

void outbox_members_hand_back_all(struct outbox_members *members)
{
    struct outbox_source *source, *next;
    HASH_ITER (hh, members->queue->sources, source, next) {
        if (source->kind != SOURCE_MEMBER || !source->first)
            continue;
        uint64_t first = source->first->number;
        outbox_queue_drop_source(members->queue, source);
        outbox_members_hand_back(members, member_of(source), first);
    }
}

/* Of this node's epoch. */
static void send_confirm(const struct outbox_members *members, const struct outbox_member *member,
                         const struct confirm_message *message)
{
    struct session *session = members->session;
    struct confirm_message current = *message;
    current.epoch = session->epoch;
    struct envelope confirm = confirm_encode(&current);
    confirm.session = slice_of(session->id);
    node_send(session->hub, slice_of(member->node), &confirm);
}

void outbox_members_send_repeat(const struct outbox_members *members,
                                const struct outbox_member *member, struct outbox_repeat *repeat)
{
    if (!repeat->upto)
        return;
    send_confirm(members, member,
                 &(struct confirm_message){
                     .from = repeat->from,
                     .upto = repeat->upto < member->sent ? repeat->upto : member->sent,
                     .expired = {repeat->expired, repeat->n},
                 });
    repeat->from = repeat->upto;
    repeat->upto = 0;
    repeat->n = 0;
}

void outbox_members_repeat(const struct outbox_members *members, const struct outbox_member *member,
                           struct outbox_repeat *repeat, const struct command_entry *entry,
                           bool expired)
{
    metric_drop(DROP_DUPLICATE, 1);
    if (!repeat->upto)
        repeat->from = entry->number - 1;
    repeat->upto = entry->number;
    if (expired)
        repeat->expired[repeat->n++] = expired_item(
            &(struct expired_entry){.client = entry->sender, .send_id = entry->send_id});
    if (repeat->n == CONFIRM_ITEMS)
        outbox_members_send_repeat(members, member, repeat);
}

/* Goes on from the last report. */
static void report(const struct outbox_members *members, struct outbox_member *member,
                   uint64_t upto, const struct envelope_item *items, size_t n)
{
    const struct confirm_message message = {
        .from = member->reported, .upto = upto, .expired = {items, n}};
    send_confirm(members, member, &message);
    member->reported = upto;
}

/* Where it stands, and its SENDs that expired. Where one message does not hold them all, each goes
 * as far as it names them: what the member hears to have gone but for those, it acknowledges. */
static void report_all(struct outbox_members *members, struct outbox_member *member)
{
    struct envelope_item items[CONFIRM_ITEMS];
    struct expired_note *note;
    uint64_t upto = 0;
    size_t n = 0;
    DL_FOREACH (members->expired, note) {
        if (note->member != member)
            continue;
        if (n == CONFIRM_ITEMS) {
            report(members, member, upto, items, n);
            n = 0;
        }
        upto = note->upto;
        items[n++] = expired_item(
            &(struct expired_entry){.client = slice_of(note->client), .send_id = note->id});
    }
    report(members, member, member->sent, items, n);
    forget_notes(members, member);
}

void outbox_members_flush(struct outbox_members *members)
{
    while (members->to_confirm) {
        struct outbox_member *member = members->to_confirm;
        leave_row(members, member);
        report_all(members, member);
    }
}

void outbox_members_check(const struct outbox_members *members)
{
    const struct expired_note *note;
    const struct outbox_item *item;
    struct outbox_source *source;
    DL_FOREACH (members->expired, note)
        assert(note->member->prev);
    for (source = members->queue->sources; source; source = source->hh.next) {
        if (source->kind != SOURCE_MEMBER)
            continue;
        const struct outbox_member *member = member_of(source);
        uint64_t number = member->sent;
        assert(member->reported <= member->sent && member->sent <= member->taken);
        DL_FOREACH2(source->first, item, next_of)
        {
            assert(number < item->number && item->number <= member->taken);
            number = item->number;
        }
    }
}
