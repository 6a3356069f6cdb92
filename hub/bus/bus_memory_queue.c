#include "bus/bus_memory_queue.h"

#include <assert.h>
#include <stdlib.h>

#include "bus/bus_memory_store.h"
#include "common/metrics.h"
#include "common/node_messages.h"

static void *claim_memory(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

struct memory_message *memory_message_encode(const struct envelope *envelope, bool push)
{
    struct memory_message *message = claim_memory(sizeof(*message));
    message->refs = 1;
    message->push = push;
    if (envelope_encode(envelope, &message->encoded, &message->encoded_len) != STATUS_OK) {
        free(message);
        return NULL;
    }
    return message;
}

struct memory_message *memory_message_push(const char *session, const char *node, uint64_t epoch,
                                           struct publication *const *publications, size_t len)
{
    struct memory_message *message = claim_memory(sizeof(*message));
    message->refs = 1;
    message->push = true;
    message->session = memory_copy(session);
    message->node = memory_copy(node);
    message->epoch = epoch;
    message->publications = claim_memory(len * sizeof(struct publication *));
    message->len = len;
    for (size_t i = 0; i < len; i++)
        message->publications[i] = publication_ref(publications[i]);
    return message;
}

void memory_message_unref(struct memory_message *message)
{
    assert(message->refs > 0);
    if (--message->refs > 0)
        return;
    for (size_t i = 0; i < message->len; i++)
        publication_unref(message->publications[i]);
    free(message->publications);
    free(message->session);
    free(message->node);
    free(message->encoded);
    free(message);
}

static void deliver_push(struct bus *bus, const struct memory_message *message)
{
    struct envelope_item *items = claim_memory(message->len * sizeof(*items));
    for (size_t i = 0; i < message->len; i++)
        items[i] = publication_as_item(message->publications[i]);
    const struct push_message push = {message->epoch, {items, message->len}};
    struct envelope envelope = push_encode(&push);
    envelope.session = slice_of(message->session);
    envelope.node = slice_of(message->node);
    bus->events->on_message(bus->events_ctx, &envelope, true);
    free(items);
}

void memory_message_deliver(struct bus *bus, const struct memory_message *message)
{
    if (!message->encoded) {
        deliver_push(bus, message);
        return;
    }
    struct envelope envelope;
    struct envelope_item *items;
    enum status status = envelope_decode(message->encoded, message->encoded_len, &envelope, &items);
    /* An envelope with more items than a reader takes is lost as it would be over Redis. */
    if (status != STATUS_OK) {
        metric_drop(DROP_BUS_UNREADABLE, 1);
        return;
    }
    bus->events->on_message(bus->events_ctx, &envelope, message->push);
    free(items);
}

void memory_queue_init(struct memory_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

struct memory_event *memory_queue_add(struct memory_queue *queue, memory_deliver_fn *deliver)
{
    struct memory_event *event = claim_memory(sizeof(*event));
    event->deliver = deliver;
    *queue->last = event;
    queue->last = &event->next;
    return event;
}

struct memory_event *memory_queue_take(struct memory_queue *queue)
{
    struct memory_event *event = queue->first;
    if (!event)
        return NULL;
    queue->first = event->next;
    if (!queue->first)
        queue->last = &queue->first;
    return event;
}

void memory_event_free(struct memory_event *event)
{
    if (event->message)
        memory_message_unref(event->message);
    for (size_t i = 0; event->publications && i < event->len; i++)
        publication_unref(event->publications[i]);
    for (size_t i = 0; event->nodes && i < event->len; i++)
        free((char *)event->nodes[i].id);
    free(event->publications);
    free(event->nodes);
    free(event->session);
    free(event->owner);
    free(event->list.after);
    free(event);
}
