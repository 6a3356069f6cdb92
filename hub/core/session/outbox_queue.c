#include "core/session/outbox_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ALLOCATION_BYTES 16 /* what the allocator adds */

void outbox_queue_init(struct outbox_queue *queue, struct timers *timers,
                       void (*on_expired)(struct source *source), void *ctx)
{
    *queue = (struct outbox_queue){.timers = timers, .on_expired = on_expired, .ctx = ctx};
}

static size_t command_cost(size_t sender_len, size_t len)
{
    return sizeof(struct command) + sender_len + 1 + len + ALLOCATION_BYTES;
}

struct command *command_new(const struct outbox_message *message)
{
    size_t sender_len = strlen(message->sender);
    struct command *command = malloc(sizeof(*command) + sender_len + 1 + message->len);
    if (!command)
        return NULL;
    *command = (struct command){.send_id = message->send_id,
                                .len = message->len,
                                .opcode = (uint8_t)message->opcode,
                                .sender_len = (uint8_t)sender_len};
    memcpy(command->bytes, message->sender, sender_len + 1);
    if (message->len)
        memcpy(command->bytes + sender_len + 1, message->payload, message->len);
    return command;
}

bool outbox_queue_has_room(const struct outbox_queue *queue, const struct outbox_message *message,
                           size_t bytes)
{
    return !queue->first ||
           queue->bytes + command_cost(strlen(message->sender), message->len) <= bytes;
}

struct source *outbox_queue_find(const struct outbox_queue *queue, const void *key)
{
    struct source *source = NULL;
    HASH_FIND_PTR(queue->sources, &key, source);
    return source;
}

static struct source *source_new(struct outbox_queue *queue, const void *key)
{
    struct source *source = calloc(1, sizeof(*source));
    if (!source)
        abort();
    source->key = key;
    source->queue = queue;
    HASH_ADD_PTR(queue->sources, key, source);
    queue->bytes += sizeof(*source);
    return source;
}

static void source_free(struct outbox_queue *queue, struct source *source)
{
    assert(!source->first);
    if (source->key)
        HASH_DEL(queue->sources, source);
    timer_stop(queue->timers, &source->expiry);
    queue->bytes -= sizeof(*source);
    free(source);
}

struct source *outbox_queue_client(struct outbox_queue *queue, struct subscription *from,
                                   uint64_t spread_ms)
{
    struct source *source = source_new(queue, from);
    source->from = from;
    source->spread_ms = (uint32_t)spread_ms;
    return source;
}

struct source *outbox_queue_member(struct outbox_queue *queue, const void *key, const char *node)
{
    struct source *source = source_new(queue, key);
    source->member = true;
    source->node = node;
    return source;
}

void outbox_queue_orphan(struct outbox_queue *queue, struct source *source)
{
    HASH_DEL(queue->sources, source);
    source->key = NULL;
    source->from = NULL;
}

void outbox_queue_forget(struct outbox_queue *queue, struct source *source)
{
    source_free(queue, source);
}

static void on_expiry(struct timer *timer, uint64_t now_ms)
{
    struct source *source = CONTAINER_OF(timer, struct source, expiry);
    if (source->first->expires_ms > now_ms)
        timer_start(source->queue->timers, timer, source->first->expires_ms, on_expiry);
    else
        source->queue->on_expired(source);
}

void outbox_queue_add(struct outbox_queue *queue, struct source *source, struct command *command)
{
    command->source = source;
    DL_APPEND(queue->first, command);
    DL_APPEND2(source->first, command, prev_of, next_of);
    source->len++;
    queue->len++;
    queue->bytes += command_cost(command->sender_len, command->len);
    if (!source->member && !timer_armed(&source->expiry))
        timer_start(queue->timers, &source->expiry, command->expires_ms, on_expiry);
}

void outbox_queue_drop(struct outbox_queue *queue, struct command *command)
{
    struct source *source = command->source;
    DL_DELETE(queue->first, command);
    DL_DELETE2(source->first, command, prev_of, next_of);
    source->len--;
    queue->len--;
    queue->bytes -= command_cost(command->sender_len, command->len);
    free(command);
    if (!source->first && !source->member)
        source_free(queue, source);
}

void outbox_queue_expire(struct outbox_queue *queue, struct command *command)
{
    struct source *source = command->source;
    struct command *place = malloc(sizeof(*place) + command->sender_len + 1u);
    if (!place)
        abort();
    memcpy(place, command, sizeof(*place) + command->sender_len + 1u);
    queue->bytes -= command->len;
    place->len = 0;
    place->ttl_at_ms = 0;
    place->expired = true;
    DL_REPLACE_ELEM(queue->first, command, place);
    DL_REPLACE_ELEM2(source->first, command, place, prev_of, next_of);
    free(command);
}

void outbox_queue_fini(struct outbox_queue *queue)
{
    struct source *source, *next;
    while (queue->first)
        outbox_queue_drop(queue, queue->first);
    HASH_ITER (hh, queue->sources, source, next)
        source_free(queue, source);
    assert(!queue->bytes);
}

void outbox_queue_check(const struct outbox_queue *queue)
{
    const struct command *command;
    size_t len = 0, bytes = 0, of_sources = 0;
    DL_FOREACH (queue->first, command) {
        const struct source *source = command->source;
        assert(source->member || timer_armed(&source->expiry));
        len++;
        bytes += command_cost(command->sender_len, command->len);
        if (!source->key && source->first == command)
            bytes += sizeof(*source);
    }
    for (const struct source *source = queue->sources; source; source = source->hh.next) {
        assert(source->member || source->first);
        of_sources += source->len;
        bytes += sizeof(*source);
    }
    assert(len == queue->len && bytes == queue->bytes && of_sources <= len);
}
