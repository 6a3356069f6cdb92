/*
 * The last publications of an owner's epoch, for clients that come and for a store that has lost
 * writes: history.size of them at most, and a megabyte, but for a single larger one.
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_RING_H
#define VINHUB_CORE_SESSION_BACKLOG_RING_H

#include <stddef.h>
#include <stdint.h>

#include "core/pubs.h"
#include "core/session/backlog_credit.h"

struct backlog_ring_item {
    struct publication *publication;
    uint64_t placed_ms; /* own clock */
};

/* Zeroed but for the credit's pool, it is empty. */
struct backlog_ring {
    struct backlog_ring_item *items;
    uint32_t head, len, cap;
    size_t bytes;
    uint64_t append_younger_ms;   /* what is to be appended to the history again; 0: nothing */
    struct backlog_credit credit; /* for what is appended */
};

/* Keeps a reference of its own; size: how many are kept. */
void backlog_ring_add(struct backlog_ring *ring, struct publication *publication, uint32_t size,
                      uint64_t now_ms);
/* The store may have lost what was placed that long ago, or later. */
void backlog_ring_append(struct backlog_ring *ring, uint64_t younger_ms);
/* Adds to out what is to be appended and was placed before that one (NULL: all), and takes credit
 * for it. Nothing is to be appended then. Returns how many bytes. */
size_t backlog_ring_take(struct backlog_ring *ring, uint64_t now_ms,
                         const struct publication *before, struct pubs *out);
/* i < len; 0 is the oldest. */
const struct backlog_ring_item *backlog_ring_item_at(const struct backlog_ring *ring, uint32_t i);
void backlog_ring_clear(struct backlog_ring *ring);
/* Asserts what must hold. */
void backlog_ring_check(const struct backlog_ring *ring);

#endif
