#include "core/client/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/pubs.h"

#define CAP_MIN   8
#define CAP_SPARE 64  /* entries that a spare queue may keep */
#define SPARES    256 /* how many clients can be written to in one turn without an allocation */

static struct queue_item *item_at(struct queue *queue, size_t i)
{
    return &queue->items[(queue->head + i) & (queue->cap - 1)];
}

size_t queue_cost(size_t len)
{
    return len + sizeof(struct publication) + sizeof(struct queue_item);
}

static size_t item_cost(const struct queue_item *item)
{
    return item->subscription ? queue_cost(item->publication->len)
                              : item->wire->len + sizeof(*item->wire) + sizeof(*item);
}

static void item_unref(struct queue_item *item)
{
    if (item->subscription)
        publication_unref(item->publication);
    else
        wire_unref(item->wire);
}

static void count(struct queue *queue, const struct queue_item *item, bool in)
{
    size_t cost = in ? item_cost(item) : (size_t)0 - item_cost(item);
    queue->bytes += cost;
    if (!item->subscription)
        queue->own_bytes += cost;
}

struct queue *queue_take(struct queue_spares *spares)
{
    struct queue *queue = spares->first;
    if (queue) {
        spares->first = queue->spare_next;
        spares->len--;
        queue->spare_next = NULL;
        return queue;
    }
    queue = calloc(1, sizeof(*queue));
    if (!queue || !(queue->items = malloc(CAP_MIN * sizeof(*queue->items))))
        abort();
    queue->cap = CAP_MIN;
    return queue;
}

static void queue_free(struct queue *queue)
{
    free(queue->items);
    free(queue);
}

void queue_return(struct queue_spares *spares, struct queue *queue)
{
    queue_pop(queue, queue->len);
    queue->conflated = false;
    if (spares->len >= SPARES || queue->cap > CAP_SPARE) {
        queue_free(queue);
        return;
    }
    queue->spare_next = spares->first;
    spares->first = queue;
    spares->len++;
}

void queue_free_spares(struct queue_spares *spares)
{
    while (spares->first) {
        struct queue *queue = spares->first;
        spares->first = queue->spare_next;
        queue_free(queue);
    }
    spares->len = 0;
}

static void grow(struct queue *queue)
{
    struct queue_item *items = malloc(queue->cap * 2 * sizeof(*items));
    if (!items)
        abort();
    for (size_t i = 0; i < queue->len; i++)
        items[i] = *item_at(queue, i);
    free(queue->items);
    queue->items = items;
    queue->head = 0;
    queue->cap *= 2;
}

static void append(struct queue *queue, struct queue_item item)
{
    if (queue->len == queue->cap)
        grow(queue);
    *item_at(queue, queue->len++) = item;
    count(queue, &item, true);
    metric_observe(HISTOGRAM_CLIENT_QUEUE, queue->bytes);
}

void queue_add(struct queue *queue, struct subscription *subscription,
               struct publication *publication)
{
    assert(subscription);
    append(queue, (struct queue_item){.publication = publication_ref(publication),
                                      .subscription = subscription});
}

void queue_add_wire(struct queue *queue, struct wire *wire)
{
    append(queue, (struct queue_item){.wire = wire});
}

void queue_pop(struct queue *queue, size_t n)
{
    assert(n <= queue->len);
    for (; n; n--) {
        struct queue_item *item = item_at(queue, 0);
        count(queue, item, false);
        item_unref(item);
        queue->head = (queue->head + 1) & (queue->cap - 1);
        queue->len--;
    }
}

/* Removes item k; the items before it move up. */
static void remove_at(struct queue *queue, size_t k)
{
    struct queue_item item = *item_at(queue, k);
    for (size_t i = k; i > 0; i--)
        *item_at(queue, i) = *item_at(queue, i - 1);
    queue->head = (queue->head + 1) & (queue->cap - 1);
    queue->len--;
    count(queue, &item, false);
    item_unref(&item);
}

static bool is_note(const struct queue_item *item)
{
    return item->subscription && is_gap_note(item->publication);
}

/* The note that ends right before item k of the same subscription, whatever of others stands in
 * between, where this queue alone has it and its bytes, which say where it ends, have not been made
 * yet; else NULL. So a subscription has few notes here, however many it shares the queue with. */
static struct publication *note_before(struct queue *queue, size_t k)
{
    const struct queue_item *item = item_at(queue, k), *before = NULL;
    for (size_t i = k; i > 0 && !before; i--)
        if (item_at(queue, i - 1)->subscription == item->subscription)
            before = item_at(queue, i - 1);
    if (!before || !is_note(before))
        return NULL;
    struct publication *note = before->publication;
    bool adjoins = note->at.epoch == item->publication->at.epoch &&
                   gap_note_to(note) + 1 == item->publication->at.offset;
    return adjoins && note->refs == 1 && !note->encoding.form ? note : NULL;
}

