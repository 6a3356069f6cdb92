/*
 * The bounded queue of one client: what waits for its socket, in order.
 *
 * Holds references to publications of the sessions that the client follows, and to frames of its
 * own (WELCOME, ACK, answers). At the bound it makes room by the service's slow_client policy. Of
 * who follows positions it drops publications only, and leaves a gap note in their place. It writes
 * nothing and closes nobody: that is the client's.
 */
#ifndef VINHUB_CORE_CLIENT_QUEUE_H
#define VINHUB_CORE_CLIENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/publication.h"

struct subscription;

struct queue_item {
    union {
        struct publication *publication; /* of a subscription */
        struct wire *wire;               /* a frame of the client's own */
    };
    struct subscription *subscription; /* NULL: it is a frame of the client's own */
};

struct queue {
    struct queue_item *items; /* a ring */
    size_t head, len, cap;    /* cap is a power of two */
    size_t bytes;             /* what it costs: see queue_cost */
    size_t own_bytes;         /* of these, for the client's own frames */
    bool conflated;           /* it may hold items of subscriptions with a rate (rate.h) */
    struct queue *spare_next; /* while it is unused, in the row of spare ones */
};

/* What a queue may hold, and what happens beyond. */
struct queue_rules {
    enum slow_policy policy;
    size_t bytes;
    bool notes; /* a drop leaves a gap note, and the client's own frames are never dropped */
};

/* Unused queues, kept so that writing to a client each turn needs no allocation. */
struct queue_spares {
    struct queue *first;
    size_t len;
};

/* Aborts where a queue of a few hundred bytes can't be allocated. */
struct queue *queue_take(struct queue_spares *spares);
/* Drops what is left without counting it, and keeps the queue for another client, or frees it. */
void queue_return(struct queue_spares *spares, struct queue *queue);
void queue_free_spares(struct queue_spares *spares);

/* What a publication of len bytes costs a queue: the payload that it keeps, the object around that,
 * and its place. */
size_t queue_cost(size_t len);
/* Makes room for len more bytes of a subscription, or of the client's own frames (NULL).
 * STATUS_LIMIT: the client is to be closed; nothing has changed. */
MUST_USE enum status queue_make_room(struct queue *queue, const struct queue_rules *rules,
                                     const struct subscription *of, size_t len);
/* Adds a reference of its own. */
void queue_add(struct queue *queue, struct subscription *subscription,
               struct publication *publication);
/* Takes over the reference. */
void queue_add_wire(struct queue *queue, struct wire *wire);
static inline const struct queue_item *queue_at(const struct queue *queue, size_t i)
{
    return &queue->items[(queue->head + i) & (queue->cap - 1)];
}
void queue_pop(struct queue *queue, size_t n);
/* Forgets what waits of a subscription that ends. Returns how many publications. */
size_t queue_forget(struct queue *queue, const struct subscription *subscription);
/* Offers the publications in the queue to a function, in order; what the function takes leaves
 * the queue. */
void queue_take_back(struct queue *queue,
                     bool (*take)(struct subscription *, struct publication *));
/* Forgets all publications: only the client's own frames are left. Returns how many. */
size_t queue_keep_own(struct queue *queue);
/* What waits of the subscriptions of which revoked is true must not be sent any more: gap notes
 * stand for it where notes. Returns how many publications. */
size_t queue_revoke(struct queue *queue, bool (*revoked)(const struct subscription *), bool notes);
/* Asks memory for what the next queue_add will look at. */
void queue_fetch_ahead(const struct queue *queue);
/* Asserts what must hold. */
void queue_check(const struct queue *queue);

#endif
