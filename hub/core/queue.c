#include "core/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/fanout.h"
#include "core/pubs.h"

/* One of the two is set. */
struct item {
    struct publication *publication;
    struct wire *wire;
};

struct queue {
    struct item *items;    /* a ring */
    size_t head, len, cap; /* cap is a power of two */
    size_t bytes;          /* payload bytes that wait */
    size_t own_bytes;      /* of these, in the client's own frames */
};

static struct item *item_at(const struct queue *queue, size_t i)
{
    return &queue->items[(queue->head + i) & (queue->cap - 1)];
}

/* Without content it counts as one byte: those have a bound, too. */
static size_t publication_bytes(const struct publication *publication)
{
    return publication->len ? publication->len : 1;
}

static size_t item_bytes(const struct item *item)
{
    return item->wire ? item->wire->len : publication_bytes(item->publication);
}

static void item_unref(struct item *item)
{
    if (item->wire)
        wire_unref(item->wire);
    else
        publication_unref(item->publication);
}

static void count_in(struct queue *queue, const struct item *item)
{
    queue->bytes += item_bytes(item);
    if (item->wire)
        queue->own_bytes += item->wire->len;
}

static void count_out(struct queue *queue, const struct item *item)
{
    queue->bytes -= item_bytes(item);
    if (item->wire)
        queue->own_bytes -= item->wire->len;
}

static void reserve(struct queue *queue, size_t more)
{
    if (queue->len + more <= queue->cap)
        return;
    size_t cap = queue->cap ? queue->cap : 8;
    while (cap < queue->len + more)
        cap *= 2;
    struct item *items = malloc(cap * sizeof *items);
    if (!items)
        abort();
    for (size_t i = 0; i < queue->len; i++)
        items[i] = *item_at(queue, i);
    free(queue->items);
    queue->items = items;
    queue->head = 0;
    queue->cap = cap;
}

static struct queue *queue_get(struct client *client)
{
    if (!client->queue && !(client->queue = calloc(1, sizeof *client->queue)))
        abort();
    return client->queue;
}

static void append(struct queue *queue, struct item item)
{
    reserve(queue, 1);
    *item_at(queue, queue->len++) = item;
    count_in(queue, &item);
    metric_observe(HISTOGRAM_CLIENT_QUEUE, queue->bytes);
}

static void pop(struct queue *queue)
{
    struct item *item = item_at(queue, 0);
    count_out(queue, item);
    item_unref(item);
    queue->head = (queue->head + 1) & (queue->cap - 1);
    queue->len--;
}

static void push_front(struct queue *queue, struct item item)
{
    reserve(queue, 1);
    queue->head = (queue->head + queue->cap - 1) & (queue->cap - 1);
    queue->len++;
    *item_at(queue, 0) = item;
    count_in(queue, &item);
}

/* Puts an item at place k; what stands before it moves up. */
static void insert_at(struct queue *queue, size_t k, struct item item)
{
    push_front(queue, item);
    for (size_t i = 0; i < k; i++)
        *item_at(queue, i) = *item_at(queue, i + 1);
    *item_at(queue, k) = item;
}

/* Where a client's own frames at the front end. While it catches up they go before all
 * publications: nothing may come before its WELCOME. */
static size_t own_frames(const struct queue *queue)
{
    size_t k = 0;
    while (k < queue->len && item_at(queue, k)->wire)
        k++;
    return k;
}

/* Takes item k out; what stands before it moves up. */
static void remove_at(struct queue *queue, size_t k)
{
    struct item item = *item_at(queue, k);
    for (size_t i = k; i > 0; i--)
        *item_at(queue, i) = *item_at(queue, i - 1);
    queue->head = (queue->head + 1) & (queue->cap - 1);
    queue->len--;
    count_out(queue, &item);
    item_unref(&item);
}

static bool is_note_at(const struct queue *queue, size_t k)
{
    const struct publication *publication = item_at(queue, k)->publication;
    return publication && is_gap_note(publication);
}

