#include "core/session/backlog_ring.h"

#include <assert.h>
#include <stdlib.h>

#define RING_BYTES (1u << 20) /* of one session */

static struct backlog_ring_item *item_at(const struct backlog_ring *ring, uint32_t i)
{
    return &ring->items[(ring->head + i) % ring->cap];
}

const struct backlog_ring_item *backlog_ring_item_at(const struct backlog_ring *ring, uint32_t i)
{
    assert(i < ring->len);
    return item_at(ring, i);
}

static void grow(struct backlog_ring *ring, uint32_t size)
{
    uint32_t cap = ring->cap ? ring->cap * 2 : 4;
    cap = cap < size ? cap : size;
    struct backlog_ring_item *items = malloc(cap * sizeof(*items));
    if (!items)
        abort();
    for (uint32_t i = 0; i < ring->len; i++)
        items[i] = *item_at(ring, i);
    free(ring->items);
    ring->items = items;
    ring->head = 0;
    ring->cap = cap;
}

static void drop_oldest(struct backlog_ring *ring)
{
    struct publication *oldest = item_at(ring, 0)->publication;
    ring->bytes -= pubs_cost(oldest);
    ring->head = (ring->head + 1) % ring->cap;
    ring->len--;
    publication_unref(oldest);
}

void backlog_ring_add(struct backlog_ring *ring, struct publication *publication, uint32_t size,
                      uint64_t now_ms)
{
    if (!size)
        return;
    if (ring->len == ring->cap && ring->cap < size)
        grow(ring, size);
    while (ring->len &&
           (ring->len == ring->cap || ring->bytes + pubs_cost(publication) > RING_BYTES))
        drop_oldest(ring);
    ring->len++;
    *item_at(ring, ring->len - 1) = (struct backlog_ring_item){publication_ref(publication),
                                                               now_ms};
    ring->bytes += pubs_cost(publication);
}

void backlog_ring_append(struct backlog_ring *ring, uint64_t younger_ms)
{
    if (younger_ms > ring->append_younger_ms)
        ring->append_younger_ms = younger_ms;
}

size_t backlog_ring_take(struct backlog_ring *ring, uint64_t now_ms,
                         const struct publication *before, struct pubs *out)
{
    size_t bytes = 0;
    for (uint32_t i = 0; ring->append_younger_ms && i < ring->len; i++) {
        const struct backlog_ring_item *item = item_at(ring, i);
        if ((before && position_compare(item->publication->at, before->at) >= 0) ||
            now_ms - item->placed_ms > ring->append_younger_ms)
            continue;
        pubs_add(out, item->publication);
        bytes += pubs_cost(item->publication);
    }
    ring->append_younger_ms = 0;
    backlog_credit_take(&ring->credit, bytes);
    return bytes;
}

void backlog_ring_clear(struct backlog_ring *ring)
{
    for (uint32_t i = 0; i < ring->len; i++)
        publication_unref(item_at(ring, i)->publication);
    free(ring->items);
    ring->items = NULL;
    ring->head = ring->len = ring->cap = 0;
    ring->bytes = 0;
}

void backlog_ring_check(const struct backlog_ring *ring)
{
    size_t bytes = 0;
    assert(ring->len <= ring->cap);
    for (uint32_t i = 0; i < ring->len; i++) {
        bytes += pubs_cost(item_at(ring, i)->publication);
        assert(!i || position_compare(item_at(ring, i - 1)->publication->at,
                                      item_at(ring, i)->publication->at) < 0);
    }
    assert(bytes == ring->bytes && (bytes <= RING_BYTES || ring->len == 1));
}