/* Replaces item k by a gap note, or extends the note before it. */
static void note_instead(struct queue *queue, size_t k)
{
    struct queue_item *item = item_at(queue, k);
    struct position where = item->publication->at;
    struct publication *before = note_before(queue, k);
    if (before) {
        gap_note_extend(before, where.offset);
        remove_at(queue, k);
        return;
    }
    count(queue, item, false);
    item_unref(item);
    item->publication = gap_note_new(where.epoch, where.offset, where.offset);
    count(queue, item, true);
}

/* A client with positions needs its own frames: only they have its position and the answers to
 * its messages. */
static bool may_be_dropped(const struct queue_item *item, bool notes)
{
    return !notes || (item->subscription && !is_note(item));
}

/* Drops the oldest item that may be dropped; if a subscription is given, the oldest of that one.
 * Returns false if no item may be dropped. */
static bool drop_oldest(struct queue *queue, const struct subscription *of, bool notes)
{
    size_t k = 0;
    while (k < queue->len && ((of && item_at(queue, k)->subscription != of) ||
                              !may_be_dropped(item_at(queue, k), notes)))
        k++;
    if (k == queue->len)
        return false;
    metric_drop(DROP_SLOW_CLIENT, 1);
    if (notes)
        note_instead(queue, k);
    else
        remove_at(queue, k);
    return true;
}

enum status queue_make_room(struct queue *queue, const struct queue_rules *rules,
                            const struct subscription *of, size_t len)
{
    if (!queue->bytes || queue->bytes + len <= rules->bytes)
        return STATUS_OK;
    bool only_own = rules->notes && queue->own_bytes >= rules->bytes;
    if (rules->policy == SLOW_CLOSE || only_own)
        return STATUS_LIMIT;
    if (rules->policy == SLOW_LATEST)
        while (drop_oldest(queue, of, rules->notes))
            ;
    while (queue->bytes + len > rules->bytes && drop_oldest(queue, NULL, rules->notes))
        ;
    return STATUS_OK;
}

/* Drops the items of which drop is true; the others close up in their order. */
static size_t drop_if(struct queue *queue, bool (*drop)(const struct queue_item *, const void *),
                      const void *ctx)
{
    size_t kept = 0, len = queue->len;
    for (size_t i = 0; i < len; i++) {
        struct queue_item item = *item_at(queue, i);
        if (drop(&item, ctx)) {
            count(queue, &item, false);
            item_unref(&item);
        } else {
            *item_at(queue, kept++) = item;
        }
    }
    queue->len = kept;
    return len - kept;
}

static bool is_of(const struct queue_item *item, const void *subscription)
{
    return item->subscription == subscription;
}

static bool is_publication(const struct queue_item *item, const void *ctx)
{
    (void)ctx;
    return item->subscription;
}

size_t queue_forget(struct queue *queue, const struct subscription *subscription)
{
    assert(subscription);
    return drop_if(queue, is_of, subscription);
}

typedef bool take_fn(struct subscription *subscription, struct publication *publication);

static bool is_taken(const struct queue_item *item, const void *ctx)
{
    take_fn *const *take = ctx;
    return item->subscription && (*take)(item->subscription, item->publication);
}

void queue_take_back(struct queue *queue, take_fn *take)
{
    drop_if(queue, is_taken, &take);
}

size_t queue_keep_own(struct queue *queue)
{
    return drop_if(queue, is_publication, NULL);
}

size_t queue_revoke(struct queue *queue, bool (*revoked)(const struct subscription *), bool notes)
{
    size_t n = 0;
    for (size_t k = 0; k < queue->len;) {
        size_t before = queue->len;
        const struct queue_item *item = item_at(queue, k);
        if (item->subscription && !is_note(item) && revoked(item->subscription)) {
            if (notes)
                note_instead(queue, k);
            else
                remove_at(queue, k);
            n++;
        }
        k += queue->len == before;
    }
    return n;
}

void queue_fetch_ahead(const struct queue *queue)
{
    __builtin_prefetch(queue_at(queue, 0));
    __builtin_prefetch(queue_at(queue, queue->len), 1);
}

void queue_check(const struct queue *queue)
{
    size_t bytes = 0, own = 0;
    assert(queue->len <= queue->cap && queue->cap && !(queue->cap & (queue->cap - 1)));
    for (size_t i = 0; i < queue->len; i++) {
        const struct queue_item *item = queue_at(queue, i);
        bytes += item_cost(item);
        own += item->subscription ? 0 : item_cost(item);
    }
    assert(bytes == queue->bytes && own == queue->own_bytes);
}