/* Puts a note in the place of item k, or lets the note before it speak for it. */
static void note_instead(struct queue *queue, size_t k)
{
    struct position where = item_at(queue, k)->publication->at;
    struct publication *before = k && is_note_at(queue, k - 1) ? item_at(queue, k - 1)->publication
                                                               : NULL;
    if (before && before->refs == 1 && before->at.epoch == where.epoch &&
        gap_note_to(before) + 1 == where.offset) {
        gap_note_extend(before, where.offset);
        remove_at(queue, k);
        return;
    }
    struct item *item = item_at(queue, k);
    queue->bytes -= item_bytes(item);
    item_unref(item);
    item->publication = gap_note_new(where.epoch, where.offset, where.offset);
    queue->bytes += item_bytes(item);
}

/* A protocol client relies on its own frames: nothing else tells it its position, and what became
 * of what it sent. */
static bool may_be_dropped(const struct client *client, const struct item *item)
{
    return client->protocol == CLIENT_RAW || (item->publication && !is_gap_note(item->publication));
}

/* Drops the oldest item that may be; a protocol client keeps a note of it. Returns false where
 * there is none. */
static bool drop_oldest(struct client *client, struct queue *queue)
{
    size_t k = 0;
    while (k < queue->len && !may_be_dropped(client, item_at(queue, k)))
        k++;
    if (k == queue->len)
        return false;
    metric_drop(DROP_SLOW_CLIENT, 1);
    if (client->protocol == CLIENT_RAW)
        remove_at(queue, k);
    else
        note_instead(queue, k);
    return true;
}

/* Makes room by the policy. Returns false where the client is closed instead. */
static bool make_room(struct client *client, struct queue *queue, size_t len)
{
    enum slow_policy policy = client->session->service->slow_client.policy;
    size_t at_most = client->session->service->slow_client.queue_bytes;
    if (!queue->bytes || queue->bytes + len <= at_most)
        return true;
    bool only_own = client->protocol != CLIENT_RAW && queue->own_bytes >= at_most;
    if (policy == SLOW_CLOSE || only_own) {
        metric_drop(DROP_SLOW_CLIENT, queue->len + 1);
        while (queue->len) /* counted once: the close would count them again */
            pop(queue);
        client_close(client, CLOSE_SLOW, "slow client");
        return false;
    }
    bool all = policy == SLOW_LATEST;
    while ((all || queue->bytes + len > at_most) && drop_oldest(client, queue))
        ;
    return true;
}

void queue_publication(struct client *client, struct publication *publication)
{
    if (client->protocol == CLIENT_RAW && is_gap_note(publication))
        return;
    struct queue *queue = queue_get(client);
    if (make_room(client, queue, publication_bytes(publication)))
        append(queue, (struct item){.publication = publication_ref(publication)});
}

void queue_wire(struct client *client, struct wire *wire)
{
    struct hub *hub = client->hub;
    if (!wire) {
        client_close(client, CLOSE_TRY_LATER, "out of memory");
        return;
    }
    if (client->state == CLIENT_CLOSING) {
        wire_unref(wire);
        return;
    }
    bool catching = client->state == CLIENT_CATCHING;
    bool waits = client->queue && (!catching || own_frames(client->queue));
    bool direct = !client->blocked && !waits;
    if (direct && hub->setup.client_ops->write(hub->setup.client_ctx, client, wire->bytes,
                                               wire->len) == STATUS_OK) {
        wire_unref(wire);
        return;
    }
    client->blocked = true;
    struct queue *queue = queue_get(client);
    if (!make_room(client, queue, wire->len))
        wire_unref(wire);
    else if (catching)
        insert_at(queue, own_frames(queue), (struct item){.wire = wire});
    else
        append(queue, (struct item){.wire = wire});
}

void queue_put_first(struct client *client, const struct pubs *missed)
{
    if (!missed->len)
        return;
    struct queue *queue = queue_get(client);
    reserve(queue, missed->len);
    size_t place = own_frames(queue);
    for (size_t i = missed->len; i-- > 0;)
        if (client->protocol != CLIENT_RAW || !is_gap_note(missed->items[i]))
            insert_at(queue, place,
                      (struct item){.publication = publication_ref(missed->items[i])});
}

