#include "core/session/backlog_items.h"

#include <assert.h>
#include <stdlib.h>

#include "common/metrics.h"

#define KEPT_BYTES       (64u << 20) /* contract section 9: what all sessions of a node keep */
#define DISCARDED_A_TURN 2000        /* publications that are freed in one turn */

/* --- of the node --- */

static void free_discarded(struct backlog_store *store, size_t n)
{
    for (; store->discarded && n; n--) {
        struct backlog_item *item = store->discarded;
        store->discarded = item->next_here;
        publication_unref(item->publication);
        free(item);
    }
}

static void on_discard(struct timer *timer, uint64_t now_ms)
{
    struct backlog_store *store = CONTAINER_OF(timer, struct backlog_store, discard);
    free_discarded(store, DISCARDED_A_TURN);
    if (store->discarded)
        timer_start(&store->hub->timers, timer, now_ms, on_discard);
}

void backlog_store_init(struct backlog_store *store, struct hub *hub)
{
    *store = (struct backlog_store){.hub = hub};
}

void backlog_store_fini(struct backlog_store *store)
{
    assert(!store->items && !store->bytes);
    timer_stop(&store->hub->timers, &store->discard);
    free_discarded(store, SIZE_MAX);
}

/* One alone may be larger. */
void backlog_store_bound(struct backlog_store *store)
{
    uint64_t dropped = 0;
    for (; store->bytes > KEPT_BYTES && store->items->next; dropped++)
        backlog_items_drop_first(store->items->items);
    if (dropped)
        metric_drop(DROP_GAP, dropped);
}

/* --- of a session --- */

void backlog_items_init(struct backlog_items *items, struct backlog_store *store, size_t *in_flight)
{
    *items = (struct backlog_items){.store = store, .credit = {.in_flight = in_flight}};
}

void backlog_items_fini(struct backlog_items *items)
{
    while (items->first)
        backlog_items_drop_first(items);
    backlog_credit_return_all(&items->credit);
}

size_t backlog_item_cost(const struct publication *publication)
{
    return pubs_cost(publication) + sizeof(struct backlog_item);
}

struct backlog_item *backlog_items_add(struct backlog_items *items, struct publication *publication)
{
    struct backlog_item *item = malloc(sizeof(*item));
    if (!item)
        abort();
    *item = (struct backlog_item){.publication = publication_ref(publication), .items = items};
    if (items->last)
        items->last->next_here = item;
    else
        items->first = item;
    items->last = item;
    DL_APPEND(items->store->items, item);
    items->len++;
    items->store->bytes += backlog_item_cost(publication);
    return item;
}

void backlog_items_drop_first(struct backlog_items *items)
{
    struct backlog_item *item = items->first;
    size_t bytes = backlog_item_cost(item->publication);
    if (items->cursor == item)
        items->cursor = item->next_here;
    items->first = item->next_here;
    if (!items->first)
        items->last = NULL;
    DL_DELETE(items->store->items, item);
    items->len--;
    items->store->bytes -= bytes;
    backlog_credit_return(&items->credit, bytes);
    publication_unref(item->publication);
    free(item);
}

size_t backlog_items_discard(struct backlog_items *items)
{
    struct backlog_store *store = items->store;
    size_t len = items->len;
    for (struct backlog_item *item = items->first; item; item = item->next_here) {
        DL_DELETE(store->items, item);
        store->bytes -= backlog_item_cost(item->publication);
    }
    if (items->last) {
        items->last->next_here = store->discarded;
        store->discarded = items->first;
        timer_start(&store->hub->timers, &store->discard, store->hub->now_ms, on_discard);
    }
    items->first = items->last = items->cursor = NULL;
    items->len = 0;
    return len;
}

size_t backlog_items_take(struct backlog_items *items, struct publication **out, size_t max,
                          size_t max_bytes, size_t *bytes)
{
    size_t n = 0;
    struct backlog_item *item = items->cursor;
    *bytes = 0;
    for (; item && n < max && (!n || *bytes < max_bytes); item = item->next_here) {
        out[n++] = item->publication;
        *bytes += backlog_item_cost(item->publication);
    }
    items->cursor = item;
    backlog_credit_take(&items->credit, *bytes);
    return n;
}

void backlog_items_check(const struct backlog_items *items)
{
    const struct backlog_store *store = items->store;
    bool cursor = !items->cursor;
    size_t len = 0;
    for (const struct backlog_item *item = items->first; item; item = item->next_here) {
        assert(item->items == items);
        assert(item->next_here || item == items->last);
        cursor = cursor || item == items->cursor;
        len++;
    }
    assert(cursor && len == items->len);
    assert(store->bytes <= KEPT_BYTES || !store->items->next);
    assert(items->credit.bytes <= *items->credit.in_flight);
    assert(!store->discarded == !timer_armed(&store->discard));
}
