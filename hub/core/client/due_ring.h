/*
 * Many deadlines that are met to within a few milliseconds, in a ring of times: adding and removing
 * one costs the same however many there are. Pure; an entry is embedded in its object and must be
 * removed before that is freed.
 */
#ifndef VINHUB_CORE_CLIENT_DUE_RING_H
#define VINHUB_CORE_CLIENT_DUE_RING_H

#include <stddef.h>
#include <stdint.h>

/* Deadlines are multiples of this. */
#define DUE_SLOT_MS 5
/* At most so far ahead. */
#define DUE_RING_SLOTS 4096
#define DUE_AHEAD_MS   (DUE_SLOT_MS * (DUE_RING_SLOTS - 1))

struct due {
    struct due *prev, *next; /* of its slot */
    uint64_t at_ms;
};

/* Zeroed before its first use. */
struct due_ring {
    uint64_t from; /* the slot that is looked at first, counted from time 0 */
    uint64_t filled[DUE_RING_SLOTS / 64]; /* which are not empty, as bits */
    struct due *slots[DUE_RING_SLOTS];
};

/* at_ms: a multiple of DUE_SLOT_MS, later than now_ms. */
void due_add(struct due_ring *ring, struct due *due, uint64_t at_ms, uint64_t now_ms);
void due_remove(struct due_ring *ring, struct due *due);
/* No deadline is earlier; UINT64_MAX: there is none. */
uint64_t due_next_ms(const struct due_ring *ring);
/* One that is due, of the earliest slot, which stays in the ring; NULL: none is. Others may be
 * added and removed between two calls. */
struct due *due_first(struct due_ring *ring, uint64_t now_ms);

#endif