struct position queue_first(const struct client *client)
{
    for (size_t i = 0; client->queue && i < client->queue->len; i++)
        if (item_at(client->queue, i)->publication)
            return item_at(client->queue, i)->publication->at;
    return (struct position){0, 0};
}

/* The part of a gap that begins up to there and ends after it; NULL where it ends before. */
static struct publication *note_after(const struct publication *note, struct position upto)
{
    uint64_t to = gap_note_to(note);
    if (note->at.epoch != upto.epoch || (to && to <= upto.offset))
        return NULL;
    return gap_note_new(upto.epoch, upto.offset + 1, to);
}

void queue_skip(struct client *client, struct position upto)
{
    struct queue *queue = client->queue;
    for (size_t k = 0; queue && k < queue->len;) {
        struct publication *publication = item_at(queue, k)->publication;
        if (!publication || position_compare(publication->at, upto) > 0) {
            k++;
            continue;
        }
        struct publication *rest = is_gap_note(publication) ? note_after(publication, upto) : NULL;
        if (rest) {
            item_at(queue, k++)->publication = rest;
            publication_unref(publication);
        } else {
            remove_at(queue, k);
        }
    }
}

void queue_fetch_ahead(const struct client *client)
{
    const struct queue *queue = client->queue;
    if (!queue || !queue->cap)
        return;
    __builtin_prefetch(item_at(queue, 0));
    __builtin_prefetch(item_at(queue, queue->len), 1);
}

size_t queue_bytes(const struct client *client)
{
    return client->queue ? client->queue->bytes : 0;
}

static const uint8_t *item_frame(struct client *client, const struct item *item, size_t *len)
{
    if (item->wire) {
        *len = item->wire->len;
        return item->wire->bytes;
    }
    return fanout_frame(client->hub, item->publication, client_form(client), client->window_bits,
                        len);
}

/* Gathers frames into the scratch buffer; a frame larger than that goes alone and in place. Returns
 * how many items. */
static size_t gather(struct client *client, const uint8_t **out, size_t *out_len)
{
    struct queue *queue = client->queue;
    uint8_t *scratch = client->hub->scratch;
    size_t n = 0, total = 0, len;
    for (; n < queue->len; n++) {
        const uint8_t *frame = item_frame(client, item_at(queue, n), &len);
        if (!frame || (client->state == CLIENT_CATCHING && !item_at(queue, n)->wire))
            break;
        if (!n && len > SCRATCH_BYTES) {
            *out = frame;
            *out_len = len;
            return 1;
        }
        if (total + len > SCRATCH_BYTES)
            break;
        memcpy(scratch + total, frame, len);
        total += len;
    }
    *out = scratch;
    *out_len = total;
    return n;
}

static void queue_free(struct client *client)
{
    free(client->queue->items);
    free(client->queue);
    client->queue = NULL;
}

void queue_drain(struct client *client)
{
    struct hub *hub = client->hub;
    client->blocked = false;
    while (client->queue && client->queue->len &&
           (client->state == CLIENT_LIVE ||
            (client->state == CLIENT_CATCHING && own_frames(client->queue)))) {
        const uint8_t *frames;
        size_t len, n = gather(client, &frames, &len);
        if (!n) {
            client_close(client, CLOSE_TRY_LATER, "out of memory");
            return;
        }
        if (len &&
            hub->setup.client_ops->write(hub->setup.client_ctx, client, frames, len) != STATUS_OK) {
            client->blocked = true;
            return;
        }
        metric_add(METRIC_BYTES_OUT, len);
        while (n--)
            pop(client->queue);
    }
    if (client->queue && !client->queue->len)
        queue_free(client);
}

void queue_discard(struct client *client)
{
    if (!client->queue)
        return;
    metric_drop(DROP_CLIENT_GONE, client->queue->len);
    while (client->queue->len)
        pop(client->queue);
    queue_free(client);
}
