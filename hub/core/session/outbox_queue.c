#include "core/session/outbox_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ALLOCATION_BYTES 16 /* what the allocator adds */

void outbox_queue_init(struct outbox_queue *queue, struct timers *timers,
                       void (*on_expired)(struct outbox_source *source), void *ctx)
{
    *queue = (struct outbox_queue){.timers = timers, .on_expired = on_expired, .ctx = ctx};
}

static size_t item_cost(size_t sender_len, size_t len)
{
    return sizeof(struct outbox_item) + sender_len + 1 + len + ALLOCATION_BYTES;
}

struct outbox_item *outbox_item_new(const struct outbox_message *message)
{
    size_t sender_len = strlen(message->sender);
    struct outbox_item *item = malloc(sizeof(*item) + sender_len + 1 + message->len);
    if (!item)
        return NULL;
    *item = (struct outbox_item){.send_id = message->send_id,
                                 .len = message->len,
                                 .opcode = (uint8_t)message->opcode,
                                 .sender_len = (uint8_t)sender_len};
    memcpy(item->bytes, message->sender, sender_len + 1);
    if (message->len)
        memcpy(item->bytes + sender_len + 1, message->payload, message->len);
    return item;
}

void outbox_item_set_state(struct outbox_item *item, enum outbox_item_state state)
{
    static const bool legal[OUTBOX_ITEM_STATES][OUTBOX_ITEM_STATES] = {
        /* to:             waiting forwarded expired */
        [OUTBOX_ITEM_WAITING] = {true, true, true},
        [OUTBOX_ITEM_FORWARDED] = {true, true, false},
        [OUTBOX_ITEM_EXPIRED] = {false, false, false},
    };
    assert(legal[item->state][state]);
    assert(state != OUTBOX_ITEM_FORWARDED || outbox_item_is_own(item));
    assert(state != OUTBOX_ITEM_EXPIRED || !outbox_item_is_own(item));
    item->state = (uint8_t)state;
}

bool outbox_queue_has_room(const struct outbox_queue *queue, const struct outbox_message *message,
                           size_t bytes)
{
    return !queue->first ||
           queue->bytes + item_cost(strlen(message->sender), message->len) <= bytes;
}

struct outbox_source *outbox_queue_find(const struct outbox_queue *queue, const void *key)
{
    struct outbox_source *source = NULL;
    HASH_FIND_PTR(queue->sources, &key, source);
    return source;
}

static void add_source(struct outbox_queue *queue, struct outbox_source *source, const void *key)
{
    source->key = key;
    source->queue = queue;
    HASH_ADD_PTR(queue->sources, key, source);
    queue->bytes += sizeof(*source);
}

static void remove_source(struct outbox_queue *queue, struct outbox_source *source)
{
    assert(!source->first);
    if (source->key)
        HASH_DEL(queue->sources, source);
    timer_stop(queue->timers, &source->expiry);
    queue->bytes -= sizeof(*source);
}

struct outbox_source *outbox_queue_client(struct outbox_queue *queue, struct subscription *from,
                                          uint64_t spread_ms)
{
    struct outbox_source *source = calloc(1, sizeof(*source));
    if (!source)
        abort();
    add_source(queue, source, from);
    source->kind = SOURCE_CLIENT;
    source->from = from;
    source->spread_ms = (uint32_t)spread_ms;
    return source;
}

void outbox_queue_orphan(struct outbox_queue *queue, struct outbox_source *source)
{
    assert(source->kind == SOURCE_CLIENT);
    HASH_DEL(queue->sources, source);
    source->kind = SOURCE_LEFT;
    source->key = NULL;
    source->from = NULL;
}

void outbox_queue_add_member(struct outbox_queue *queue, struct outbox_source *source,
                             const void *key)
{
    add_source(queue, source, key);
    source->kind = SOURCE_MEMBER;
}

