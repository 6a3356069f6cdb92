#include "core/session/outbox_forward.h"

#include <assert.h>

#include "common/log.h"
#include "common/metrics.h"

#define HANDED_BACK_MS 5000 /* the STATUS that the owner can send again may have been lost */

static const char *const state_names[FORWARD_STATES] = {"open", "handed_back"};

void outbox_forward_init(struct outbox_forward *forward, struct session *session,
                         struct outbox_queue *queue)
{
    *forward = (struct outbox_forward){.session = session, .queue = queue};
}

static void set_state(struct outbox_forward *forward, enum outbox_forward_state state)
{
    if (forward->state == state)
        return;
    forward->state = state; /* each may follow the other */
    log_debug("outbox_forward", LOG_STR("session", forward->session->id),
              LOG_STR("state", state_names[state]));
}

static struct command_entry entry_of(const struct outbox_queue *queue,
                                     const struct outbox_item *item, uint64_t now_ms)
{
    return (struct command_entry){
        .number = item->number,
        .after = item == queue->first ? 0 : item->prev->number,
        .send_id = item->send_id,
        .opcode = item->opcode,
        .sender = slice_of(outbox_item_sender(item)),
        .payload = {(const char *)outbox_item_payload(item), item->len},
        .ttl_ms = outbox_item_ttl_ms(item, now_ms),
    };
}

struct commands_message outbox_forward_next(struct outbox_forward *forward,
                                            struct envelope_item *items, size_t len, bool messages)
{
    struct session *session = forward->session;
    struct outbox_item *item = messages ? forward->queue->cursor : NULL;
    size_t bytes = 0;
    for (; item && len < COMMANDS_ITEMS && (!len || bytes + item->len <= COMMANDS_BYTES);
         item = item->next) {
        bytes += item->len;
        outbox_item_set_state(item, OUTBOX_ITEM_FORWARDED);
        const struct command_entry entry = entry_of(forward->queue, item, session->hub->now_ms);
        items[len++] = command_item(&entry);
    }
    if (messages)
        forward->queue->cursor = item;
    forward->active_ms = session->hub->now_ms;
    forward->number = ++session->hub->numbers;
    return (struct commands_message){
        .number = forward->number, .epoch = session->epoch, .commands = {items, len}};
}

bool outbox_forward_is_due(const struct outbox_forward *forward)
{
    return forward->queue->cursor && forward->state == FORWARD_OPEN;
}

void outbox_forward_open(struct outbox_forward *forward)
{
    set_state(forward, FORWARD_OPEN);
    forward->queue->cursor = forward->queue->first;
}

/* Nothing came back for a second: the message or its answer was lost, or nobody listens. The owner
 * drops doubles by number. */
void outbox_forward_look(struct outbox_forward *forward)
{
    uint64_t again_ms = forward->state == FORWARD_HANDED_BACK ? HANDED_BACK_MS : ASK_AGAIN_MS;
    if (forward->queue->first && forward->session->hub->now_ms - forward->active_ms >= again_ms)
        outbox_forward_open(forward);
}

void outbox_forward_ask_again(struct outbox_forward *forward)
{
    uint64_t now_ms = forward->session->hub->now_ms;
    if (forward->asked_again_ms && now_ms - forward->asked_again_ms < ASK_AGAIN_MS)
        return;
    forward->asked_again_ms = now_ms;
    forward->queue->cursor = forward->queue->first;
}

void outbox_forward_answered(struct outbox_forward *forward)
{
    forward->active_ms = forward->session->hub->now_ms;
}

bool outbox_forward_handed_back(struct outbox_forward *forward, uint64_t from, uint64_t seen_number)
{
    if (seen_number && seen_number < forward->number)
        return false;
    outbox_forward_answered(forward);
    set_state(forward, FORWARD_HANDED_BACK);
    struct outbox_item *item = forward->queue->first;
    while (item && item->number < from)
        item = item->next;
    forward->queue->cursor = item;
    for (; item; item = item->next)
        outbox_item_set_state(item, OUTBOX_ITEM_WAITING);
    return true;
}

void outbox_forward_owner_lost(struct outbox_forward *forward)
{
    struct outbox_item *item = forward->queue->first, *next;
    for (; item; item = next) {
        next = item->next;
        if (item->state != OUTBOX_ITEM_FORWARDED || !outbox_item_is_own(item))
            continue;
        outbox_item_set_state(item, OUTBOX_ITEM_WAITING);
        if (!item->send_id) { /* once at most: nobody can say whether it went */
            metric_drop(DROP_OWNER_LOST, 1);
            outbox_queue_drop(forward->queue, item);
        }
    }
    outbox_forward_open(forward);
}

uint64_t outbox_forward_drop_unsent(struct outbox_forward *forward, struct outbox_source *source)
{
    struct outbox_item *item = source->first, *next;
    uint64_t dropped = 0;
    for (; item; item = next) {
        next = item->next_of;
        if (!item->send_id || item->state == OUTBOX_ITEM_FORWARDED)
            continue;
        outbox_queue_drop(forward->queue, item);
        dropped++;
    }
    return dropped;
}

uint64_t outbox_forward_confirmed(const struct outbox_forward *forward, uint64_t last)
{
    const struct outbox_item *item = forward->queue->first;
    while (item && !outbox_item_is_own(item))
        item = item->next;
    return item ? item->number - 1 : last;
}

void outbox_forward_owned(struct outbox_forward *forward)
{
    struct outbox_item *item;
    DL_FOREACH (forward->queue->first, item)
        outbox_item_set_state(item, OUTBOX_ITEM_WAITING);
    outbox_forward_open(forward);
}

void outbox_forward_check(const struct outbox_forward *forward)
{
    const struct outbox_item *item = forward->queue->first;
    /* Two answers may hand back from different numbers; before it is OPEN again it begins anew */
    for (; item && item != forward->queue->cursor; item = item->next)
        assert(item->state == OUTBOX_ITEM_FORWARDED || forward->state == FORWARD_HANDED_BACK);
    assert(forward->number <= forward->session->hub->numbers);
}