void outbox_queue_remove_member(struct outbox_queue *queue, struct outbox_source *source)
{
    assert(source->kind == SOURCE_MEMBER);
    remove_source(queue, source);
}

static void on_expiry(struct timer *timer, uint64_t now_ms)
{
    struct outbox_source *source = CONTAINER_OF(timer, struct outbox_source, expiry);
    if (source->first->expires_ms > now_ms)
        timer_start(source->queue->timers, timer, source->first->expires_ms, on_expiry);
    else
        source->queue->on_expired(source);
}

void outbox_queue_add(struct outbox_queue *queue, struct outbox_source *source,
                      struct outbox_item *item)
{
    item->source = source;
    DL_APPEND(queue->first, item);
    DL_APPEND2(source->first, item, prev_of, next_of);
    source->len++;
    queue->len++;
    queue->bytes += item_cost(item->sender_len, item->len);
    if (!queue->cursor)
        queue->cursor = item;
    if (source->kind != SOURCE_MEMBER && !timer_armed(&source->expiry))
        timer_start(queue->timers, &source->expiry, item->expires_ms, on_expiry);
}

void outbox_queue_drop(struct outbox_queue *queue, struct outbox_item *item)
{
    struct outbox_source *source = item->source;
    if (queue->cursor == item)
        queue->cursor = item->next;
    DL_DELETE(queue->first, item);
    DL_DELETE2(source->first, item, prev_of, next_of);
    source->len--;
    queue->len--;
    queue->bytes -= item_cost(item->sender_len, item->len);
    free(item);
    if (!source->first && source->kind != SOURCE_MEMBER) {
        remove_source(queue, source);
        free(source);
    }
}

uint64_t outbox_queue_drop_source(struct outbox_queue *queue, struct outbox_source *source)
{
    uint64_t n = source->len;
    for (uint64_t i = 0; i < n; i++)
        outbox_queue_drop(queue, source->first);
    return n;
}

void outbox_queue_expire(struct outbox_queue *queue, struct outbox_item *item)
{
    struct outbox_source *source = item->source;
    struct outbox_item *place = malloc(sizeof(*place) + item->sender_len + 1u);
    if (!place)
        abort();
    outbox_item_set_state(item, OUTBOX_ITEM_EXPIRED);
    memcpy(place, item, sizeof(*place) + item->sender_len + 1u);
    queue->bytes -= item->len;
    place->len = 0;
    place->ttl_at_ms = 0;
    DL_REPLACE_ELEM(queue->first, item, place);
    DL_REPLACE_ELEM2(source->first, item, place, prev_of, next_of);
    if (queue->cursor == item)
        queue->cursor = place;
    free(item);
}

void outbox_queue_fini(struct outbox_queue *queue)
{
    while (queue->first)
        outbox_queue_drop(queue, queue->first);
    assert(!queue->sources && !queue->bytes && !queue->cursor);
}

void outbox_queue_check(const struct outbox_queue *queue)
{
    const struct outbox_item *item;
    size_t len = 0, bytes = 0, of_sources = 0;
    bool cursor = !queue->cursor;
    DL_FOREACH (queue->first, item) {
        const struct outbox_source *source = item->source;
        assert(source->kind == SOURCE_MEMBER || timer_armed(&source->expiry));
        assert((source->kind == SOURCE_LEFT) == !source->key);
        assert((source->kind == SOURCE_CLIENT) == (source->from != NULL));
        cursor = cursor || item == queue->cursor;
        len++;
        bytes += item_cost(item->sender_len, item->len);
        if (source->kind == SOURCE_LEFT && source->first == item)
            bytes += sizeof(*source);
    }
    for (const struct outbox_source *source = queue->sources; source; source = source->hh.next) {
        assert(source->kind == SOURCE_MEMBER || source->first);
        of_sources += source->len;
        bytes += sizeof(*source);
    }
    assert(len == queue->len && bytes == queue->bytes && of_sources <= len && cursor);
}
